"""Which images are one picture: a hash of outlines, and the groups that must not be cut by a split.

Product photos stand on white, and often differ in color only: the same guitar in red and in blue. So the hash looks at
the darkest channel (white is white in all three; a red and a blue body are dark in one), and two hashes are near only
if they differ in few bits *and* in few of the bits that are set: a flute on white sets sixty of 1152, and sixty
differing bits would make all flutes one. docs/decisions/shards-dhash.md has the measurements.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.blas import one_thread
from shards.neighbours import near_pairs

__all__ = [
    "DEFAULT_DISTANCE",
    "HASH_BITS",
    "components",
    "dhash",
    "dhashes",
    "distance",
    "draft_factor",
    "groups",
    "hash_image",
    "near",
]

_SIDE = 24
HASH_BITS = 2 * _SIDE * _SIDE
DEFAULT_DISTANCE = 64  # of 1152 bits

# A step in brightness (of 255) that counts: below it lies what JPEG leaves on a white ground.
_STEP = 8
_TOGETHER = 4096  # rows
_GRID = (_SIDE + 1, _SIDE + 1)
# by what a JPEG's sides are divided, from how many pixels of the shorter one on
_DRAFTS = ((8, 1024), (4, 512), (2, 128))


def hash_image(data: bytes | memoryview) -> bytes:
    """`dhash` of an encoded image; of a JPEG of 128 pixels a side or more, decoded at `draft_factor` of its size.

    Raises:
        OSError, SyntaxError, ValueError, Image.DecompressionBombError: what Pillow raises for an image it cannot read.
    """
    with Image.open(io.BytesIO(data)) as image:
        factor = draft_factor(*image.size)
        image.draft("RGB", (image.width // factor, image.height // factor))
        return dhash(image)


def draft_factor(width: int, height: int) -> int:
    """By what a JPEG's sides are divided while it is decoded to be hashed: 1, 2, 4 or 8, 64 pixels and more being left.

    All of its data is read all the same; what is spared is pixels, and two thirds of the resizing. Of a quarter or an
    eighth 128 are left: with fewer, more bits change than by JPEG 85 (docs/decisions/shards-dhash.md).
    """
    shorter = min(width, height)
    return next((factor for factor, least in _DRAFTS if shorter >= least), 1)


def dhash(image: Image.Image) -> bytes:
    """`dhashes` of one image."""
    return dhashes([image])[0]


def dhashes(images: Sequence[Image.Image]) -> list[bytes]:
    """Difference hashes of 1152 bits (144 bytes): where the darkest channel, on 25 x 25, grows to the right and down.

    After the dHash of N. Krawetz (hackerfactor.com, 2013), but with rows and columns, a threshold, and the minimum of
    R, G and B. Transparency is laid on white. Many at once, because numpy's calls cost as much as all else of one.
    """
    # tobytes: np.asarray of an image costs ten times as much
    small = b"".join([_on_paper(image).resize(_GRID, Image.Resampling.HAMMING).tobytes() for image in images])
    grids = np.frombuffer(small, np.uint8).reshape(len(images), *_GRID, 3)
    dark = np.minimum(np.minimum(grids[..., 0], grids[..., 1]), grids[..., 2]).astype(np.int16)
    here = dark[:, :_SIDE, :_SIDE] + _STEP
    grows = np.empty((len(images), 2, _SIDE, _SIDE), bool)
    np.greater(dark[:, :_SIDE, 1:], here, out=grows[:, 0])
    np.greater(dark[:, 1:, :_SIDE], here, out=grows[:, 1])
    return [packed.tobytes() for packed in np.packbits(grows.reshape(len(images), HASH_BITS), axis=1)]


def _on_paper(image: Image.Image) -> Image.Image:
    """As RGB, what is transparent on white."""
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        paper = Image.new("RGBA", image.size, (255, 255, 255, 255))
        paper.alpha_composite(image.convert("RGBA"))
        image = paper
    return image if image.mode == "RGB" else image.convert("RGB")  # converting copies even what need not be converted


def distance(a: bytes, b: bytes) -> int:
    """Number of bits in which two hashes differ."""
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def near(a: bytes, b: bytes, max_distance: int = DEFAULT_DISTANCE) -> bool:
    """Whether two hashes are near, as `groups` counts it."""
    differing = distance(a, b)
    set_bits = int.from_bytes(a, "big").bit_count() + int.from_bytes(b, "big").bit_count()
    return differing <= max_distance and 10 * differing <= set_bits


def groups(hashes: NDArray[np.uint8], max_distance: int = DEFAULT_DISTANCE) -> NDArray[np.int64]:
    """Puts near-duplicates into groups: the connected components of "near".

    Two hashes are near if they differ in at most `max_distance` bits and in at most a fifth of the bits that one of
    them sets on average (`10 * differing <= set in a + set in b`; that is, their Dice coefficient is 0.9 or more).

    Args:
        hashes: uint8 (N, bytes); `HASH_BITS // 8` bytes for `dhash`.
        max_distance: in bits; 0 groups equal hashes only.

    Returns:
        int64 (N,): group numbers from 0, in the order of each group's first member.

    Whoever keeps no reference to `hashes` needs that much less memory.
    """
    if not len(hashes):
        return np.zeros(0, np.int64)
    first, inverse = _different(hashes)  # equal ones cost nothing below
    pairs = near_pairs(hashes, max_distance, first) if max_distance else ()
    del hashes
    with one_thread():
        found = components(len(first), pairs)
    return _renumber(found[inverse])


def _different(rows: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first of each kind of row, and of each row the number of its kind.

    As `np.unique` of the rows has them, without its two copies of all that is there.
    """
    order = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel().argsort(kind="stable")
    new = np.ones(len(rows), bool)
    for at in range(1, len(rows), _TOGETHER):
        some = order[at - 1 : at + _TOGETHER]
        there = rows[some]
        new[at : at + _TOGETHER] = (there[1:] != there[:-1]).any(axis=1)
    inverse = np.empty(len(rows), np.int64)
    inverse[order] = np.cumsum(new) - 1
    return order[new], inverse


def components(n: int, pairs: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> NDArray[np.int64]:
    """Connected components of `n` things joined by chunks of pairs, as the smallest member of each; int64 (n,)."""
    root = np.arange(n)
    for left, right in pairs:
        while True:
            low = np.minimum(root[left], root[right])
            before = root.copy()
            np.minimum.at(root, root[left], low)
            np.minimum.at(root, root[right], low)
            root = root[root]
            if np.array_equal(root, before):
                break
    while not np.array_equal(root, root[root]):
        root = root[root]
    return root


def _renumber(found: NDArray[np.int64]) -> NDArray[np.int64]:
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
