"""Draws hardware in inches on the fine canvas: flat shapes, a shade darker on one side, a shadow below."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from crawler.shop.draw.geometry import Points, Pose

__all__ = ["Colour", "Pen", "shaded"]

Colour = tuple[int, int, int] | tuple[int, int, int, int]


def shaded(colour: Sequence[int], factor: float) -> Colour:
    """The colour, darker (under 1) or lighter; alpha is kept."""
    red, green, blue = (int(min(max(value * factor, 0), 255)) for value in colour[:3])
    return (red, green, blue, colour[3]) if len(colour) > 3 else (red, green, blue)


class Pen:
    """A pen that thinks in inches; colours with a fourth value are laid on with that alpha (0 to 255)."""

    def __init__(self, canvas: Image.Image, pose: Pose) -> None:
        self._draw = ImageDraw.Draw(canvas, "RGBA")
        self.pose = pose
        self.inch = pose.pixels_per_inch
        (a, b), (c, d) = pose.matrix.tolist()
        self._affine = (a, b, c, d, *pose.origin.tolist())

    def polygon(self, points: Points, fill: Colour) -> None:
        """A filled polygon (N, 2)."""
        self._draw.polygon(self.pose(points).ravel().tolist(), fill=fill)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        """A filled rectangle, turned with the instrument."""
        self._filled(((left, top), (right, top), (right, bottom), (left, bottom)), fill)

    def _filled(self, corners: Sequence[tuple[float, float]], fill: Colour) -> None:
        """A polygon of a few points: plain floats beat an array by a factor of five there."""
        a, b, c, d, e, f = self._affine
        self._draw.polygon([value for x, y in corners for value in (a * x + b * y + e, c * x + d * y + f)], fill=fill)

    def bar(
        self, x: float, y: float, width: float, height: float, fill: Colour, turn: float = 0.0, edge: float = 0.0
    ) -> None:
        """A rectangle centred on (x, y), turned by `turn` radians, with corners cut by `edge` inches."""
        w, h = width / 2, height / 2
        corners: Sequence[tuple[float, float]] = ((-w, -h), (w, -h), (w, h), (-w, h))
        if edge:
            v, g = w - edge, h - edge
            corners = ((-v, -h), (v, -h), (w, -g), (w, g), (v, h), (-v, h), (-w, g), (-w, -g))
        cos, sin = math.cos(turn), math.sin(turn)
        self._filled([(x + cos * px - sin * py, y + sin * px + cos * py) for px, py in corners], fill)

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        """A filled circle."""
        self.discs(((x, y),), radius, fill)

    def discs(self, centres: Iterable[tuple[float, float]], radius: float, fill: Colour) -> None:
        """Circles of one size and colour."""
        a, b, c, d, e, f = self._affine
        r = radius * self.inch
        for x, y in centres:
            px, py = a * x + b * y + e, c * x + d * y + f
            self._draw.ellipse((px - r, py - r, px + r, py + r), fill=fill)

    def ring(self, x: float, y: float, radius: float, width: float, colour: Colour) -> None:
        """A circle's line, `width` inches wide, inside `radius`."""
        (px, py), r = self.pose(np.array(((x, y),)))[0].tolist(), radius * self.inch
        self._draw.ellipse((px - r, py - r, px + r, py + r), outline=colour, width=max(round(width * self.inch), 1))

    def lines(self, segments: Points, width: float, fill: Colour) -> None:
        """Straight lines: segments (N, 2, 2) in inches, `width` in inches, never thinner than one fine pixel."""
        placed = self.pose(segments.reshape(-1, 2)).reshape(-1, 4).tolist()
        pixels = max(round(width * self.inch), 1)
        for line in placed:
            self._draw.line(line, fill=fill, width=pixels)

    def path(self, points: Points, width: float, fill: Colour) -> None:
        """A polyline (N, 2)."""
        pixels = max(round(width * self.inch), 1)
        self._draw.line(self.pose(points).ravel().tolist(), fill=fill, width=pixels, joint="curve")
