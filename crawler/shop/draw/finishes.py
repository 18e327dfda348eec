"""The paint shop: what a finish is called, what it is made of, and how often makers choose it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ACOUSTIC_WEIGHTS", "ELECTRIC_WEIGHTS", "FINISHES", "Finish", "Kind"]

Kind = Literal["solid", "metallic", "burst", "natural", "flame", "stain"]
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Finish:
    """One finish: `colours` run from the centre of the body to its rim (one colour if there is no burst)."""

    name: str
    kind: Kind
    colours: tuple[Colour, ...]
    electric: float
    acoustic: float


_TABLE: tuple[Finish, ...] = (
    # name, kind, colours from centre to rim, how common on electric bodies, how common on acoustic ones
    Finish("Black", "solid", ((16, 16, 18),), 10, 8),
    Finish("Olympic White", "solid", ((236, 230, 212),), 5, 1),
    Finish("Arctic White", "solid", ((244, 244, 243),), 4, 1),
    Finish("Vintage Cream", "solid", ((232, 214, 168),), 2, 0),
    Finish("Torino Red", "solid", ((186, 20, 26),), 4, 1),
    Finish("Daphne Blue", "solid", ((140, 192, 206),), 2, 0),
    Finish("Sonic Blue", "solid", ((176, 214, 220),), 1.5, 0),
    Finish("Surf Green", "solid", ((158, 206, 176),), 2, 0),
    Finish("Seafoam Green", "solid", ((138, 190, 160),), 1, 0),
    Finish("Shell Pink", "solid", ((240, 184, 172),), 1.5, 0.5),
    Finish("Butterscotch", "stain", ((220, 168, 88),), 2, 0.5),
    Finish("Racing Yellow", "solid", ((240, 196, 40),), 1, 0),
    Finish("Hot Orange", "solid", ((226, 92, 28),), 1, 0),
    Finish("British Green", "solid", ((24, 62, 44),), 1, 0),
    Finish("Matt Grey", "solid", ((92, 94, 98),), 2, 0.5),
    Finish("Navy", "solid", ((24, 36, 84),), 1, 0.5),
    Finish("Lake Placid Blue", "metallic", ((42, 104, 164),), 3, 0.5),
    Finish("Candy Apple Red", "metallic", ((162, 18, 28),), 3, 0.5),
    Finish("Silver", "metallic", ((172, 176, 180),), 2, 0),
    Finish("Gunmetal", "metallic", ((72, 78, 86),), 2, 0),
    Finish("Gold Top", "metallic", ((198, 160, 82),), 1.5, 0),
    Finish("Burgundy Mist", "metallic", ((140, 72, 88),), 1, 0),
    Finish("Purple Metallic", "metallic", ((88, 44, 128),), 1, 0),
    Finish("3-Tone Sunburst", "burst", ((226, 164, 62), (150, 44, 20), (24, 14, 12)), 8, 5),
    Finish("2-Tone Sunburst", "burst", ((222, 168, 84), (40, 24, 16)), 3, 2),
    Finish("Tobacco Burst", "burst", ((206, 134, 58), (112, 60, 24), (30, 18, 12)), 3, 3),
    Finish("Honey Burst", "burst", ((232, 176, 88), (184, 104, 40)), 2, 1),
    Finish("Cherry Burst", "burst", ((236, 176, 84), (196, 60, 36), (132, 20, 22)), 4, 2),
    Finish("Blue Burst", "burst", ((96, 164, 208), (24, 60, 128), (10, 18, 48)), 1.5, 2),
    Finish("Black Cherry Burst", "burst", ((150, 34, 34), (84, 16, 22), (16, 8, 10)), 2, 1.5),
    Finish("Natural", "natural", ((224, 182, 124),), 4, 24),
    Finish("Natural Satin", "natural", ((216, 170, 112),), 2, 16),
    Finish("Spruce Natural", "natural", ((234, 202, 146),), 1, 16),
    Finish("Aged Natural", "natural", ((214, 152, 82),), 2, 9),
    Finish("Mahogany", "natural", ((136, 76, 46),), 3, 8),
    Finish("Walnut", "natural", ((104, 70, 46),), 2, 3),
    Finish("Koa", "natural", ((168, 104, 54),), 0.5, 3),
    Finish("Cherry Red", "stain", ((136, 26, 24),), 4, 2),
    Finish("Transparent Red", "stain", ((160, 30, 34),), 2, 1),
    Finish("Transparent Blue", "stain", ((30, 84, 150),), 2, 1.5),
    Finish("Transparent Black", "stain", ((54, 50, 50),), 2, 1.5),
    Finish("Transparent Green", "stain", ((48, 104, 66),), 1, 0.5),
    Finish("Flamed Amber", "flame", ((226, 152, 52), (178, 96, 28)), 2, 0.5),
    Finish("Flamed Sunburst", "flame", ((230, 158, 62), (160, 56, 28), (60, 24, 16)), 2, 0.5),
    Finish("Flamed Cherry", "flame", ((206, 96, 44), (150, 30, 28)), 2, 0.5),
    Finish("Flamed Blue", "flame", ((64, 136, 186), (20, 56, 116)), 2, 0.5),
    Finish("Flamed Charcoal", "flame", ((128, 124, 122), (40, 40, 42)), 1.5, 0.5),
    Finish("Flamed Purple", "flame", ((134, 78, 160), (52, 26, 82)), 1, 0.25),
)

FINISHES: dict[str, Finish] = {finish.name: finish for finish in _TABLE}
ELECTRIC_WEIGHTS: dict[str, float] = {finish.name: finish.electric for finish in _TABLE}
ACOUSTIC_WEIGHTS: dict[str, float] = {finish.name: finish.acoustic for finish in _TABLE}
