"""Pickguards in inches, as they lie on the bodies of `bodies.py`; they are clipped to the body when painted."""

from __future__ import annotations

import numpy as np

from crawler.shop.draw.geometry import Points, moved, rounded, spline

__all__ = ["PLASTICS", "guard_for"]

# colour and how strong its cloudy pattern is
PLASTICS: dict[str, tuple[tuple[int, int, int], float]] = {
    "white": ((240, 240, 236), 0.0),
    "parchment": ((228, 222, 204), 0.0),
    "mint": ((214, 226, 200), 0.0),
    "black": ((24, 24, 26), 0.0),
    "tortoise": ((92, 34, 24), 0.35),
    "brown tortoise": ((70, 44, 26), 0.3),
    "cream": ((236, 216, 170), 0.0),
    "pearl": ((216, 214, 210), 0.07),
}

_ST = spline((
    (-1.2, -7.1, 1), (-2.4, -8.1), (-3.6, -8.9), (-4.5, -8.6), (-4.4, -7.0), (-3.8, -4.6), (-3.4, -2.4), (-2.7, -0.9),
    (-1.7, -0.75, 1), (1.7, -0.75, 1), (2.0, 0.6), (3.0, 2.4), (4.4, 3.5), (5.4, 3.0), (5.3, 1.2), (4.5, -0.9),
    (4.1, -2.8), (4.3, -4.8), (4.8, -6.6), (4.5, -7.4), (3.6, -7.0), (2.4, -5.9), (1.2, -5.6, 1),
))  # fmt: skip
_T = spline((
    (-1.2, -8.4, 1), (-2.8, -8.5), (-4.6, -8.2), (-5.2, -7.0), (-4.9, -5.4), (-4.4, -3.8), (-3.4, -2.5),
    (-1.8, -2.3, 1), (1.8, -2.3, 1), (3.0, -2.0), (4.2, -3.0), (4.6, -5.0), (4.9, -6.6), (4.3, -7.5), (3.4, -7.1),
    (2.2, -5.9), (1.2, -6.0, 1),
))  # fmt: skip
_LP = spline(
    (
        (1.3, -7.0, 1),
        (1.55, -7.0, 1),
        (2.6, -6.0),
        (3.5, -4.0),
        (3.3, -1.6),
        (2.4, -0.4),
        (1.9, -0.5, 1),
        (1.9, -5.0, 1),
    )
)
_SG = spline((
    (-1.2, -5.8, 1), (-1.9, -6.2), (-3.4, -7.4), (-4.1, -7.4), (-4.2, -5.4), (-3.7, -3.4), (-2.6, -2.6),
    (-1.6, -2.4, 1), (1.6, -2.4, 1), (2.4, -0.8), (3.6, -0.6), (4.2, -2.6), (4.3, -5.2), (4.2, -7.0), (3.4, -7.2),
    (2.2, -6.2), (1.2, -5.8, 1),
))  # fmt: skip
_OFFSET = spline((
    (-1.2, -7.0, 1), (-2.8, -8.4), (-4.4, -9.4), (-5.0, -8.4), (-4.6, -6.0), (-4.2, -3.6), (-4.4, -1.4), (-4.4, 0.8),
    (-2.8, 1.0), (-1.8, 0.4, 1), (1.8, 0.4, 1), (2.2, 2.6), (3.6, 4.6), (5.2, 4.2), (5.4, 2.4), (4.6, 0.2), (4.2, -2.2),
    (4.6, -4.6), (5.0, -6.2), (4.4, -6.8), (3.2, -6.2), (1.9, -5.4), (1.2, -5.4, 1),
))  # fmt: skip
_P = spline((
    (-1.3, -10.9, 1), (-2.2, -11.9), (-3.3, -12.9), (-4.2, -12.6), (-4.3, -11.0), (-3.8, -8.8), (-3.3, -6.8),
    (-2.4, -4.9), (-1.0, -3.8), (0.8, -3.6), (1.9, -2.6), (2.8, -0.4), (4.2, 1.5), (5.4, 1.5), (5.5, 0.0), (4.9, -2.2),
    (4.3, -4.4), (4.0, -6.6), (4.4, -8.8), (4.9, -10.6), (4.5, -11.2), (3.6, -10.6), (2.4, -9.2), (1.3, -8.8, 1),
))  # fmt: skip
_J = spline((
    (-1.3, -10.9, 1), (-2.2, -11.9), (-3.4, -13.1), (-4.2, -12.8), (-4.2, -11.2), (-3.7, -9.0), (-3.2, -7.2),
    (-2.4, -6.3, 1), (-2.4, -5.6, 1), (2.3, -5.6, 1), (2.4, -4.6), (3.4, -3.8), (4.3, -4.6), (4.0, -6.6), (4.4, -8.8),
    (4.9, -10.4), (4.5, -11.0), (3.6, -10.4), (2.4, -9.1), (1.3, -8.8, 1),
))  # fmt: skip
_MM = spline(
    (
        (-1.3, -10.6, 1),
        (-3.4, -10.4),
        (-3.6, -7.4),
        (-2.6, -5.4),
        (0.0, -5.2),
        (2.8, -5.0),
        (4.0, -6.4),
        (3.8, -8.4),
        (2.4, -8.8),
        (1.3, -8.9, 1),
    )
)
_VIOLIN = spline(((1.5, -8.0, 1), (2.6, -6.6), (2.7, -4.2), (3.6, -1.6), (3.0, -0.6), (1.9, -1.0), (1.7, -4.4)))
_DROP = spline(
    ((1.95, -6.4), (2.2, -4.0), (2.0, -3.2), (3.0, -2.3), (4.4, -2.6), (4.8, -3.6), (3.9, -5.2), (2.9, -6.6))
)
_V = rounded(((-0.6, -4.0), (1.6, -4.0), (5.6, 5.6), (4.8, 5.8), (0.6, 1.4), (-0.8, 1.2)), 2)

_GUARDS: dict[str, tuple[Points, float, tuple[str, ...]]] = {
    # style: shape, share of instruments that have one, plastics
    "st": (_ST, 0.88, ("white", "white", "mint", "parchment", "black", "tortoise", "pearl")),
    "superstrat": (_ST, 0.08, ("black", "white")),
    "t": (_T, 0.9, ("white", "black", "parchment", "mint", "tortoise")),
    "single-cut": (_LP, 0.55, ("cream", "black", "white")),
    "twin-horn": (_SG, 0.6, ("black", "black", "white", "tortoise")),
    "junior": (_SG, 0.55, ("tortoise", "black", "white")),
    "offset": (_OFFSET, 0.92, ("tortoise", "white", "mint", "parchment", "black")),
    "v": (_V, 0.35, ("white", "black")),
    "semi-hollow": (_LP, 0.5, ("black", "cream", "tortoise")),
    "archtop": (_LP, 0.75, ("black", "tortoise", "brown tortoise")),
    "dreadnought": (_DROP, 0.72, ("black", "tortoise", "brown tortoise")),
    "auditorium": (_DROP, 0.6, ("brown tortoise", "tortoise", "black")),
    "jumbo": (_DROP, 0.75, ("tortoise", "black", "brown tortoise")),
    "parlor": (_DROP, 0.35, ("tortoise", "brown tortoise")),
    "p-bass": (_P, 0.84, ("white", "mint", "black", "black", "tortoise", "brown tortoise")),
    "j-bass": (_J, 0.8, ("parchment", "pearl", "black", "black", "tortoise", "brown tortoise")),
    "mm-bass": (_MM, 0.7, ("white", "black", "parchment", "tortoise")),
    "short-bass": (_MM, 0.5, ("white", "black", "tortoise", "parchment")),
    "violin-bass": (_VIOLIN, 0.8, ("pearl", "tortoise", "black")),
    "semi-hollow-bass": (_VIOLIN, 0.3, ("black", "cream")),
    "acoustic-bass": (moved(_DROP, 0.0, -2.6), 0.4, ("black", "tortoise", "brown tortoise")),
}


def guard_for(style: str, stretch: float, rng: np.random.Generator) -> tuple[Points, str] | None:
    """The pickguard's outline, moved along with a neck `stretch` times as long, and its plastic; None without."""
    if style not in _GUARDS:
        return None
    shape, share, plastics = _GUARDS[style]
    has, plastic = rng.random() < share, plastics[rng.integers(len(plastics))]
    if not has:
        return None
    points = shape * (rng.normal(1, 0.02), 1.0)
    points[:, 1] *= np.where(points[:, 1] < 0, stretch, 1.0)
    return points, plastic
