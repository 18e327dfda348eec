"""Wood, flame and tortoiseshell as tiles made once a process: a picture only looks up its own patch."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

__all__ = ["PER_INCH", "TILE", "sample", "tile"]

Field = NDArray[np.float32]

TILE = 512
PER_INCH = 10.0  # a body is 3 to 9 pixels an inch in the picture: finer grain would only alias


def _smooth(rng: np.random.Generator, along: float, across: float) -> Field:
    """Noise, periodic, unit variance, `along` y and `across` x in tile pixels."""
    rows, columns = np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :]
    gauss = np.exp(-2 * np.pi**2 * ((rows * along) ** 2 + (columns * across) ** 2))
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((TILE, TILE))) * gauss, (TILE, TILE))
    return np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float32)


@functools.cache
def tile(name: str) -> Field:
    """A (TILE, TILE) float32 texture around 0, about unit variance; the grain runs along y.

    Names: 'spruce' (fine straight lines), 'ash' (bold cathedral grain), 'mahogany' (short pores), 'flame' (ripples
    across the grain), 'quilt', 'tortoise'.
    """
    rng = np.random.default_rng(sum(name.encode()))
    rows, columns = np.mgrid[0:TILE, 0:TILE].astype(np.float32)
    turns = 2 * np.pi / TILE
    if name == "spruce":
        bend = _smooth(rng, 120, 30) * 2
        lines = np.sin((columns * 40 + bend * 12) * turns * 2) + 0.6 * _smooth(rng, 60, 1.2)
        return np.asarray(0.7 * lines + 0.5 * _smooth(rng, 40, 20), dtype=np.float32)
    if name == "ash":
        hills = _smooth(rng, 90, 26) * 2.2 + np.cos(columns * turns) * 2
        rings = np.sin(hills * 5)
        return np.asarray(rings * 0.9 + 0.5 * _smooth(rng, 14, 0.9), dtype=np.float32)
    if name == "mahogany":
        return np.asarray(0.8 * _smooth(rng, 16, 1.3) + 0.6 * _smooth(rng, 90, 9), dtype=np.float32)
    if name == "flame":
        bend = _smooth(rng, 30, 50) * 5
        waves = np.sin((rows * 58 + bend * 5) * turns) + 0.6 * np.sin((rows * 87 + bend * 9) * turns)
        return np.asarray(waves * (0.75 + 0.25 * _smooth(rng, 30, 30)), dtype=np.float32)
    if name == "quilt":
        return np.asarray(np.sin(_smooth(rng, 5, 7) * 2.2), dtype=np.float32)
    if name == "tortoise":
        return np.asarray(np.tanh(_smooth(rng, 6, 7) * 2), dtype=np.float32)
    raise KeyError(name)


def sample(name: str, x_in: Field, y_in: Field, shift: tuple[int, int]) -> Field:
    """The texture at positions in inches; `shift` (tile pixels) chooses the plank it was cut from."""
    columns = (x_in * PER_INCH).astype(np.int32) + shift[0]
    rows = (y_in * PER_INCH).astype(np.int32) + shift[1]
    patch: Field = tile(name)[rows & (TILE - 1), columns & (TILE - 1)]
    return patch
