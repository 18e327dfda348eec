"""The embedded shop's stock, drawn from a seed: what a music shop sells, where, and which photographs it lacks.

The proportions are those of the shop that the job came from: 6,924 guitars and 1,076 basses in 8,000 photographs.
What a product looks like beyond its label (finish, hand, pose, ground) is drawn from the same distributions for both
labels: only what makes a bass a bass may tell them apart.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from crawler.shop.draw.finishes import ACOUSTIC_WEIGHTS, ELECTRIC_WEIGHTS
from crawler.shop.draw.spec import Spec

__all__ = ["Catalogue", "Category", "Product", "catalogue"]

GUITAR_SHARE = 6924 / 8000
NO_PHOTO_SHARE = 0.04
EXTRA_SHARE = 0.04
LEFT_HANDED_SHARE = 0.06
SECOND_CATEGORY_SHARE = 0.08
# A family is a product and its colour variants: the sizes and how often a model has them.
FAMILY_SIZES, FAMILY_WEIGHTS = (1, 2, 3, 4), (0.945, 0.03, 0.015, 0.01)


@dataclass(frozen=True, slots=True)
class Category:
    """A shelf of the shop; `parent` is the slug of the shelf it stands on, None at the top."""

    slug: str
    name: str
    parent: str | None


@dataclass(frozen=True, slots=True)
class Product:
    """One article.

    Attributes:
        id: unique article number.
        kind: 'guitar', 'bass', or what else it is ('amplifier', 'drum', 'case', 'strings', 'cable').
        maker: brand name, invented.
        name: model name, with strings, hand and finish where a shop says them.
        price_cents: price in euro cents.
        categories: one or two leaf categories' slugs, always of the same kind.
        family: colour variants of one model share this number.
        finish: the finish's name, '' where there is none.
        photo: False if the shop has no photograph and shows its default thumbnail.
        spec: what the photograph is drawn from.
    """

    id: int
    kind: str
    maker: str
    name: str
    price_cents: int
    categories: tuple[str, ...]
    family: int
    finish: str
    photo: bool
    spec: Spec


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The whole shop: `categories` from the top down, `products` in the shop's own order."""

    categories: tuple[Category, ...]
    products: tuple[Product, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class _Model:
    """A kind of instrument: how common it is, where it is filed, its string counts and scale lengths in inches."""

    style: str
    weight: float
    shelf: str
    strings: Mapping[int, float]
    scales_in: tuple[float, ...]
    acoustic: bool = False


_GUITARS: tuple[_Model, ...] = (
    _Model("st", 17, "st-models", {6: 1}, (25.5, 25.5, 24.75)),
    _Model("superstrat", 10, "heavy-guitars", {6: 8, 7: 2}, (25.5, 25.5, 26.0)),
    _Model("t", 8, "t-models", {6: 1}, (25.5,)),
    _Model("single-cut", 9, "single-cut-models", {6: 1}, (24.75,)),
    _Model("twin-horn", 3.5, "double-cut-models", {6: 1}, (24.75,)),
    _Model("junior", 2, "double-cut-models", {6: 1}, (24.75,)),
    _Model("offset", 4, "offset-models", {6: 1}, (25.5, 25.0, 24.0)),
    _Model("v", 1.8, "heavy-guitars", {6: 9, 7: 1}, (24.75, 25.5)),
    _Model("angular", 1.8, "heavy-guitars", {6: 9, 7: 1}, (24.75, 25.5)),
    _Model("headless", 2, "headless-guitars", {6: 7, 7: 3}, (25.5,)),
    _Model("semi-hollow", 6, "semi-hollow-guitars", {6: 1}, (24.75,)),
    _Model("archtop", 2, "semi-hollow-guitars", {6: 1}, (24.75, 25.5)),
    _Model("dreadnought", 13, "dreadnought-guitars", {6: 9, 12: 1}, (25.4,), True),
    _Model("auditorium", 7, "auditorium-guitars", {6: 19, 12: 1}, (25.4, 24.9), True),
    _Model("jumbo", 3, "jumbo-guitars", {6: 8, 12: 2}, (25.5,), True),
    _Model("parlor", 2, "parlor-guitars", {6: 1}, (24.9, 24.0), True),
    _Model("classical", 10, "concert-guitars", {6: 1}, (25.6, 25.6, 25.6, 24.0), True),
)
_BASSES: tuple[_Model, ...] = (
    _Model("p-bass", 22, "4-string-basses", {4: 9, 5: 1}, (34.0,)),
    _Model("j-bass", 24, "4-string-basses", {4: 7, 5: 3}, (34.0,)),
    _Model("mm-bass", 10, "4-string-basses", {4: 7, 5: 3}, (34.0,)),
    _Model("modern-bass", 20, "5-string-basses", {4: 3, 5: 5, 6: 2}, (34.0, 34.0, 35.0)),
    _Model("single-cut-bass", 4, "5-string-basses", {4: 1, 5: 5, 6: 3}, (34.0, 35.0)),
    _Model("short-bass", 7, "short-scale-basses", {4: 1}, (30.0, 30.0, 32.0)),
    _Model("violin-bass", 2.5, "semi-hollow-basses", {4: 1}, (30.0,)),
    _Model("semi-hollow-bass", 3.5, "semi-hollow-basses", {4: 1}, (30.5, 34.0)),
    _Model("acoustic-bass", 7, "acoustic-bass-guitars", {4: 8, 5: 2}, (34.0, 32.0, 30.0), True),
)

_SHELVES: tuple[tuple[str, str, str | None], ...] = (
    ("guitars-and-basses", "Guitars and Basses", None),
    ("electric-guitars", "Electric Guitars", "guitars-and-basses"),
    ("st-models", "ST-Models", "electric-guitars"),
    ("t-models", "T-Models", "electric-guitars"),
    ("single-cut-models", "Single Cut Models", "electric-guitars"),
    ("double-cut-models", "Double Cut Models", "electric-guitars"),
    ("offset-models", "Offset Models", "electric-guitars"),
    ("heavy-guitars", "Heavy Guitars", "electric-guitars"),
    ("headless-guitars", "Headless Guitars", "electric-guitars"),
    ("semi-hollow-guitars", "Semi-Hollow and Jazz Guitars", "electric-guitars"),
    ("7-string-guitars", "7-String Guitars", "electric-guitars"),
    ("left-handed-electric-guitars", "Left-Handed Electric Guitars", "electric-guitars"),
    ("acoustic-guitars", "Acoustic Guitars", "guitars-and-basses"),
    ("dreadnought-guitars", "Dreadnought Guitars", "acoustic-guitars"),
    ("auditorium-guitars", "Auditorium Guitars", "acoustic-guitars"),
    ("jumbo-guitars", "Jumbo Guitars", "acoustic-guitars"),
    ("parlor-guitars", "Parlor Guitars", "acoustic-guitars"),
    ("12-string-guitars", "12-String Guitars", "acoustic-guitars"),
    ("left-handed-acoustic-guitars", "Left-Handed Acoustic Guitars", "acoustic-guitars"),
    ("classical-guitars", "Classical Guitars", "guitars-and-basses"),
    ("concert-guitars", "Concert Guitars", "classical-guitars"),
    ("student-guitars", "Student Guitars", "classical-guitars"),
    ("left-handed-classical-guitars", "Left-Handed Classical Guitars", "classical-guitars"),
    ("electric-basses", "Electric Basses", "guitars-and-basses"),
    ("4-string-basses", "4-String Basses", "electric-basses"),
    ("5-string-basses", "5-String Basses", "electric-basses"),
    ("6-string-basses", "6-String Basses", "electric-basses"),
    ("short-scale-basses", "Short Scale Basses", "electric-basses"),
    ("semi-hollow-basses", "Semi-Hollow Basses", "electric-basses"),
    ("left-handed-basses", "Left-Handed Basses", "electric-basses"),
    ("acoustic-basses", "Acoustic Basses", "guitars-and-basses"),
    ("acoustic-bass-guitars", "Acoustic Bass Guitars", "acoustic-basses"),
    ("guitar-and-bass-amplifiers", "Guitar and Bass Amplifiers", "guitars-and-basses"),
    ("guitar-amplifiers", "Guitar Amplifiers", "guitar-and-bass-amplifiers"),
    ("bass-amplifiers", "Bass Amplifiers", "guitar-and-bass-amplifiers"),
    ("cases-and-bags", "Cases and Bags", "guitars-and-basses"),
    ("guitar-cases", "Guitar Cases", "cases-and-bags"),
    ("bass-cases", "Bass Cases", "cases-and-bags"),
    ("strings-and-cables", "Strings and Cables", "guitars-and-basses"),
    ("strings", "Strings", "strings-and-cables"),
    ("cables", "Instrument Cables", "strings-and-cables"),
    ("drums", "Drums", None),
    ("drum-kits", "Drum Kits", "drums"),
    ("snare-drums", "Snare Drums", "drums"),
)
# kind, style, shelf, name, cheapest and dearest in euros
_EXTRAS: tuple[tuple[str, str, str, str, int, int], ...] = (
    ("amplifier", "combo", "guitar-amplifiers", "Combo", 79, 1400),
    ("amplifier", "stack", "guitar-amplifiers", "Half Stack", 300, 2400),
    ("amplifier", "combo", "bass-amplifiers", "Bass Combo", 99, 1200),
    ("case", "bag", "guitar-cases", "Gigbag", 25, 160),
    ("case", "hard-case", "guitar-cases", "Hardcase", 60, 320),
    ("case", "bag", "bass-cases", "Bass Gigbag", 30, 180),
    ("strings", "string-set", "strings", "String Set", 5, 42),
    ("cable", "cable", "cables", "Instrument Cable", 6, 70),
    ("drum", "drum-kit", "drum-kits", "Drum Kit", 250, 2900),
    ("drum", "snare", "snare-drums", "Snare", 90, 700),
)

_MAKERS = (
    "Alderwick",
    "Bramhall",
    "Corvane",
    "Dunmere",
    "Eastholt",
    "Fenwright",
    "Gralla",
    "Hexley Bros.",
    "Ilmari",
    "Jardin & Sohn",
    "Kestrel Works",
    "Lorimar Sound",
    "Montesol",
    "Norrland",
    "Ostwind",
    "Pellegrin",
    "Quillon",
    "Rosswald",
    "Sagitta",
    "Tarn Hill",
    "Umbra Custom",
    "Valmorin",
    "Westerby",
    "Zephyrine",
)
_SERIES = (
    "Classic",
    "Standard",
    "Deluxe",
    "Custom",
    "Studio",
    "Vintage",
    "Artist",
    "Player",
    "Pro",
    "Heritage",
    "Road",
)
_LETTERS = "ABCDEGHKLMNPRSTVX"


def catalogue(products: int = 8000, seed: int = 0) -> Catalogue:
    """Stock the shop.

    Args:
        products: how many guitars and basses have a photograph; 8,000 gives 6,924 guitars and 1,076 basses. A few
            per cent more have none, and a few per cent more again are neither guitar nor bass.
        seed: the same seed gives the same shop.

    Raises:
        ValueError: if `products` is under 1.
    """
    if products < 1:
        raise ValueError(f"products must be 1 or more, got {products}")
    rng = random.Random(f"bassline shop {seed}")
    guitars = round(products * GUITAR_SHARE)
    families = itertools.count(1)
    stock = [
        *_stock(rng, "guitar", _GUITARS, guitars, families),
        *_stock(rng, "bass", _BASSES, products - guitars, families),
        *_extras(rng, max(len(_EXTRAS), round(products * EXTRA_SHARE)), families),
    ]
    rng.shuffle(stock)
    numbers = rng.sample(range(100_000, 100_000 + 40 * len(stock)), len(stock))
    return Catalogue(
        categories=tuple(Category(*shelf) for shelf in _SHELVES),
        products=tuple(replace(product, id=number) for product, number in zip(stock, numbers, strict=True)),
        seed=seed,
    )


def _stock(
    rng: random.Random, kind: str, models: tuple[_Model, ...], photos: int, families: Iterator[int]
) -> Iterator[Product]:
    """Products of one label, families together, exactly `photos` of them with a photograph."""
    left = photos
    while left > 0:
        size = min(rng.choices(FAMILY_SIZES, FAMILY_WEIGHTS)[0], left)
        yield from _family(rng, kind, models, size, next(families), photo=True)
        left -= size
    for _ in range(round(photos * NO_PHOTO_SHARE)):
        yield from _family(rng, kind, models, 1, next(families), photo=False)


def _family(
    rng: random.Random, kind: str, models: tuple[_Model, ...], size: int, family: int, *, photo: bool
) -> Iterator[Product]:
    model = rng.choices(models, [model.weight for model in models])[0]
    strings = rng.choices(tuple(model.strings), tuple(model.strings.values()))[0]
    left_handed = rng.random() < LEFT_HANDED_SHARE
    maker, price = rng.choice(_MAKERS), int(10 ** rng.uniform(2.05, 3.5))
    name = f"{rng.choice(_SERIES)} {rng.choice(_LETTERS)}{rng.choice(_LETTERS)}-{rng.randrange(1, 80) * 5}"
    suffix = "".join((f" {strings}" if strings not in (4, 6) else "", " LH" if left_handed else ""))
    scale, seed = rng.choice(model.scales_in), rng.getrandbits(48)
    shelves = _shelves(rng, kind, model, strings, left_handed)
    for finish in _finishes(rng, kind, model, size):
        yield Product(
            id=0,
            kind=kind,
            maker=maker,
            name=f"{name}{suffix} {finish}",
            price_cents=price * 100 - rng.choice((0, 0, 10, 100)),
            categories=shelves,
            family=family,
            finish=finish,
            photo=photo,
            spec=Spec(model.style, strings, scale, finish, left_handed, seed),
        )


def _finishes(rng: random.Random, kind: str, model: _Model, size: int) -> list[str]:
    """Distinct finishes for one family.

    Acoustic guitars are mostly natural. Basses draw from the mixture of all guitars' finishes, whatever their body,
    so that a finish says nothing about the label.
    """
    acoustic = model.acoustic
    if kind == "bass":
        total = sum(guitar.weight for guitar in _GUITARS)
        acoustic = rng.random() < sum(guitar.weight for guitar in _GUITARS if guitar.acoustic) / total
    weights = dict(ACOUSTIC_WEIGHTS if acoustic else ELECTRIC_WEIGHTS)
    chosen = []
    for _ in range(size):
        chosen.append(rng.choices(tuple(weights), tuple(weights.values()))[0])
        del weights[chosen[-1]]
    return chosen


def _shelves(rng: random.Random, kind: str, model: _Model, strings: int, left_handed: bool) -> tuple[str, ...]:
    """Where the product is filed: its own shelf, and sometimes a second one of the same kind."""
    shelf = model.shelf
    if kind == "bass" and shelf in ("4-string-basses", "5-string-basses"):
        shelf = f"{strings}-string-basses"
    if model.style == "classical" and rng.random() < 0.3:
        shelf = "student-guitars"
    parents = {slug: parent for slug, _, parent in _SHELVES}
    others = [slug for slug, parent in parents.items() if parent == parents[shelf] and slug != shelf]
    hand = [slug for slug in others if slug.startswith("left-handed")]
    if left_handed and hand:
        return (shelf, hand[0])
    named = f"{strings}-string-guitars"
    if named in others:
        return (shelf, named)
    plain = [slug for slug in others if slug not in hand and not slug[0].isdigit()]
    if plain and rng.random() < SECOND_CATEGORY_SHARE:
        return (shelf, rng.choice(plain))
    return (shelf,)


def _extras(rng: random.Random, count: int, families: Iterator[int]) -> Iterator[Product]:
    """Products that are neither guitar nor bass, each sort in turn, one in 25 without a photograph."""
    for index in range(count):
        kind, style, shelf, noun, cheapest, dearest = _EXTRAS[index % len(_EXTRAS)]
        finish = rng.choices(tuple(ELECTRIC_WEIGHTS), tuple(ELECTRIC_WEIGHTS.values()))[0] if kind == "drum" else ""
        yield Product(
            id=0,
            kind=kind,
            maker=rng.choice(_MAKERS),
            name=f"{rng.choice(_SERIES)} {rng.choice(_LETTERS)}-{rng.randrange(1, 80) * 5} {noun} {finish}".strip(),
            price_cents=rng.randrange(cheapest, dearest) * 100 - rng.choice((0, 10, 100)),
            categories=(shelf,),
            family=next(families),
            finish=finish,
            photo=rng.random() >= NO_PHOTO_SHARE,
            spec=Spec(style, 0, 0.0, finish or "Black", False, rng.getrandbits(48)),
        )
