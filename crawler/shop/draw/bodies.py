"""Body outlines in inches, bridge saddle at (0, 0), headstock up (negative y), bass strings at the left.

Sizes follow the instruments themselves: an S body is 12.7 inches wide and its bridge 5.8 inches above its end, a
dreadnought 15.5 wide with the neck joined at the 14th fret, a bass body little larger than a guitar's below a neck
a third longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from crawler.shop.draw.geometry import Points, mirrored, rounded, spline

__all__ = ["BODIES", "Body", "outline"]

Top = Literal["flat", "carved", "hollow", "acoustic", "classical"]
Outline = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Body:
    """One body shape.

    Attributes:
        shapes: outlines it may take, each drawn for `scale_in`.
        scale_in: scale length for which the outlines are drawn; they are moved along with the neck for another.
        top: how the top is built: what light does on it and what is cut into it.
    """

    shapes: tuple[Points, ...]
    scale_in: float
    top: Top = "flat"


def _cut(half: Outline, deep: float, horn: float) -> list[tuple[float, ...]]:
    """A symmetric outline with a cutaway on the treble side: `deep` is its lowest point, `horn` its tip (y)."""
    whole = mirrored(half)
    right = [point for point in whole[: len(half)] if point[1] > horn + 1.6]
    left = whole[len(half) :]
    width = max(point[0] for point in half if point[1] < horn + 4)
    cut = [
        (1.2, deep),
        (1.9, deep - 0.1),
        (2.7, deep - 0.9),
        (3.7, horn + 0.1),
        (4.7, horn),
        (width * 0.97, horn + 0.9),
    ]
    return [(-1.2, half[0][1], 1), (1.15, half[0][1] + 0.6, 1), *cut, *right, *left]


def _double(half: Outline, deep: float, left_up: float = 0.0) -> list[tuple[float, ...]]:
    """Two horns: `half` runs from the neck's right edge round the treble side; the bass horn is `left_up` longer."""
    left = [
        (-point[0], point[1] - left_up * float(np.clip((deep - point[1]) / 2, 0, 1)), *point[2:])
        for point in reversed(half)
        if point[0] != 0.0
    ]
    return [*(tuple(point) for point in half), *left]


_S: Outline = (
    (-1.1, -6.4, 1), (-1.6, -6.8), (-2.4, -7.3), (-3.1, -8.2), (-3.6, -9.2), (-4.1, -10.0), (-4.8, -10.3),
    (-5.45, -9.9), (-5.8, -8.7), (-5.6, -6.8), (-5.05, -4.9), (-4.7, -3.2), (-5.0, -1.5), (-5.85, 0.2), (-6.4, 1.9),
    (-6.1, 3.4), (-5.0, 4.8), (-3.2, 5.65), (-1.0, 5.95), (1.2, 5.85), (3.3, 5.3), (5.1, 4.1), (6.2, 2.5), (6.4, 0.9),
    (5.75, -0.9), (4.95, -2.6), (4.75, -3.9), (5.3, -5.6), (5.75, -7.1), (5.6, -8.1), (4.9, -8.5), (4.2, -8.1),
    (3.6, -7.3), (3.0, -6.5), (2.3, -5.9), (1.6, -5.7), (1.1, -5.7, 1),
)  # fmt: skip
_SUPER: Outline = (
    (-1.1, -6.0, 1), (-1.7, -6.5), (-2.6, -7.3), (-3.4, -8.5), (-4.1, -9.8), (-5.1, -10.9, 1), (-5.55, -9.5),
    (-5.4, -7.6), (-4.95, -5.4), (-4.65, -3.3), (-4.9, -1.5), (-5.7, 0.3), (-6.2, 2.0), (-5.8, 3.6), (-4.6, 4.9),
    (-2.8, 5.6), (-0.8, 5.85), (1.4, 5.7), (3.4, 5.1), (5.1, 3.9), (6.1, 2.2), (6.1, 0.5), (5.4, -1.2), (4.65, -2.8),
    (4.5, -4.0), (5.0, -5.8), (5.4, -7.6), (5.4, -9.1, 1), (4.4, -8.1), (3.6, -6.9), (2.7, -5.7), (1.8, -5.2),
    (1.1, -5.1, 1),
)  # fmt: skip
_T: Outline = (
    (-1.1, -8.5, 1), (-2.5, -8.95), (-4.2, -8.95), (-5.45, -8.2), (-5.9, -6.8), (-5.6, -5.0), (-5.1, -3.4),
    (-5.05, -2.0), (-5.4, -0.2), (-6.1, 1.8), (-6.25, 3.9), (-5.1, 5.8), (-2.8, 6.6), (0, 6.75), (2.8, 6.6), (5.1, 5.8),
    (6.25, 3.9), (6.1, 1.8), (5.45, -0.3), (5.05, -2.0), (5.0, -3.3), (5.3, -5.0), (5.7, -6.6), (5.5, -7.9),
    (4.8, -8.4), (4.0, -8.1), (3.3, -7.2), (2.6, -6.4), (1.8, -6.1), (1.1, -6.1, 1),
)  # fmt: skip
_LP: Outline = (
    (-1.1, -9.7, 1), (-2.4, -10.1), (-3.9, -9.95), (-4.9, -9.0), (-5.15, -7.4), (-4.75, -5.5), (-4.5, -4.0),
    (-4.8, -2.3), (-5.7, -0.2), (-6.45, 2.0), (-6.4, 4.2), (-5.2, 6.1), (-2.9, 7.0), (0, 7.2), (2.9, 7.0), (5.2, 6.1),
    (6.4, 4.2), (6.45, 2.0), (5.7, -0.2), (4.85, -2.1), (4.5, -3.7), (4.65, -5.4), (5.1, -6.9), (5.05, -8.1),
    (4.5, -8.7), (3.8, -8.4), (3.2, -7.5), (2.5, -6.8), (1.7, -6.6), (1.1, -6.6, 1),
)  # fmt: skip
_SG_HALF: Outline = (
    (1.1, -5.7, 1), (1.7, -5.8), (2.5, -6.2), (3.2, -7.0), (3.8, -8.0), (4.5, -8.8, 1), (5.05, -7.6), (5.0, -5.8),
    (4.7, -4.0), (4.75, -2.3), (5.45, -0.1), (6.25, 2.0), (6.3, 4.0), (5.2, 5.7), (2.8, 6.4), (0, 6.55),
)  # fmt: skip
_JUNIOR_HALF: Outline = (
    (1.1, -6.3, 1), (1.6, -6.4), (2.2, -7.0), (2.7, -8.0), (3.4, -8.8), (4.3, -8.9), (5.0, -8.1), (5.0, -6.6),
    (4.65, -4.6), (4.7, -2.7), (5.6, -0.3), (6.4, 2.0), (6.35, 4.2), (5.2, 6.1), (2.9, 7.0), (0, 7.2),
)  # fmt: skip
_ES_HALF: Outline = (
    (1.1, -7.5, 1), (1.6, -7.6), (2.2, -8.2), (2.6, -9.2), (3.2, -10.3), (4.2, -10.9), (5.2, -10.6), (5.9, -9.5),
    (5.9, -8.0), (5.45, -6.2), (5.15, -4.8), (5.3, -3.4), (5.95, -1.8), (7.0, -0.1), (7.8, 2.0), (8.0, 4.2), (7.3, 6.4),
    (5.6, 7.8), (3.0, 8.5), (0, 8.7),
)  # fmt: skip
_V: Outline = (
    (-1.2, -8.4), (-2.3, -7.9), (-8.0, 6.6), (-7.7, 8.2), (-6.0, 8.4), (-0.7, 3.2), (0.7, 3.2), (6.0, 8.4), (7.7, 8.2),
    (8.0, 6.6), (2.3, -7.9), (1.2, -8.4),
)  # fmt: skip
_V_SHARP: Outline = (
    (-1.2, -7.8), (-2.4, -7.4), (-5.5, -1.0), (-9.0, 9.4), (-5.4, 7.4), (0, 2.6), (5.4, 7.4), (9.0, 9.4), (5.5, -1.0),
    (2.4, -7.4), (1.2, -7.8),
)  # fmt: skip
_ANGULAR: Outline = (
    (-1.2, -8.0), (-5.4, -7.2), (-6.0, -6.2), (-4.0, -1.4), (-8.8, 6.0), (-8.6, 7.8), (-7.0, 8.4), (5.2, 5.8),
    (6.2, 4.6), (4.6, -0.6), (7.4, -7.4), (6.6, -8.4), (5.4, -8.2), (1.2, -5.2),
)  # fmt: skip
_HEADLESS: Outline = (
    (-1.1, -6.3, 1), (-2.0, -7.4), (-3.4, -8.8), (-4.6, -9.4), (-5.3, -8.6), (-5.0, -6.4), (-4.3, -4.0), (-4.3, -2.2),
    (-5.3, 0.8), (-6.0, 3.0), (-5.4, 4.6), (-4.0, 4.4), (-2.6, 3.2), (-1.6, 2.7), (1.6, 2.7), (2.6, 3.6), (4.2, 5.2),
    (5.8, 5.0), (6.2, 3.2), (5.4, 0.4), (4.5, -2.0), (4.6, -4.2), (5.3, -6.4), (5.2, -7.6), (4.2, -7.6), (3.0, -6.5),
    (2.0, -5.5), (1.1, -5.3, 1),
)  # fmt: skip

_DREADNOUGHT: Outline = (
    (0, -11.3), (2.0, -11.3), (4.3, -10.9), (5.55, -9.6), (5.75, -7.9), (5.5, -5.8), (5.4, -4.2), (5.8, -2.1),
    (6.8, 0.4), (7.6, 2.8), (7.75, 4.9), (7.0, 6.9), (5.0, 8.2), (2.5, 8.7), (0, 8.75),
)  # fmt: skip
_SLOPE: Outline = (
    (0, -11.3), (1.8, -11.1), (3.6, -10.3), (5.1, -8.9), (5.75, -7.2), (5.55, -5.4), (5.4, -4.0), (5.8, -2.1),
    (6.9, 0.4), (7.75, 2.8), (7.85, 4.9), (7.0, 7.0), (5.0, 8.3), (2.5, 8.8), (0, 8.85),
)  # fmt: skip
_AUDITORIUM: Outline = (
    (0, -11.2), (2.0, -11.15), (4.1, -10.5), (5.4, -8.9), (5.6, -7.2), (5.1, -5.0), (4.65, -3.5), (4.9, -1.7),
    (6.1, 0.5), (7.2, 2.7), (7.5, 4.7), (6.8, 6.7), (4.8, 8.1), (2.4, 8.6), (0, 8.65),
)  # fmt: skip
_JUMBO: Outline = (
    (0, -11.5), (2.2, -11.4), (4.6, -10.7), (6.1, -9.0), (6.25, -7.2), (5.6, -5.2), (5.3, -3.9), (5.9, -2.0),
    (7.4, 0.2), (8.35, 2.5), (8.45, 4.9), (7.4, 7.2), (5.2, 8.8), (2.6, 9.35), (0, 9.45),
)  # fmt: skip
_CLASSICAL: Outline = (
    (0, -12.8), (2.0, -12.75), (4.0, -12.1), (5.35, -10.6), (5.55, -8.9), (5.1, -6.9), (4.75, -5.4), (5.0, -3.7),
    (6.1, -1.4), (7.05, 0.8), (7.25, 2.7), (6.55, 4.7), (4.7, 6.1), (2.4, 6.6), (0, 6.65),
)  # fmt: skip
_PARLOR: Outline = tuple((x * 0.86, y * 0.93) for x, y in _CLASSICAL)

_P: Outline = (
    (-1.2, -10.3, 1), (-1.8, -10.7), (-2.7, -11.4), (-3.4, -12.5), (-3.9, -13.8), (-4.4, -14.9), (-5.1, -15.4),
    (-5.8, -14.8), (-6.1, -13.2), (-5.75, -10.8), (-5.15, -8.2), (-4.9, -6.2), (-5.3, -4.0), (-6.2, -1.9), (-6.65, 0.0),
    (-6.3, 1.6), (-5.2, 3.1), (-3.4, 4.05), (-1.1, 4.4), (1.2, 4.3), (3.5, 3.7), (5.3, 2.5), (6.4, 0.8), (6.5, -1.0),
    (5.8, -3.2), (5.0, -5.2), (4.85, -6.8), (5.4, -8.7), (5.9, -10.6), (5.8, -11.8), (5.1, -12.3), (4.4, -11.9),
    (3.8, -10.9), (3.2, -9.9), (2.4, -9.2), (1.7, -8.9), (1.2, -8.9, 1),
)  # fmt: skip
_MODERN: Outline = (
    (-1.4, -9.6, 1), (-2.1, -10.2), (-2.9, -11.3), (-3.6, -12.9), (-4.2, -14.5), (-4.9, -15.4), (-5.5, -14.8),
    (-5.6, -13.0), (-5.2, -10.6), (-4.7, -8.4), (-4.6, -6.8), (-5.0, -4.4), (-5.9, -1.9), (-6.35, 0.0), (-6.0, 1.7),
    (-4.9, 3.1), (-3.2, 3.9), (-1.0, 4.2), (1.3, 4.1), (3.4, 3.5), (5.1, 2.3), (6.1, 0.6), (6.15, -1.1), (5.4, -3.3),
    (4.75, -5.5), (4.7, -7.2), (5.1, -9.2), (5.6, -11.2), (5.4, -12.2), (4.7, -12.2), (4.1, -11.0), (3.4, -9.4),
    (2.4, -8.3), (1.4, -8.0, 1),
)  # fmt: skip
_SINGLE_BASS: Outline = (
    (-1.3, -17.0, 1), (-2.2, -16.4), (-3.8, -14.8), (-5.2, -12.6), (-5.6, -10.4), (-5.2, -8.2), (-4.8, -6.4),
    (-5.1, -4.2), (-6.0, -1.8), (-6.3, 0.4), (-5.6, 2.6), (-3.6, 3.9), (-1.0, 4.2), (2.0, 4.0), (4.6, 3.2), (6.0, 1.4),
    (6.1, -0.8), (5.2, -3.2), (4.6, -5.4), (4.6, -7.2), (5.1, -9.4), (5.6, -11.2), (5.2, -12.0), (4.2, -11.4),
    (3.0, -9.8), (2.1, -8.6), (1.4, -8.2, 1),
)  # fmt: skip
_VIOLIN: Outline = mirrored((
    (0, -12.3), (1.6, -12.2), (3.5, -11.7), (4.6, -10.4), (4.7, -9.0), (4.3, -7.7, 1), (3.5, -6.6), (3.15, -5.2),
    (3.4, -3.9), (4.5, -2.9, 1), (5.3, -1.5), (5.55, 0.3), (5.0, 2.5), (3.2, 3.9), (0, 4.4),
))  # fmt: skip


def _sheared(points: Points, slope: float) -> Points:
    """An offset waist: the treble side slides down, the bass side up."""
    return points + np.stack((np.zeros(len(points)), slope * points[:, 0]), 1)


def _for_bass(points: Points, low: float, high: float) -> Points:
    """A guitar's outline under a longer neck: y runs from `low` (top) to `high` (end) instead."""
    top, end = points[:, 1].min(), points[:, 1].max()
    return np.stack((points[:, 0], low + (points[:, 1] - top) * (high - low) / (end - top)), 1)


_ES = spline(_double(_ES_HALF, -7.5))
_SG = spline(_double(_SG_HALF, -5.5, 0.4))

BODIES: dict[str, Body] = {
    "st": Body((spline(_S),), 25.5),
    "superstrat": Body((spline(_SUPER), spline(_SUPER), spline(_S)), 25.5),
    "t": Body((spline(_T),), 25.5),
    "single-cut": Body((spline(_LP),), 24.75, "carved"),
    "twin-horn": Body((_SG,), 24.75),
    "junior": Body((spline(_double(_JUNIOR_HALF, -6.4)), spline(_double(_JUNIOR_HALF, -6.4, 0.8))), 24.75),
    "offset": Body((_sheared(spline(_S), 0.14), _sheared(spline(_S), 0.2)), 25.5),
    "v": Body((rounded(_V, cut=0.2), rounded(_V_SHARP, cut=0.06)), 24.75),
    "angular": Body((rounded(_ANGULAR, cut=0.16), rounded(_ANGULAR, cut=0.08)), 24.75),
    "headless": Body((spline(_HEADLESS),), 25.5),
    "semi-hollow": Body((_ES,), 24.75, "hollow"),
    "archtop": Body((spline(_cut(_JUMBO, -8.6, -10.6)), spline(_cut(_AUDITORIUM, -8.6, -10.4))), 25.4, "hollow"),
    "dreadnought": Body(
        (spline(mirrored(_DREADNOUGHT)), spline(mirrored(_SLOPE)), spline(_cut(_DREADNOUGHT, -8.2, -9.9))),
        25.4,
        "acoustic",
    ),
    "auditorium": Body((spline(mirrored(_AUDITORIUM)), spline(_cut(_AUDITORIUM, -8.2, -9.9))), 25.4, "acoustic"),
    "jumbo": Body((spline(mirrored(_JUMBO)), spline(_cut(_JUMBO, -8.2, -10.1))), 25.5, "acoustic"),
    "parlor": Body((spline(mirrored(_PARLOR)),), 24.9, "acoustic"),
    "classical": Body(
        (spline(mirrored(_CLASSICAL)), spline(mirrored(_CLASSICAL)), spline(_cut(_CLASSICAL, -9.4, -11.3))),
        25.6,
        "classical",
    ),
    "p-bass": Body((spline(_P), _sheared(spline(_P), 0.06)), 34.0),
    "j-bass": Body((_sheared(spline(_P), 0.15), _sheared(spline(_P), 0.2)), 34.0),
    "mm-bass": Body((_sheared(spline(_P), 0.04),), 34.0),
    "modern-bass": Body((spline(_MODERN), spline(_MODERN), _sheared(spline(_MODERN), 0.08)), 34.0),
    "single-cut-bass": Body((spline(_SINGLE_BASS),), 34.0),
    "short-bass": Body(
        (
            _for_bass(_SG, -11.6, 4.8),
            _for_bass(_sheared(spline(_S), 0.14), -12.6, 4.4),
            _for_bass(spline(_LP), -12.2, 5.0),
        ),
        30.0,
    ),
    "violin-bass": Body((spline(_VIOLIN),), 30.0, "hollow"),
    "semi-hollow-bass": Body((_for_bass(_ES, -12.4, 6.4),), 30.5, "hollow"),
    "acoustic-bass": Body(
        (
            _for_bass(spline(_cut(_DREADNOUGHT, -8.2, -9.9)), -13.8, 7.4),
            _for_bass(spline(_cut(_JUMBO, -8.2, -10.1)), -13.8, 7.6),
            _for_bass(spline(_cut(_AUDITORIUM, -8.2, -9.9)), -13.8, 7.2),
            _for_bass(spline(mirrored(_DREADNOUGHT)), -13.8, 7.4),
        ),
        34.0,
        "acoustic",
    ),
}


def outline(style: str, scale_in: float, rng: np.random.Generator) -> Points:
    """One maker's version of a body: a shape of `style`, a few per cent wider, longer, rounder than its neighbours'.

    Returns:
        (N, 2) inches, a closed outline.
    """
    body = BODIES[style]
    points = body.shapes[rng.integers(len(body.shapes))].copy()
    if rng.random() < 0.4:  # a slower curve: horns and waist less pronounced
        points += 0.2 * (np.roll(points, 4, 0) + np.roll(points, -4, 0) - 2 * points) * rng.random()
    wide, long = rng.normal(1.0, 0.025, 2)
    points[:, 0] *= wide
    # the top moves with the neck, the end stays near the bridge
    points[:, 1] *= np.where(points[:, 1] < 0, long * scale_in / body.scale_in, long)
    waves = rng.normal(0.0, 0.07, 3)
    points[:, 0] *= 1 + 0.12 * waves[0] * np.sin(points[:, 1] / 3 + rng.uniform(0, 6))
    points[:, 1] += waves[1] * points[:, 0] * 0.25 + waves[2] * np.sin(points[:, 0] / 2)
    return points
