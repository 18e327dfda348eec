"""The same shop some months later: what a second crawl of it should find changed, and nothing else."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from crawler.shop.catalogue import Catalogue, Product
from crawler.shop.draw.spec import Spec

__all__ = ["Restocked", "restocked"]


@dataclass(frozen=True, slots=True)
class Restocked:
    """A catalogue later on.

    Attributes:
        catalogue: what is sold now, in the shop's order; new products stand where they were put in.
        gone: numbers of products no longer sold.
        renewed: numbers of products that have a new photograph at the old address.
        added: numbers of new products.
    """

    catalogue: Catalogue
    gone: frozenset[int]
    renewed: frozenset[int]
    added: frozenset[int]

    @property
    def to_draw(self) -> tuple[Product, ...]:
        """Products whose photographs the shop did not have before."""
        return tuple(p for p in self.catalogue.products if p.id in self.renewed or p.id in self.added)


def restocked(before: Catalogue, share: float, seed: int = 0) -> Restocked:
    """Takes as many products out, photographs as many anew and puts as many in.

    Args:
        before: the catalogue.
        share: of the products with a photograph, how many change in each of the three ways, 0 to 0.5; at least one.
        seed: the same seed changes the same products.

    Raises:
        ValueError: if `share` is out of bounds.
    """
    if not 0 <= share <= 0.5:
        raise ValueError(f"share must be from 0 to 0.5, got {share}")
    rng = random.Random(f"bassline restock {before.seed} {seed}")
    shown = [product for product in before.products if product.photo]
    count = min(max(1, round(share * len(shown))), len(shown) // 2) if share else 0
    picked = rng.sample(shown, 2 * count)
    gone = frozenset(product.id for product in picked[:count])
    renewed = frozenset(product.id for product in picked[count:])
    number = max(product.id for product in before.products)
    added = {rng.randrange(len(before.products)): rng.choice(shown) for _ in range(count)}
    products: list[Product] = []
    new: set[int] = set()
    for place, product in enumerate(before.products):
        if place in added:
            number += 1
            model = added[place]
            name = f"{model.name} Anniversary {number % 100}"
            products.append(replace(model, id=number, name=name, family=number, spec=_other(rng, model)))
            new.add(number)
        if product.id in renewed:
            products.append(replace(product, spec=_other(rng, product)))
        elif product.id not in gone:
            products.append(product)
    return Restocked(replace(before, products=tuple(products)), gone, renewed, frozenset(new))


def _other(rng: random.Random, product: Product) -> Spec:
    return replace(product.spec, seed=rng.getrandbits(48))
