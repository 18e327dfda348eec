"""What a small model can see in a thumbnail without a GPU: shape, outline and color, as a few hundred numbers.

Three blocks: the picture in 16 x 16 pixels, histograms of gradient directions (after Dalal and Triggs,
CVPR 2005: 9 unsigned directions in cells of 8 x 8 pixels, normalised over blocks of 2 x 2 cells), and how much of the
picture has which color. Outlines weigh most. They are then laid on their principal directions.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.pages import Pages
from shards.read import permutation
from shards.shard_set import ShardSet

__all__ = ["DIRECTIONS", "describe", "features"]

DIRECTIONS = 128

_SIDE = 64  # pixels a side of the picture that gradients are taken of
_CELL = 8
_BINS = 9
_SMALL = 16
_LEVELS = 4  # a channel, in the histogram of colors
_FIT = 4096  # images that tell where the principal directions lie
_BATCH = 1024
_WEIGHTS = (
    0.3,
    1.0,
    0.5,
)  # of the blocks: 61.9 % right on instruments10, against 61.6 with equal ones, 57 with outlines only
_BLOCKS = (_SMALL * _SMALL * 3, 4 * _BINS * (_SIDE // _CELL - 1) ** 2, _LEVELS**3 + 1)


def describe(data: bytes | memoryview) -> NDArray[np.float32]:
    """The three blocks of an encoded image, float32 (2597,), not yet scaled. Transparency is laid on white.

    0.7 ms for a JPEG of 150 x 150, about half of it decoding.

    Raises:
        OSError, SyntaxError, ValueError, Image.DecompressionBombError: what Pillow raises for what it cannot read.
    """
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (2 * _SIDE, 2 * _SIDE))
        aspect = image.width / image.height
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            paper = Image.new("RGBA", image.size, (255, 255, 255, 255))
            paper.alpha_composite(image.convert("RGBA"))
            picture = paper.convert("RGB")
        else:
            picture = image.convert("RGB")
    side = max(picture.size)
    if picture.width != picture.height:  # shape tells: a picture is padded, never stretched
        square = Image.new("RGB", (side, side), (255, 255, 255))
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        picture = square
    large = np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR), np.float32) / np.float32(255)
    small = large.reshape(_SMALL, _SIDE // _SMALL, _SMALL, _SIDE // _SMALL, 3).mean(axis=(1, 3))
    levels = np.minimum((large * _LEVELS).astype(np.int64), _LEVELS - 1) @ np.array([_LEVELS**2, _LEVELS, 1])
    colors = np.bincount(levels.ravel(), minlength=_LEVELS**3) / levels.size
    last = [np.log(aspect)]
    return np.concatenate([small.ravel(), _gradients(large), np.sqrt(colors), last]).astype(np.float32)


def _gradients(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Histograms of gradient directions of float32 (64, 64, 3); at each pixel the steepest channel counts."""
    down, right = np.zeros_like(picture), np.zeros_like(picture)
    down[1:-1] = picture[2:] - picture[:-2]
    right[:, 1:-1] = picture[:, 2:] - picture[:, :-2]
    lengths = np.hypot(down, right)
    steepest = lengths.argmax(axis=2)[..., None]
    length = np.take_along_axis(lengths, steepest, 2)[..., 0]
    angle = np.arctan2(np.take_along_axis(down, steepest, 2), np.take_along_axis(right, steepest, 2))[..., 0]
    turn = (angle / np.pi % 1) * _BINS  # unsigned: a dark edge on light is the same edge
    low = np.floor(turn).astype(np.int64) % _BINS
    share = (turn - np.floor(turn)).astype(np.float32)
    cells = _SIDE // _CELL
    rows = np.arange(_SIDE) // _CELL
    cell = (rows[:, None] * cells + rows[None, :]) * _BINS
    counted = np.bincount((cell + low).ravel(), (length * (1 - share)).ravel(), cells * cells * _BINS)
    counted += np.bincount((cell + (low + 1) % _BINS).ravel(), (length * share).ravel(), cells * cells * _BINS)
    histogram = counted.reshape(cells, cells, _BINS)
    blocks = np.concatenate([histogram[:-1, :-1], histogram[:-1, 1:], histogram[1:, :-1], histogram[1:, 1:]], axis=2)
    blocks /= np.sqrt((blocks**2).sum(axis=2, keepdims=True) + 0.1**2)
    return blocks.ravel().astype(np.float32)


def features(
    source: ShardSet, *, seed: int = 0, on_progress: Callable[[int], None] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Every image on at most `DIRECTIONS` principal directions, of unit variance in all, and which could be read.

    The directions are those of 4,096 random samples; no label is looked at. Memory: 512 bytes a sample.

    Args:
        source: an opened set.
        seed: decides which samples tell the directions.
        on_progress: called with the number of samples done.

    Returns:
        float32 (N, D), zeros for what cannot be read; bool (N,).
    """
    n = len(source)
    readable = np.zeros(n, bool)
    pages = Pages(source)

    def one(i: int) -> NDArray[np.float32]:
        try:
            found = describe(source.image(i))
        except (OSError, SyntaxError, ValueError, ZeroDivisionError, Image.DecompressionBombError):
            return np.zeros(sum(_BLOCKS), np.float32)
        readable[i] = True
        return found

    with ThreadPoolExecutor() as pool:  # Pillow decodes without the GIL

        def several(chosen: NDArray[np.int64]) -> NDArray[np.float32]:
            found = np.stack(list(pool.map(one, chosen.tolist())))
            pages.count(int(source.sizes[chosen].sum()))
            return found

        fitted = np.concatenate([several(part) for part in _parts(np.sort(permutation(n, seed, 3)[:_FIT]))])
        centre = fitted.mean(axis=0)
        fitted -= centre
        weight = _scales(fitted)
        fitted *= weight
        turned = _principal(fitted, seed)
        out = np.zeros((n, turned.shape[1]), np.float32)
        done = 0
        for part in _parts(np.arange(n)):
            seen = fitted[part] if len(fitted) == n else (several(part) - centre) * weight
            out[part] = seen @ turned
            done += len(part)
            if on_progress:
                on_progress(done)
    out[~readable] = 0
    spread = float(out.std()) if out.size else 1.0  # of one image, or of equal ones, nothing is left to tell apart
    return out / max(spread, 1e-9), readable


def _principal(centred: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """The principal directions, float32 (columns, up to DIRECTIONS), scaled half way to equal variance.

    Found from a random subspace (Halko, Martinsson, Tropp; SIAM Review 53, 2011): a tenth of the cost. Half way,
    because the first directions carry most, and the last are mostly noise.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, 5))))
    wanted = min(DIRECTIONS + 32, *centred.shape)
    subspace = centred.T @ rng.standard_normal((len(centred), wanted), np.float32)
    for _ in range(2):
        subspace = centred.T @ (centred @ np.linalg.qr(subspace)[0])
    basis = np.linalg.qr(subspace)[0]
    inside = centred @ basis
    values, turn = np.linalg.eigh(inside.T @ inside / len(inside))
    used = np.flatnonzero(values > 1e-7)[-DIRECTIONS:]
    return (basis @ (turn[:, used] * values[used] ** -0.25)).astype(np.float32)


def _parts(chosen: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [chosen[at : at + _BATCH] for at in range(0, len(chosen), _BATCH)]


def _scales(centred: NDArray[np.float32]) -> NDArray[np.float32]:
    """One factor for each column that gives every block its weight, as variance over all its columns."""
    edges = np.cumsum((0, *_BLOCKS))
    weight = np.ones(centred.shape[1], np.float32)
    for begin, end, wanted in zip(edges[:-1], edges[1:], _WEIGHTS, strict=True):
        spread = float((centred[:, begin:end] ** 2).mean(axis=0).sum())
        weight[begin:end] = wanted / np.sqrt(max(spread, 1e-12))
    return weight
