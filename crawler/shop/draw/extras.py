"""Things that are neither guitar nor bass, and the company an instrument sometimes keeps in its picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crawler.shop.draw.finishes import FINISHES
from crawler.shop.draw.geometry import Points, box, mirrored, moved, rounded, spline
from crawler.shop.draw.paint import Light
from crawler.shop.draw.pen import Colour, Pen, shaded
from crawler.shop.draw.spec import Spec

__all__ = ["EXTRAS", "Thing", "props"]

_GREYS: tuple[Colour, ...] = ((28, 28, 30), (40, 38, 38), (60, 46, 36), (24, 30, 40))


@dataclass(frozen=True, slots=True)
class Thing:
    """Something simple: what bounds it, what throws its shadow, and how it is drawn."""

    bounds: Points
    silhouette: list[Points]
    draw: Callable[[Pen], None]


def _amplifier(
    left: float, top: float, width: float, height: float, rng: np.random.Generator, head: bool = False
) -> Thing:
    """A combo, or a head on its cabinet: tolex, grille cloth, a panel with knobs, a handle."""
    tolex = _GREYS[rng.integers(4)] if rng.random() < 0.8 else (196, 176, 130)
    cloth: Colour = ((48, 48, 50), (120, 110, 92), (176, 170, 156), (70, 60, 48))[rng.integers(4)]
    panel: Colour = ((190, 190, 192), (200, 168, 92), (26, 26, 28))[rng.integers(3)]
    count = int(rng.integers(5, 9))
    right, bottom = left + width, top + height
    split = top + height * (0.27 if head else 0.2)
    rim = width * 0.035

    def draw(pen: Pen) -> None:
        pen.polygon(rounded(box(left, top, right, bottom), 3, 0.03), tolex)
        pen.box(left + rim, split + rim, right - rim, bottom - rim * 1.4, cloth)
        for index in range(1, 26):  # the weave
            y = split + rim + (bottom - split - rim * 2.4) * index / 26
            pen.lines(np.array((((left + rim, y), (right - rim, y)),)), 0.05, (*shaded(cloth, 0.8)[:3], 120))
        radius = min(width, bottom - split) * 0.36
        for x in (0.28, 0.72) if head else (0.5,):
            pen.ring(
                left + width * x,
                (split + bottom) / 2,
                radius * (0.62 if head else 1),
                width * 0.02,
                (*shaded(cloth, 0.65)[:3], 110),
            )
        low = top + height * (0.13 if head else 0.06)
        pen.box(left + rim, low, right - rim, split - rim * 0.5, panel)
        ink = (24, 24, 26) if sum(panel[:3]) > 300 else (214, 210, 200)
        y = (low + split) / 2
        pen.discs([(left + width * (0.15 + 0.6 * index / count), y) for index in range(count)], width * 0.02, ink)
        pen.disc(right - width * 0.1, y, width * 0.014, (206, 40, 30))
        if head:
            pen.box(left, split + rim * 0.3, right, split + rim * 0.8, (0, 0, 0))
        pen.bar((left + right) / 2, top - height * 0.012, width * 0.3, height * 0.03, (20, 20, 20), 0, height * 0.012)
        pen.box(left, bottom - height * 0.02, right, bottom, (0, 0, 0, 120))
        pen.box(left, top, left + width * 0.16, bottom, (255, 255, 255, 12))

    whole = box(left, top - height * 0.03, right, bottom)
    return Thing(whole, [box(left, top, right, bottom)], draw)


def _bag(x: float, top: float, height: float, rng: np.random.Generator) -> Thing:
    """A gig bag: the instrument's shape in nylon, with a pocket, a zip and straps."""
    cloth = _GREYS[rng.integers(4)]
    w = height * rng.uniform(0.16, 0.19)
    half = [
        (0, 0), (w * 0.45, 0.01 * height), (w * 0.55, 0.1 * height), (w * 0.5, 0.35 * height),
        (w * 0.75, 0.48 * height), (w * 0.85, 0.6 * height), (w * 0.95, 0.75 * height), (w, 0.88 * height),
        (w * 0.8, 0.98 * height), (0, height),
    ]  # fmt: skip
    shape = spline(mirrored(half))
    points = moved(shape, x, top)
    inner = moved(moved(shape, 0, -height / 2) * (0.86, 0.955), x, top + height / 2)

    def draw(pen: Pen) -> None:
        pen.polygon(points, cloth)
        pen.polygon(inner, shaded(cloth, 1.25))
        pen.polygon(
            rounded(box(x - w * 0.62, top + height * 0.6, x + w * 0.62, top + height * 0.92), 3, 0.12),
            shaded(cloth, 0.9),
        )
        pen.path(
            np.array(((x - w * 0.55, top + height * 0.64), (x + w * 0.55, top + height * 0.64))), 0.18, (120, 120, 122)
        )
        pen.bar(x, top + height * 0.46, w * 0.12, height * 0.12, shaded(cloth, 0.6), 0, 0.2)
        pen.bar(x + w * 0.1, top + height * 0.76, w * 0.5, height * 0.03, (190, 188, 184, 190))

    return Thing(points[::5], [points], draw)


def _case(rng: np.random.Generator) -> Thing:
    """A hard case: a long box with rounded ends, latches and a handle."""
    shell: Colour = ((30, 30, 32), (96, 62, 38), (170, 140, 84))[rng.integers(3)]
    wide = float(rng.uniform(12, 17))
    bottom = spline(
        mirrored([(wide * 0.32, -20), (wide * 0.42, -2), (wide * 0.5, 8), (wide * 0.46, 18), (wide * 0.2, 20.5)])
    )

    def draw(pen: Pen) -> None:
        pen.polygon(bottom, shaded(shell, 0.7))
        pen.polygon(bottom * (0.93, 0.97), shell)
        pen.polygon(bottom * (0.5, 0.93) + (-wide * 0.12, 0), (255, 255, 255, 22))
        for y in (-13, -2, 9, 16):
            pen.bar(wide * (0.36 if y < 0 else 0.46), y, 1.1, 1.3, (206, 188, 130), 0, 0.2)
        pen.bar(wide * 0.47, 3, 0.9, 4.6, (20, 18, 18), 0, 0.3)

    return Thing(bottom, [bottom], draw)


def _string_set(rng: np.random.Generator) -> Thing:
    """A square packet of strings with a coloured band and coils showing."""
    paper = tuple(int(value) for value in rng.integers(30, 230, 3))
    band = tuple(int(value) for value in rng.integers(20, 250, 3))
    ink: Colour = (250, 250, 248)
    square = box(-5, -5, 5, 5)

    def draw(pen: Pen) -> None:
        pen.polygon(square, paper)  # type: ignore[arg-type]
        pen.box(-5, -3.6, 5, -0.9, band)  # type: ignore[arg-type]
        for radius in (3.3, 3.0, 2.7):
            pen.ring(0.8, 2.0, radius * 0.75, 0.12, (214, 200, 150, 220))
        pen.bar(-1.2, -2.3, 5.4, 1.0, ink)
        pen.bar(-2.6, 3.6, 3.2, 0.5, ink)
        pen.box(-5, -5, -4.4, 5, (255, 255, 255, 60))

    return Thing(square, [square], draw)


def _cable(rng: np.random.Generator) -> Thing:
    """A coiled cable with two plugs."""
    jacket: Colour = ((24, 24, 26), (150, 30, 34), (40, 70, 130), (206, 176, 120))[rng.integers(4)]
    turns = np.linspace(0, 2 * np.pi, 80)
    coils = [
        np.stack((radius * np.cos(turns) + dx, radius * 0.92 * np.sin(turns) + dy), 1)
        for radius, dx, dy in zip(rng.uniform(3.9, 5.1, 6), rng.normal(0, 0.15, 6), rng.normal(0, 0.15, 6), strict=True)
    ]

    def draw(pen: Pen) -> None:
        for coil in coils:
            pen.path(coil, 0.42, shaded(jacket, 0.7))
            pen.path(coil - (0.06, 0.06), 0.26, shaded(jacket, 1.2))
        for x, turn in ((-1.6, 0.35), (1.7, -0.25)):
            pen.bar(x, 5.4, 0.9, 2.6, (196, 198, 202), turn, 0.15)
            pen.bar(x + turn * 2, 7.6, 0.42, 2.0, (206, 176, 110), turn, 0.1)

    hull = box(-5.6, -5.4, 5.6, 8.8)
    return Thing(hull, [coils[0]], draw)


def _drum(pen: Pen, x: float, y: float, radius: float, height: float, colour: Colour) -> None:
    """A drum seen a little from above: shell, lugs, hoops and head."""
    turns = np.linspace(0, 2 * np.pi, 40)
    ring = np.stack((radius * np.cos(turns), radius * 0.3 * np.sin(turns)), 1)
    pen.polygon(np.concatenate((moved(ring[:21], x, y + height), moved(ring[20:], x, y))), colour)
    pen.polygon(
        np.concatenate((moved(ring[12:19], x, y + height), moved(ring[12:19][::-1], x, y))), (255, 255, 255, 60)
    )
    for index in (2, 5, 8, 11, 14, 17):
        px, py = ring[index]
        pen.bar(x + px * 0.97, y + py + height / 2, radius * 0.06, height * 0.55, (206, 208, 212))
    pen.path(moved(ring[:21], x, y + height), radius * 0.07, (196, 198, 204))
    pen.polygon(moved(ring, x, y), (196, 198, 204))
    pen.polygon(moved(ring * 0.93, x, y), (240, 240, 238))


def _cymbal(pen: Pen, x: float, y: float, radius: float, tilt: float) -> None:
    turns = np.linspace(0, 2 * np.pi, 36)
    plate = np.stack((radius * np.cos(turns), radius * 0.22 * np.sin(turns) + radius * tilt * np.cos(turns)), 1)
    pen.polygon(moved(plate, x, y), (198, 158, 70))
    pen.polygon(moved(plate * 0.7, x, y - 0.1), (222, 184, 96))
    pen.polygon(moved(plate * 0.2, x, y - 0.4), (186, 146, 62))


def _drum_kit(spec: Spec, rng: np.random.Generator) -> Thing:
    """Bass drum from the front, two toms, a floor tom, a snare and three cymbals on stands."""
    colour = FINISHES[spec.finish].colours[0]
    toms = float(rng.uniform(3.2, 4.2))
    logo = rng.random() < 0.6

    def draw(pen: Pen) -> None:
        steel = (150, 152, 156)
        pen.lines(
            np.array((((-13.0, -15.5), (-12.0, 11.0)), ((13.0, -17.0), (12.0, 11.0)), ((-16.0, -5.0), (-15.0, 11.0)))),
            0.45,
            steel,
        )
        for x in (-12.0, 12.0, -15.0):
            pen.lines(np.array((((x, 6.0), (x - 3.0, 11.4)), ((x, 6.0), (x + 3.0, 11.4)))), 0.4, steel)
        _cymbal(pen, -16, -5, 4.4, 0.02)
        _drum(pen, -10.5, 0.5, 4.4, 3.4, colour)
        _drum(pen, 11.5, 0.0, 5.2, 9.5, colour)
        pen.disc(0, 3.5, 8.2, shaded(colour, 0.8))
        pen.disc(0, 3.5, 7.5, (238, 238, 236) if logo else (28, 28, 30))
        pen.ring(0, 3.5, 7.7, 0.5, (180, 182, 186))
        if logo:
            pen.bar(0, 3.2, 6.0, 1.0, (40, 40, 44))
        _drum(pen, -toms - 0.6, -7.2, toms, 4.0, colour)
        _drum(pen, toms + 0.6, -7.2, toms * 1.05, 4.2, colour)
        _cymbal(pen, -13, -15.5, 5.6, 0.12)
        _cymbal(pen, 13, -17, 6.4, -0.12)

    bounds = box(-20.5, -18.5, 19.5, 12.5)
    return Thing(bounds, [box(-16, 9.5, 16, 12)], draw)


def _snare(spec: Spec, rng: np.random.Generator) -> Thing:
    """One drum."""
    colour, height = FINISHES[spec.finish].colours[0], float(rng.uniform(4.5, 7.5))
    return Thing(
        box(-7.4, -2.6, 7.4, height + 2.6),
        [box(-6.6, height - 1, 6.6, height + 2.2)],
        lambda pen: _drum(pen, 0, 0, 7, height, colour),
    )


EXTRAS: dict[str, Callable[[Spec, np.random.Generator], Thing]] = {
    "combo": lambda spec, rng: _amplifier(-9, -8, 18, float(rng.uniform(14, 19)), rng),
    "stack": lambda spec, rng: _amplifier(-13, -16, 26, 36, rng, head=True),
    "bag": lambda spec, rng: _bag(0, -20, 40, rng),
    "hard-case": lambda spec, rng: _case(rng),
    "string-set": lambda spec, rng: _string_set(rng),
    "cable": lambda spec, rng: _cable(rng),
    "drum-kit": _drum_kit,
    "snare": _snare,
}


def props(bounds: Points, rng: np.random.Generator, light: Light) -> Thing:
    """Company for an upright instrument that fills `bounds` (inches): a stand, its bag or an amplifier beside it."""
    low, high = bounds.min(0), bounds.max(0)
    height = float(high[1] - low[1])
    roll = rng.random()
    side = 1 if rng.random() < 0.5 else -1
    if roll < 0.4:
        return _stand(float(high[1]), height)
    if roll < 0.7:
        x = (high[0] if side > 0 else low[0]) + side * height * 0.13
        return _bag(float(x), float(high[1]) - height * 1.0, height, rng)
    size = height * float(rng.uniform(0.34, 0.46))
    left = (high[0] - 0.06 * height) if side > 0 else (low[0] + 0.06 * height - size)
    return _amplifier(float(left), float(high[1]) - size * 0.95, size, size * 0.95, rng)


def _stand(end: float, height: float) -> Thing:
    """A tripod stand: the yoke below the body, legs beside it, the neck's rest behind."""
    foot = end + height * 0.055
    black: Colour = (26, 26, 28)

    def draw(pen: Pen) -> None:
        pen.lines(
            np.array(
                (
                    ((0.0, end - height * 0.66), (0.0, end)),
                    ((0.0, end - 2.0), (-7.5, foot)),
                    ((0.0, end - 2.0), (7.5, foot)),
                )
            ),
            0.6,
            black,
        )
        pen.lines(
            np.array(
                (
                    ((-3.4, end - 0.4), (3.4, end - 0.4)),
                    ((-3.4, end - 1.2), (-3.4, end)),
                    ((3.4, end - 1.2), (3.4, end)),
                )
            ),
            0.7,
            black,
        )
        pen.discs([(-7.5, foot), (7.5, foot)], 0.55, black)

    bounds = np.array(((-8.0, foot + 0.5), (8.0, foot + 0.5)))
    return Thing(bounds, [bounds], draw)
