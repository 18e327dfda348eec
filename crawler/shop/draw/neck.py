"""Neck, fretboard, frets, inlays and strings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crawler.shop.draw.geometry import Points, fret, moved
from crawler.shop.draw.pen import Colour, Pen, shaded

__all__ = ["Neck", "neck_for"]

_ROSEWOOD, _EBONY, _MAPLE = (66, 42, 32), (30, 26, 26), (222, 184, 128)
_MARKS = (3, 5, 7, 9, 12, 15, 17, 19, 21, 24)


@dataclass(frozen=True, slots=True)
class Neck:
    """One neck, in inches: nut at y = -scale_in, strings run to the bridge at y = 0."""

    scale_in: float
    nut_in: float  # board width at the nut
    spread_in: float  # outer strings' distance at the bridge
    frets: int
    strings: int
    board: Colour
    wood: Colour
    inlay: str
    inlay_colour: Colour
    nut: Colour
    bass: bool
    nylon: bool

    @property
    def end_y(self) -> float:
        """Where the fretboard ends over the body, just behind the last fret."""
        return -fret(self.scale_in, self.frets + 0.4)

    def half_width(self, y: float) -> float:
        """Half the board's width at y: it widens with the strings."""
        share = 1 + y / self.scale_in
        return (self.nut_in + share * (self.spread_in + 0.32 - self.nut_in)) / 2

    def outline(self) -> Points:
        """The board from nut to end: (4, 2)."""
        top, end = self.half_width(-self.scale_in), self.half_width(self.end_y)
        return np.array(((-top, -self.scale_in), (top, -self.scale_in), (end, self.end_y), (-end, self.end_y)))

    def string_xs(self, y: float) -> list[float]:
        """x of each string at y; twelve strings go in six pairs."""
        courses = 6 if self.strings == 12 else self.strings
        reach = self.half_width(y) - 0.16
        xs = np.linspace(-reach, reach, courses)
        if self.strings == 12:
            return [float(x) for course in xs for x in (course - 0.07, course + 0.07)]
        return [float(x) for x in xs]

    def draw_board(self, pen: Pen, rng: np.random.Generator) -> None:
        """Board, frets, inlays and nut."""
        outline = self.outline()
        pen.polygon(moved(outline, 0.12, 0.1), (0, 0, 0, 70))
        pen.polygon(outline, self.board)
        centre = moved(outline * (0.35, 1), 0.15, 0)
        pen.polygon(centre, (*shaded(self.board, 1.18)[:3], 150))  # the board is arched: its middle catches the light
        if self.inlay in ("block", "trapezoid"):
            for mark in (1, *_MARKS) if self.inlay == "block" else _MARKS:
                if mark <= self.frets:
                    self._block(pen, mark)
        ys = np.array([-fret(self.scale_in, number) for number in range(1, self.frets + 1)])
        xs = np.array([self.half_width(float(y)) for y in ys])
        rows = np.stack((np.stack((-xs, ys), 1), np.stack((xs, ys), 1)), 1)
        pen.lines(moved(rows, 0, 0.05), 0.09, (0, 0, 0, 80))
        pen.lines(rows, 0.08, (206, 202, 190))
        if self.inlay == "dot":
            self._dots(pen)
        top = self.half_width(-self.scale_in)
        pen.box(-top, -self.scale_in - 0.16, top, -self.scale_in + 0.02, self.nut)

    def _block(self, pen: Pen, mark: int) -> None:
        above, below = -fret(self.scale_in, mark - 0.82), -fret(self.scale_in, mark - 0.18)
        upper, lower = self.half_width(above) * 0.66, self.half_width(below) * 0.66
        if self.inlay == "trapezoid":
            upper *= 0.78
        pen.polygon(np.array(((-upper, above), (upper, above), (lower, below), (-lower, below))), self.inlay_colour)

    def _dots(self, pen: Pen) -> None:
        dots = []
        for mark in _MARKS:
            y = -fret(self.scale_in, mark - 0.5)
            if mark > self.frets:
                break
            offsets = (-0.45, 0.45) if mark % 12 == 0 else (0.0,)
            dots += [(x, y) for x in offsets]
        pen.discs(dots, 0.15 if self.bass else 0.13, self.inlay_colour)

    def draw_strings(self, pen: Pen, posts: tuple[tuple[float, float], ...], end_y: float) -> None:
        """Strings from the posts over the nut to `end_y` (the bridge or the tailpiece behind it)."""
        at_nut, at_bridge = self.string_xs(-self.scale_in), self.string_xs(0.0)
        bright: Colour = (232, 228, 214, 170) if self.nylon else (214, 212, 206, 220)
        for index, (nut_x, bridge_x) in enumerate(zip(at_nut, at_bridge, strict=True)):
            wound = 1 - index / max(len(at_nut) - 1, 1)
            gauge = (0.050 + 0.055 * wound) if self.bass else (0.014 + 0.034 * wound)
            points = [(nut_x, -self.scale_in), (bridge_x, 0.0), (bridge_x, end_y)]
            if posts:
                x, y = posts[index]
                points.insert(0, (x, y - self.scale_in))
            alpha = min(int(bright[3] * (0.45 + gauge * 9)), 255)  # type: ignore[misc]
            path = np.array(points)
            pen.path(moved(path, 0.06, 0.03), gauge, (0, 0, 0, alpha // 3))
            pen.path(path, gauge, (*bright[:3], alpha))


def neck_for(style: str, strings: int, scale_in: float, rng: np.random.Generator) -> Neck:
    """A neck for the style: width by strings, wood and inlays as they are usually combined."""
    bass = "bass" in style
    classical = style == "classical"
    if bass:
        nut = {4: 1.58, 5: 1.84, 6: 2.12}[strings] + rng.normal(0, 0.05) - (0.08 if style == "j-bass" else 0)
        spread = {4: 2.22, 5: 2.86, 6: 3.4}[strings] + rng.normal(0, 0.06) - (0.12 if scale_in < 32 else 0)
        frets = int(rng.choice((20, 20, 21, 22, 24) if style in ("p-bass", "j-bass", "mm-bass") else (20, 22, 24)))
    else:
        nut = {6: 1.68, 7: 1.9, 12: 1.86}[strings] + rng.normal(0, 0.03) + (0.34 if classical else 0)
        spread = {6: 2.08, 7: 2.46, 12: 2.2}[strings] + rng.normal(0, 0.04) + (0.22 if classical else 0)
        frets = int(rng.choice((21, 22, 22, 24)))
    if style in ("dreadnought", "auditorium", "jumbo", "parlor", "acoustic-bass"):
        frets = 20
    if classical:
        frets = 19
    if style in ("superstrat", "headless", "modern-bass", "single-cut-bass"):
        frets = 24
    if style == "violin-bass":
        frets = 22
    roll = rng.random()
    # two guitars in three may not have a maple board (below), so a bass that may has one half as often
    maple = 0.12 if bass else 0.25
    board = _MAPLE if roll < maple else _EBONY if roll < maple + 0.2 else _ROSEWOOD
    if board is _MAPLE and style not in (
        "st",
        "t",
        "superstrat",
        "headless",
        "p-bass",
        "j-bass",
        "mm-bass",
        "modern-bass",
    ):
        board = _ROSEWOOD
    set_neck = style in ("single-cut", "semi-hollow", "twin-horn", "classical", "dreadnought")
    light_wood = rng.random() < (0.3 if set_neck else 0.5 if bass else 0.75)
    wood = _MAPLE if light_wood or board is _MAPLE else (116, 66, 42)
    inlay = "none" if classical else str(rng.choice(("dot", "block", "trapezoid", "none"), p=(0.76, 0.09, 0.09, 0.06)))
    if style in ("single-cut", "semi-hollow", "archtop") and rng.random() < 0.5:
        inlay = "trapezoid" if rng.random() < 0.6 else "block"
    vary = float(rng.normal(1, 0.1))
    return Neck(
        scale_in=scale_in,
        nut_in=float(nut),
        spread_in=float(spread),
        frets=frets,
        strings=strings,
        board=shaded(board, vary),
        wood=shaded(wood, float(rng.normal(1, 0.06))),
        inlay=inlay,
        inlay_colour=(30, 26, 24) if board is _MAPLE else (232, 230, 220),
        nut=(238, 234, 220) if rng.random() < 0.8 else (30, 30, 30),
        bass=bass,
        nylon=classical,
    )
