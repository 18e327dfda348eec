"""What is screwed on and cut in: pickups, bridges, knobs, soundholes, f-holes. All in inches from the bridge saddle."""

from __future__ import annotations

import numpy as np

from crawler.shop.draw.geometry import Points, moved, spline
from crawler.shop.draw.neck import Neck
from crawler.shop.draw.pen import Colour, Pen, shaded

__all__ = [
    "BLACK",
    "CHROME",
    "GOLD",
    "acoustic_bridge",
    "bass_bridge",
    "f_holes",
    "knobs",
    "pickups",
    "soundhole",
    "tailpiece",
]

CHROME, GOLD, BLACK = (196, 198, 202), (204, 166, 88), (34, 34, 36)
_HUMBUCKER, _SINGLE, _P90 = "humbucker", "single", "p90"

_F_HOLE = spline((
    (0.25, -2.2), (0.0, -2.35), (-0.22, -2.15), (-0.1, -1.8), (0.12, -1.0), (0.02, 0.0), (-0.12, 1.0), (-0.05, 2.0),
    (0.2, 2.45), (0.5, 2.3), (0.5, 2.0), (0.25, 1.9), (0.16, 1.2), (0.3, 0.1), (0.42, -0.9), (0.35, -1.7),
))  # fmt: skip


def _pickup(pen: Pen, kind: str, y: float, neck: Neck, metal: Colour, plastic: Colour, turn: float = 0.0) -> None:
    width = neck.half_width(y) * 2
    wide = {
        _HUMBUCKER: width * 0.98 + 0.4,
        _SINGLE: width + 0.85,
        _P90: width + 0.9,
        "soap": width + 1.0,
        "bar": width + 1.05,
        "mm": width + 0.95,
    }[kind]
    tall = {_HUMBUCKER: 1.5, _SINGLE: 0.82, _P90: 1.4, "soap": 1.45, "bar": 0.78, "mm": 1.95}[kind]
    pen.bar(0.1, y + 0.1, wide, tall, (0, 0, 0, 80), turn, 0.1)
    if kind == _HUMBUCKER:
        pen.bar(0, y, wide + 0.45, tall + 0.35, shaded(plastic, 0.9), turn, 0.12)
        pen.bar(0, y, wide, tall, metal, turn, 0.08)
        pen.bar(0, y - 0.3, wide, 0.12, (*shaded(metal, 1.25)[:3], 150), turn)
    else:
        pen.bar(0, y, wide, tall, plastic, turn, min(tall * 0.3, 0.3))
        pen.bar(0, y - tall * 0.28, wide * 0.8, tall * 0.14, (255, 255, 255, 50), turn)
    poles = np.array([(x, 0.0) for x in neck.string_xs(y)[:: 2 if neck.strings == 12 else 1]])
    rows = {_HUMBUCKER: (0.36,), "mm": (-0.42, 0.42), "soap": (), _P90: (0.0,), _SINGLE: (0.0,), "bar": (0.0,)}[kind]
    turned = np.array(((np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))))
    dark = sum(plastic[:3]) > 300
    pole = shaded(metal, 0.6) if kind == _HUMBUCKER else (120, 120, 120) if dark else (190, 190, 188)
    for row in rows:
        offsets = (-0.09, 0.09) if kind == "bar" else (0.0,)
        centres = [
            tuple((np.array((x + offset, row)) @ turned + (0, y)).tolist()) for x, _ in poles for offset in offsets
        ]
        pen.discs(centres, 0.14 if kind == "mm" else 0.09, pole)


def _split(pen: Pen, y: float, neck: Neck, plastic: Colour) -> None:
    """The P pickup: two halves, the treble one nearer the bridge."""
    half = neck.half_width(y) + 0.22
    for side, lower in ((-1, -0.5), (1, 0.5)):
        x = side * half / 2 + side * 0.05
        pen.bar(x + 0.1, y + lower + 0.1, half + 0.3, 1.15, (0, 0, 0, 80), 0, 0.15)
        pen.bar(x, y + lower, half + 0.3, 1.12, plastic, 0, 0.18)
        pole = (110, 110, 110) if sum(plastic[:3]) > 300 else (196, 196, 194)
        xs = neck.string_xs(y)
        mine = [string for string in xs if string * side >= -0.01]
        pen.discs([(string + offset, y + lower) for string in mine for offset in (-0.11, 0.11)], 0.09, pole)


def pickups(pen: Pen, style: str, neck: Neck, metal: Colour, plastic: Colour, rng: np.random.Generator) -> None:
    """Pickups between the fretboard's end and the bridge, in one of the style's usual sets."""
    room = -neck.end_y  # from the bridge to the board's end
    roll = rng.random()
    if neck.bass:
        _bass_pickups(pen, style, neck, metal, plastic, roll, room)
        return
    covered = metal if rng.random() < 0.6 else (22, 22, 24) if rng.random() < 0.7 else (226, 216, 190)
    front, back = -room + 0.95, -1.55
    if style in ("st", "offset") or (style == "superstrat" and roll < 0.3):
        if style == "offset" and roll < 0.5:
            for y in (front + 0.2, back - 0.2):
                _pickup(pen, _P90, y, neck, metal, plastic)
            return
        last = _HUMBUCKER if roll < 0.28 or style == "superstrat" else _SINGLE
        _pickup(
            pen,
            last,
            back + (0.1 if last == _SINGLE else -0.3),
            neck,
            covered,
            plastic,
            -0.17 if last == _SINGLE else 0,
        )
        _pickup(pen, _SINGLE, (front + back) / 2 - 0.1, neck, metal, plastic)
        _pickup(pen, _SINGLE, front - 0.2, neck, metal, plastic)
    elif style == "t":
        if roll < 0.75:
            pen.bar(0, -0.5, 3.3, 3.6, metal, 0, 0.1)
            pen.bar(-0.5, -0.6, 0.5, 3.2, (*shaded(metal, 1.2)[:3], 120))
        _pickup(pen, _SINGLE, back + 0.15, neck, metal, BLACK, -0.2)
        if roll < 0.8:
            pen.bar(0, front - 0.3, neck.half_width(front) * 2 + 0.55, 0.72, metal, 0, 0.2)
        else:
            _pickup(pen, _HUMBUCKER, front, neck, covered, plastic)
    elif style == "junior" or (style in ("single-cut", "archtop", "twin-horn") and roll < 0.18):
        _pickup(pen, _P90, back - 0.3, neck, metal, plastic)
        if roll < 0.5:
            _pickup(pen, _P90, front, neck, metal, plastic)
    else:
        _pickup(pen, _HUMBUCKER, back - 0.35, neck, covered, plastic)
        if style == "archtop" and roll < 0.5:
            return
        _pickup(pen, _HUMBUCKER, front, neck, covered, plastic)


def _bass_pickups(pen: Pen, style: str, neck: Neck, metal: Colour, plastic: Colour, roll: float, room: float) -> None:
    scale = neck.scale_in / 34
    if style == "p-bass":
        _split(pen, -5.4 * scale, neck, plastic)
        if roll < 0.3:
            _pickup(pen, "bar", -2.3 * scale, neck, metal, plastic)
    elif style == "j-bass":
        _pickup(pen, "bar", -6.2 * scale, neck, metal, plastic)
        _pickup(pen, "bar", -2.5 * scale, neck, metal, plastic)
    elif style == "mm-bass":
        _pickup(pen, "mm", -3.3 * scale, neck, metal, plastic)
        if roll < 0.3:
            _pickup(pen, "mm", -6.6 * scale, neck, metal, plastic)
    elif style in ("violin-bass", "semi-hollow-bass", "short-bass"):
        covered = metal if roll < 0.6 else BLACK
        if roll < 0.85:
            _pickup(pen, _HUMBUCKER, -room + 1.1, neck, covered, plastic)
        if roll > 0.2 or style != "short-bass":
            _pickup(pen, _HUMBUCKER if roll < 0.8 else "bar", -2.6 * scale, neck, covered, plastic)
    else:
        kind = "soap" if roll < 0.6 else "bar" if roll < 0.75 else "mm"
        _pickup(pen, kind, -5.9 * scale, neck, metal, plastic)
        _pickup(pen, kind, -2.5 * scale, neck, metal, plastic)


def tailpiece(pen: Pen, style: str, neck: Neck, metal: Colour, rng: np.random.Generator, end_y: float) -> float:
    """A guitar's bridge; returns the y at which the strings end. `end_y` is the body's end, for a trapeze."""
    reach = neck.spread_in / 2
    roll = rng.random()
    if style in ("single-cut", "twin-horn", "junior", "semi-hollow", "archtop") or (
        style in ("v", "angular") and roll < 0.6
    ):
        pen.bar(0.08, 0.1, reach * 2 + 1.1, 0.5, (0, 0, 0, 90), 0, 0.15)
        pen.bar(0, 0, reach * 2 + 1.05, 0.42, metal, 0.04, 0.15)
        pen.bar(0, 0, reach * 2 + 0.3, 0.2, shaded(metal, 0.6), 0.04)
        if style == "archtop" or (style == "semi-hollow" and roll < 0.2):
            y = end_y - 3.6
            pen.box(-0.9, y, 0.9, y + 0.7, metal)
            for x in (-0.7, 0.55):
                pen.box(x, y, x + 0.15, end_y, metal)
            return y
        if style == "semi-hollow" and roll < 0.4:  # a vibrato with its arm
            pen.box(-1.3, 3.0, 1.3, end_y - 0.2, metal)
            pen.bar(0, 2.9, 3.2, 0.5, shaded(metal, 1.1), 0, 0.2)
            pen.path(np.array(((1.4, 3.4), (2.4, 1.2), (2.9, -2.6))), 0.2, metal)
            return 2.9
        pen.bar(0.08, 1.75, reach * 2 + 1.8, 0.6, (0, 0, 0, 90), 0, 0.2)
        pen.bar(0, 1.65, reach * 2 + 1.75, 0.5, metal, 0, 0.2)
        pen.bar(0, 1.55, reach * 2 + 1.2, 0.12, (255, 255, 255, 120))
        return 1.65
    if style == "headless":
        pen.bar(0, 1.0, reach * 2 + 0.7, 2.4, metal, 0, 0.1)
        for x in neck.string_xs(0.0):
            pen.bar(x, 1.9, 0.24, 0.9, shaded(metal, 0.7))
        return 1.4
    if style in ("superstrat", "v", "angular") and roll < 0.6:  # a locking vibrato
        pen.bar(0.1, 0.7, reach * 2 + 1.3, 2.2, (0, 0, 0, 90), 0, 0.2)
        pen.bar(0, 0.55, reach * 2 + 1.2, 1.7, shaded(metal, 0.85), 0, 0.25)
        pen.bar(0, 1.9, reach * 2 + 0.6, 0.5, metal, 0, 0.1)
        _saddles(pen, neck, 0.22, 0.0, 0.7, shaded(metal, 0.55))
        pen.path(np.array(((reach + 0.3, 0.8), (reach + 1.3, 0.2), (reach + 1.9, -3.6))), 0.17, shaded(metal, 0.9))
        return 0.6
    if style != "t":
        pen.bar(0.08, 0.55, reach * 2 + 0.75, 1.7, (0, 0, 0, 80), 0, 0.1)
        pen.bar(0, 0.45, reach * 2 + 0.7, 1.6, metal, 0, 0.1)
        if roll < 0.35:
            pen.path(np.array(((reach + 0.1, 0.4), (reach + 0.9, -0.6), (reach + 1.5, -4.6))), 0.17, metal)
    _saddles(pen, neck, 0.26, 0.05, 0.75, shaded(metal, 0.7))
    return 0.9


def _saddles(pen: Pen, neck: Neck, wide: float, top: float, long: float, colour: Colour) -> None:
    for x in neck.string_xs(0.0):
        pen.bar(x, top + long / 2, wide, long, colour)


def bass_bridge(pen: Pen, style: str, neck: Neck, metal: Colour, rng: np.random.Generator, end_y: float) -> float:
    """A bass's bridge: a plate, one long saddle a string, or bridge and tailpiece; returns where the strings end."""
    reach = neck.spread_in / 2
    if style == "violin-bass" or (style == "semi-hollow-bass" and rng.random() < 0.4):
        pen.bar(0, 0, reach * 2 + 1.0, 0.5, (44, 30, 24), 0, 0.15)
        y = end_y - 2.6
        pen.box(-1.0, y, 1.0, y + 0.6, metal)
        for x in (-0.8, 0.6):
            pen.box(x, y, x + 0.2, end_y, metal)
        return y
    long = float(rng.uniform(2.0, 3.2))
    if style in ("modern-bass", "single-cut-bass") and rng.random() < 0.35:  # one bridge a string
        for x in neck.string_xs(0.0):
            pen.bar(x, long / 2 - 0.5, 0.55, long, metal, 0, 0.08)
            pen.bar(x, 0.1, 0.4, 0.5, shaded(metal, 0.55))
        return long - 0.7
    pen.bar(0.1, long / 2 - 0.3, reach * 2 + 0.95, long, (0, 0, 0, 90), 0, 0.12)
    pen.bar(0, long / 2 - 0.4, reach * 2 + 0.9, long, metal, 0, 0.12)
    pen.bar(0, long - 0.6, reach * 2 + 0.9, 0.3, shaded(metal, 1.15), 0, 0.1)
    for x in neck.string_xs(0.0):
        pen.bar(x, 0.35, 0.5, 1.3, shaded(metal, 0.62), 0, 0.08)
        pen.bar(x, 0.3, 0.22, 0.9, shaded(metal, 1.1))
    return long - 0.6


def acoustic_bridge(pen: Pen, neck: Neck, wood: Colour, classical: bool, pins: Colour) -> float:
    """A wooden bridge with its saddle: pins on steel strings, a tie block on nylon ones; returns the strings' end."""
    reach = neck.spread_in / 2
    if classical:
        pen.bar(0.08, 0.32, reach * 2 + 5.2, 1.1, (0, 0, 0, 60), 0, 0.1)
        pen.bar(0, 0.22, reach * 2 + 5.1, 1.05, shaded(wood, 1.15), 0, 0.1)
        pen.bar(0, 0.25, reach * 2 + 1.0, 1.15, wood)
        pen.bar(0, 0.5, reach * 2 + 0.9, 0.32, (222, 208, 176))
        pen.bar(0, 0.0, reach * 2 + 0.8, 0.13, (244, 240, 228))
        return 0.6
    half = reach + 2.0
    belly = spline(
        (
            (-half, -0.2),
            (-half + 0.4, -0.5),
            (0, -0.5),
            (half - 0.4, -0.5),
            (half, -0.2),
            (half, 0.45),
            (reach, 0.7),
            (0, 1.05),
            (-reach, 0.7),
            (-half, 0.45),
        )
    )
    pen.polygon(moved(belly, 0.1, 0.12), (0, 0, 0, 70))
    pen.polygon(belly, wood)
    pen.bar(0, 0, reach * 2 + 0.7, 0.15, (244, 240, 228), 0.04)
    xs = neck.string_xs(0.0)
    pen.discs([(x, 0.5) for x in (xs[::2] if neck.strings == 12 else xs)], 0.15 if neck.bass else 0.12, pins)
    return 0.5


def soundhole(pen: Pen, neck: Neck, radius: float, rosette: Points | None, wood: Colour, classical: bool) -> None:
    """The hole below the board's end, dark, with its rosette's rings."""
    y = neck.end_y + radius * 0.96
    accent = shaded(wood, 0.5)
    if classical:
        pen.disc(0, y, radius + 0.85, (112, 62, 36))
        pen.ring(0, y, radius + 0.85, 0.1, (40, 26, 20))
        pen.ring(0, y, radius + 0.62, 0.14, (196, 160, 96))
        pen.ring(0, y, radius + 0.4, 0.12, (52, 84, 60))
    else:
        pen.ring(0, y, radius + 0.55, 0.1, accent)
        pen.ring(0, y, radius + 0.42, 0.22, (232, 228, 214) if rosette is None else (60, 44, 36))
        pen.ring(0, y, radius + 0.2, 0.08, accent)
    pen.disc(0, y, radius, (42, 27, 19))
    pen.disc(0.16, y + 0.2, radius - 0.24, (22, 14, 11))


def f_holes(pen: Pen, body: Points, neck: Neck, both: bool) -> None:
    """f-holes beside the bridge."""
    x = body[:, 0].max() * 0.58
    size = float(body[:, 0].max() / 7.6)
    hole = _F_HOLE * size
    for side in (-1, 1) if both else (-1,):
        pen.polygon(hole * (side, 1) + (side * x, 0.4), (22, 15, 12))


def knobs(
    pen: Pen, body: Points, style: str, metal: Colour, plastic: Colour, rng: np.random.Generator, plate: bool
) -> None:
    """Volume and tone on the treble side, a selector, a jack; their number and place by style."""
    right, end = float(body[:, 0].max()), float(body[:, 1].max())
    radius = float(rng.uniform(0.3, 0.42))
    if style in ("single-cut", "semi-hollow", "archtop", "junior", "twin-horn", "semi-hollow-bass"):
        at = [
            (right * 0.5, end * 0.28),
            (right * 0.78, end * 0.42),
            (right * 0.42, end * 0.62),
            (right * 0.66, end * 0.72),
        ]
        if style in ("junior",):
            at = at[1:3]
        pen.disc(
            -3.6 if style == "single-cut" else right * 0.62,
            -7.6 if style == "single-cut" else end * 0.1,
            0.32,
            (214, 196, 150),
        )
    elif style in ("t", "j-bass"):
        y0 = -2.0 if style == "t" else -4.0
        pen.bar(right * 0.63, y0 + 2.4, 1.15, 6.0 if style == "t" else 5.4, metal, -0.12 if style == "t" else -0.3, 0.4)
        at = [(right * (0.56 + 0.06 * index), y0 + 0.9 + 1.5 * index) for index in range(3)]
    elif style == "violin-bass":
        pen.bar(right * 0.4, end * 0.55, 2.0, 1.4, plastic, -0.4, 0.2)
        at = [(right * 0.3, end * 0.5), (right * 0.5, end * 0.66)]
    else:
        count = int(rng.integers(2, 5))
        x0, y0 = right * 0.45, end * -0.05
        at = [(x0 + (right * 0.22) * index / 1.6, y0 + end * 0.23 * index) for index in range(count)]
    pen.discs([(x + 0.07, y + 0.08) for x, y in at], radius, (0, 0, 0, 110))
    knob = (plastic, metal, (30, 30, 32), (206, 160, 70))[int(rng.choice(4, p=(0.3, 0.35, 0.25, 0.1)))]
    pen.discs(at, radius, shaded(knob, 0.85))
    pen.discs([(x - 0.03, y - 0.03) for x, y in at], radius * 0.66, shaded(knob, 1.15))
    if plate:
        pen.disc(right * 0.8, end * 0.75, 0.36, metal)
