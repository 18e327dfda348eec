"""Which images are one picture: a hash of outlines, and the groups that must not be cut by a split.

Product photos stand on white, and often differ in color only: the same guitar in red and in blue. So the hash looks at
the darkest channel (white is white in all three; a red and a blue body are dark in one), and two hashes are near only
if they differ in few bits *and* in few of the bits that are set: a flute on white sets sixty of 1152, and sixty
differing bits would make all flutes one. docs/decisions/shards-dhash.md has the measurements.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.blas import one_thread
from shards.neighbours import near_pairs

__all__ = ["DEFAULT_DISTANCE", "HASH_BITS", "components", "dhash", "distance", "groups", "hash_image", "near"]

_SIDE = 24
HASH_BITS = 2 * _SIDE * _SIDE
DEFAULT_DISTANCE = 64  # of 1152 bits

# A step in brightness (of 255) that counts: below it lies what JPEG leaves on a white ground.
_STEP = 8
_GRID = (_SIDE + 1, _SIDE + 1)
_DRAFT = 128  # pixels a side


def hash_image(data: bytes | memoryview) -> bytes:
    """`dhash` of an encoded image: 0.63 ms for a JPEG of 150 x 150, of which the hash itself 0.29.

    A JPEG of more than 256 pixels is decoded at a half, a quarter or an eighth of its size. Smaller drafts save nothing
    on thumbnails, where entropy decoding is what costs, and change bits.

    Raises:
        OSError, SyntaxError, ValueError, Image.DecompressionBombError: what Pillow raises for an image it cannot read.
    """
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (_DRAFT, _DRAFT))
        return dhash(image)


def dhash(image: Image.Image) -> bytes:
    """A difference hash of 1152 bits (144 bytes): where the darkest channel, on 25 x 25, grows to the right and down.

    After the dHash of N. Krawetz (hackerfactor.com, 2013), but with rows and columns, a threshold, and the minimum of
    R, G and B. Transparency is laid on white.
    """
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        paper = Image.new("RGBA", image.size, (255, 255, 255, 255))
        paper.alpha_composite(image.convert("RGBA"))
        image = paper
    if image.mode != "RGB":  # converting copies even what need not be converted
        image = image.convert("RGB")
    # tobytes: np.asarray of an image costs ten times as much
    small = np.frombuffer(image.resize(_GRID, Image.Resampling.HAMMING).tobytes(), np.uint8)
    dark = np.minimum(np.minimum(small[0::3], small[1::3]), small[2::3]).astype(np.int16).reshape(_GRID)
    here = dark[:_SIDE, :_SIDE] + _STEP
    grows = np.empty((2, _SIDE, _SIDE), bool)
    np.greater(dark[:_SIDE, 1:], here, out=grows[0])
    np.greater(dark[1:, :_SIDE], here, out=grows[1])
    return np.packbits(grows).tobytes()


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
    """
    if not len(hashes):
        return np.zeros(0, np.int64)
    packed = np.ascontiguousarray(hashes).view(f"V{hashes.shape[1]}").ravel()
    # equal ones cost nothing below
    first, inverse = np.unique(packed, return_index=True, return_inverse=True)[1:]
    with one_thread():
        found = components(len(first), near_pairs(hashes, max_distance, first) if max_distance else ())
    return _renumber(found[inverse])


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
