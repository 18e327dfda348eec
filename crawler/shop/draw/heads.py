"""Headstocks and their tuners: in line or on both sides, solid or slotted, big ones for thick strings.

The nut is at (0, 0), the head goes up (negative y), the bass side is at the left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crawler.shop.draw.geometry import Points, mirrored, rounded, spline
from crawler.shop.draw.pen import Colour, Pen, shaded

__all__ = ["Head", "Tuners", "head_for", "inline", "slotted", "stub", "two_sided"]


@dataclass(frozen=True, slots=True)
class Tuners:
    """Sizes of one make of machine head in inches: post radius, how far the button stands off, its width and height."""

    post: float
    reach: float
    wide: float
    tall: float
    round: bool = True


GUITAR_TUNERS = Tuners(0.17, 0.5, 0.42, 0.34)
OPEN_TUNERS = Tuners(0.16, 0.62, 0.5, 0.42)
CLASSICAL_TUNERS = Tuners(0.0, 0.62, 0.42, 0.48)
BASS_TUNERS = Tuners(0.27, 0.78, 0.82, 0.9)
SMALL_BASS_TUNERS = Tuners(0.24, 0.6, 0.55, 0.62)


@dataclass(frozen=True, slots=True)
class Head:
    """A headstock relative to the nut: outline, posts in string order (bass first), the side of each button."""

    outline: Points
    posts: tuple[tuple[float, float], ...]
    sides: tuple[int, ...]
    tuners: Tuners
    inset: float = 0.5  # from the post to the head's edge
    slots: tuple[tuple[float, float, float, float], ...] = ()

    @property
    def extent(self) -> Points:
        """Points that bound head and buttons together."""
        reach = self.inset + self.tuners.reach + self.tuners.wide / 2
        buttons = [(x + side * reach, y) for (x, y), side in zip(self.posts, self.sides, strict=True)]
        return np.concatenate((self.outline, np.array(buttons))) if buttons else self.outline

    def draw_behind(self, pen: Pen, nut_y: float, metal: Colour, button: Colour) -> None:
        """Shafts and buttons, which the head covers in part."""
        for (x, y), side in zip(self.posts, self.sides, strict=True):
            edge = x + side * self.inset
            at = edge + side * self.tuners.reach
            pen.bar((x + at) / 2, y + nut_y, abs(at - x), 0.14, shaded(metal, 0.75))
            pen.bar(
                at, y + nut_y, self.tuners.wide, self.tuners.tall, shaded(button, 0.82), edge=self.tuners.tall * 0.25
            )
            pen.bar(
                at,
                y + nut_y - 0.04,
                self.tuners.wide * 0.7,
                self.tuners.tall * 0.6,
                button,
                edge=self.tuners.tall * 0.15,
            )

    def draw_posts(self, pen: Pen, nut_y: float, metal: Colour) -> None:
        """Bushings and posts, or rollers across the slots."""
        if self.slots:
            for left, top, right, bottom in self.slots:
                pen.bar(
                    (left + right) / 2, (top + bottom) / 2 + nut_y, right - left, bottom - top, (26, 20, 18), edge=0.18
                )
            for x, y in self.posts:
                pen.bar(x, y + nut_y, 0.55, 0.17, (226, 220, 200))
            return
        posts = [(x, y + nut_y) for x, y in self.posts]
        pen.discs(posts, self.tuners.post * 1.35, shaded(metal, 0.8))
        pen.discs([(x - 0.03, y - 0.03) for x, y in posts], self.tuners.post * 0.8, shaded(metal, 1.12))


def inline(strings: int, nut_in: float, bass: bool, shape: str, other_side: int = 0) -> Head:
    """All tuners in a row on the bass side, `other_side` of them moved across (4+1).

    Args:
        shape: 'scroll' (a round bulb at the end), 'slim' (a narrower one), 'blade' (pointed), 'block' (plain).
    """
    row = strings - other_side
    step = 1.62 if bass else 0.98
    first = -1.75 if bass else -1.35
    last = first - step * (row - 1)
    half, inset = nut_in / 2, 0.62 if bass else 0.46
    lean = {"scroll": 1.25, "slim": 0.9, "blade": 1.35, "block": 0.8}[shape]
    x0, x1 = -half - 0.02, -half + lean
    posts = [(x0 + (x1 - x0) * index / max(row - 1, 1), first - step * index) for index in range(row)]
    k = 1.25 if bass else 1.0
    edge: list[tuple[float, ...]] = [
        (half, 0, 1),
        (-half, 0, 1),
        (-half - 0.06, -0.45 * k),
        (x0 - inset + 0.06, first + 0.55 * k),
        (x0 - inset, first + 0.25 * k, 1),
        (x1 - inset, last - 0.45 * k, 1),
    ]
    if shape == "blade":
        tip = last - 1.5 * k
        edge += [(x1 + 0.35, tip, 1), (x1 + 0.75, last + 0.4, 0), (half + 0.55, first - 1.6 * k), (half + 0.12, -0.8)]
    elif shape == "block":
        edge += [
            (x1 - 0.2, last - 0.95 * k, 1), (x1 + 0.75 * k, last - 0.7 * k, 1), (x1 + 0.62 * k, last + 0.8),
            (half + 0.35, first - 1.2 * k), (half + 0.1, -0.7),
        ]  # fmt: skip
    else:
        big = 1.0 if shape == "scroll" else 0.72
        edge += [
            (x1 - 0.1, last - 0.95 * k), (x1 + 0.55 * big, last - 1.2 * k), (x1 + 1.2 * big, last - 0.85 * k),
            (x1 + 1.3 * big, last - 0.2), (x1 + 0.95 * big, last + 0.45 * k), (x1 + 0.75 * big, last + 0.95 * k),
            (half + 0.85 * big, (first + last) / 2 - 0.2), (half + 0.95 * big, first - 0.9 * k),
            (half + 0.55 * big, first + 0.1), (half + 0.12, -0.55 * k),
        ]  # fmt: skip
    sides = [-1] * row
    if other_side:
        posts.append((half + 0.2, first - 1.9))
        sides.append(1)
    return Head(spline(edge), tuple(posts), tuple(sides), BASS_TUNERS if bass else GUITAR_TUNERS, inset)


def two_sided(left: int, right: int, nut_in: float, bass: bool, shape: str, tuners: Tuners | None = None) -> Head:
    """Tuners on both sides; string order runs up the left row and down the right one.

    Args:
        shape: 'book' (flared with a dip on top), 'square', 'taper' (narrowing), 'crown', 'round'.
    """
    rows = max(left, right)
    step = {True: 1.75, False: 1.45 if rows <= 3 else 0.78}[bass] if not (bass and rows > 2) else 1.55
    first = -1.9 if bass else -1.55
    last = first - step * (rows - 1)
    half, inset = nut_in / 2, 0.6 if bass else 0.48
    k = 1.3 if bass else 1.0
    spread = {
        "book": (0.38, 0.72),
        "square": (0.5, 0.52),
        "taper": (0.55, 0.1),
        "crown": (0.42, 0.5),
        "round": (0.5, 0.6),
    }[shape]
    low, high = half + spread[0] * k, half + spread[1] * k
    top = last - 1.25 * k
    crest: dict[str, list[tuple[float, ...]]] = {
        "book": [(0, top + 0.32, 1), (high * 0.45, top - 0.12), (high + 0.1, top, 1), (high - 0.04, top + 0.55)],
        "square": [(0, top), (high * 0.6, top, 0), (high, top + 0.02, 1)],
        "taper": [(0, top + 0.1), (high * 0.7, top + 0.02, 0), (high, top + 0.3, 1)],
        "crown": [(0, top - 0.18), (high * 0.35, top + 0.02), (high * 0.7, top - 0.12), (high, top + 0.12, 1)],
        "round": [(0, top), (high * 0.55, top + 0.12), (high * 0.95, top + 0.75)],
    }
    side: list[tuple[float, ...]] = [
        (low + (high - low) * 0.5, (first + last) / 2), (low, first + 0.35), (half + 0.06, -0.4 * k), (half, 0, 1),
        (0, 0, 1),
    ]  # fmt: skip
    posts = []
    for count, sign in ((left, -1), (right, 1)):
        ys = [first - step * index for index in range(count)]
        row = [(sign * (low + (high - low) * (first - y) / max(first - last, 0.1) - inset), y) for y in ys]
        posts += row if sign < 0 else row[::-1]
    chosen = tuners or (BASS_TUNERS if bass else GUITAR_TUNERS)
    return Head(spline(mirrored([*crest[shape], *side])), tuple(posts), (-1,) * left + (1,) * right, chosen, inset)


def slotted(nut_in: float, strings: int = 6) -> Head:
    """The classical guitar's head: two slots, rollers across them, pearl buttons at the sides."""
    half = nut_in / 2
    wide, top = half + 0.42, -6.9
    outline = spline(
        mirrored(
            [
                (0, top - 0.12), (wide * 0.3, top - 0.05), (wide * 0.5, top + 0.2), (wide * 0.9, top + 0.05),
                (wide, top + 0.4, 1),
                (wide - 0.06, -3.5), (wide - 0.12, -1.1), (half + 0.02, -0.5), (half, 0, 1), (0, 0, 1),
            ]
        )
    )  # fmt: skip
    rows = strings // 2
    ys = [-1.9 - 3.5 / (rows - 1) * index for index in range(rows)]
    x = wide * 0.55
    posts = (*((-x, y) for y in ys), *((x, y) for y in reversed(ys)))
    slots = tuple((sign * x - 0.27, -6.1, sign * x + 0.27, -1.2) for sign in (-1, 1))
    return Head(outline, posts, (-1,) * rows + (1,) * rows, CLASSICAL_TUNERS, wide - x, slots)


def stub(nut_in: float) -> Head:
    """No head: a clamp just behind the nut."""
    half = nut_in / 2 + 0.05
    return Head(rounded(((-half, 0), (half, 0), (half, -1.1), (-half, -1.1)), 2, 0.2), (), (), GUITAR_TUNERS)


def head_for(style: str, strings: int, nut_in: float, rng: np.random.Generator) -> Head:
    """The headstock that makers put on such an instrument, one of several."""
    roll = rng.random()
    if style == "headless" or (style in ("modern-bass", "single-cut-bass") and roll < 0.06):
        return stub(nut_in)
    if "bass" in style:
        return _bass_head(style, strings, nut_in, roll, rng)
    if style == "classical":
        return slotted(nut_in)
    pair = (strings // 2 + strings % 2, strings // 2)
    if style in ("dreadnought", "auditorium", "jumbo", "parlor"):
        if strings == 6 and roll < (0.45 if style == "parlor" else 0.05):
            return slotted(nut_in)
        shape = ("square", "square", "crown", "taper", "round", "book")[rng.integers(6)]
        return two_sided(*pair, nut_in, False, shape, OPEN_TUNERS if rng.random() < 0.25 else None)
    if style in ("st", "offset", "t") and roll < 0.9:
        return inline(strings, nut_in, False, "slim" if style == "t" or roll > 0.7 else "scroll")
    if style in ("superstrat", "v", "angular") and roll < (0.75 if style == "superstrat" else 0.4):
        head = inline(strings, nut_in, False, "blade" if roll < 0.5 else "block")
        if rng.random() < 0.25:  # reversed: the tuners below
            flip = np.array((-1.0, 1.0))
            posts = tuple((-x, y) for x, y in reversed(head.posts))
            return Head(head.outline * flip, posts, (1,) * strings, head.tuners, head.inset)
        return head
    return two_sided(*pair, nut_in, False, ("book", "book", "taper", "crown", "round")[rng.integers(5)])


def _bass_head(style: str, strings: int, nut_in: float, roll: float, rng: np.random.Generator) -> Head:
    pair = (strings // 2 + strings % 2, strings // 2)
    if style in ("p-bass", "j-bass") and roll < 0.93:
        return inline(
            strings, nut_in, True, "scroll" if roll < 0.7 else "slim", 1 if strings == 5 and roll < 0.3 else 0
        )
    if style == "mm-bass":  # three or four on the bass side, one across
        return inline(strings, nut_in, True, "slim", 1)
    if style == "short-bass" and roll < 0.4:
        return inline(strings, nut_in, True, "slim")
    small = SMALL_BASS_TUNERS if strings > 4 or rng.random() < 0.45 else BASS_TUNERS
    shapes = (
        ("taper", "crown", "square", "round")
        if style not in ("violin-bass", "semi-hollow-bass")
        else ("book", "crown", "round")
    )
    return two_sided(*pair, nut_in, True, shapes[rng.integers(len(shapes))], small)
