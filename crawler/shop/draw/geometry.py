"""Curves and poses: outlines are given in inches and become pixels only through a `Pose`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Points", "Pose", "box", "fret", "mirrored", "moved", "rounded", "spline"]

Points = NDArray[np.float64]
_STEPS = 7  # points a spline segment: at 150 pixels a finer outline looks the same
_T = np.linspace(0.0, 1.0, _STEPS, endpoint=False)[:, None]


def fret(scale_in: float, number: float) -> float:
    """Distance from the bridge to a fret in inches: twelve equal semitones halve the string."""
    return float(scale_in * 2.0 ** (-number / 12.0))


def spline(points: Sequence[Sequence[float]]) -> Points:
    """A closed Catmull-Rom curve through `points` (x, y); a third element of 1 makes a point a sharp corner.

    Returns:
        (N, 2) points, `_STEPS` a segment.
    """
    knots = np.array([point[:2] for point in points], dtype=np.float64)
    corner = np.array([len(point) > 2 and bool(point[2]) for point in points])
    after = np.roll(knots, -1, axis=0)
    # a corner's neighbours do not bend the curve beyond it
    before = np.where(corner[:, None], knots, np.roll(knots, 1, axis=0))
    beyond = np.where(np.roll(corner, -1)[:, None], after, np.roll(knots, -2, axis=0))
    p0, p1, p2, p3 = (points_[:, None, :] for points_ in (before, knots, after, beyond))
    curve = 0.5 * (
        2 * p1 + (p2 - p0) * _T + (2 * p0 - 5 * p1 + 4 * p2 - p3) * _T**2 + (3 * (p1 - p2) + p3 - p0) * _T**3
    )
    return np.asarray(curve.reshape(-1, 2))


def rounded(points: Sequence[Sequence[float]] | Points, rounds: int = 3, cut: float = 0.14) -> Points:
    """A polygon with its corners cut `rounds` times (Chaikin), each time at `cut` of the edge."""
    polygon = np.array(points, dtype=np.float64)
    for turn in range(rounds):
        share = cut if turn == 0 else 0.25
        after = np.roll(polygon, -1, axis=0)
        polygon = np.stack(((1 - share) * polygon + share * after, share * polygon + (1 - share) * after), 1)
        polygon = polygon.reshape(-1, 2)
    return polygon


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """The four corners of an upright rectangle."""
    return np.array(((left, top), (right, top), (right, bottom), (left, bottom)))


def mirrored(half: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    """A symmetric outline from its right half, given from the top to the bottom; points on the axis are not doubled."""
    left = [(-point[0], *point[1:]) for point in reversed(half) if point[0] != 0.0]
    return [*(tuple(point) for point in half), *left]


def moved(points: Points, right: float, down: float) -> Points:
    """The points (..., 2), shifted."""
    return np.asarray(points + (right, down), dtype=np.float64)  # noqa: RUF005  an array's sum, not a tuple's


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the instrument stands in the picture: inches to pixels.

    Attributes:
        matrix: (2, 2), turns, mirrors and scales.
        origin: (2,) pixel at which the bridge (0, 0) lies.
    """

    matrix: Points
    origin: Points

    def __call__(self, points: Points) -> Points:
        """Inches (N, 2) to pixels (N, 2)."""
        return points @ self.matrix.T + self.origin

    @property
    def pixels_per_inch(self) -> float:
        """Mean of the two axes."""
        return math.sqrt(abs(float(np.linalg.det(self.matrix))))

    def scaled(self, factor: float) -> Pose:
        """The same pose on a canvas `factor` times as large."""
        return Pose(self.matrix * factor, self.origin * factor)

    def inverse(
        self, xs: NDArray[np.float32], ys: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Pixel coordinates to inches."""
        (a, b), (c, d) = np.linalg.inv(self.matrix)
        xs, ys = xs - np.float32(self.origin[0]), ys - np.float32(self.origin[1])
        return np.float32(a) * xs + np.float32(b) * ys, np.float32(c) * xs + np.float32(d) * ys

    @staticmethod
    def fitted(
        bounds: Points, turn_deg: float, stretch: tuple[float, float], frame: tuple[float, float, float, float]
    ) -> Pose:
        """Turn clockwise by `turn_deg`, stretch x and y (a negative stretch mirrors), then fit `bounds` into `frame`.

        Args:
            bounds: (N, 2) inches, whatever must be inside.
            turn_deg: 0 is upright, 90 points the headstock right.
            stretch: of x and y, before turning.
            frame: left, top, right, bottom in pixels; the instrument is centred and fills one side of it.
        """
        angle = math.radians(turn_deg)
        turn = np.array(((math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))))
        matrix = turn * np.array(stretch)
        placed = bounds @ matrix.T
        low, high = placed.min(0), placed.max(0)
        left, top, right, bottom = frame
        scale = min((right - left) / (high[0] - low[0]), (bottom - top) / (high[1] - low[1]))
        centre = np.array(((left + right) / 2, (top + bottom) / 2))
        return Pose(matrix * scale, centre - scale * (low + high) / 2)
