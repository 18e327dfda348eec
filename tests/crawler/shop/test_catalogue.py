"""The stock: exact counts, shelves that hang together, and nothing but the instrument that tells a bass."""

from __future__ import annotations

from collections import Counter

import pytest

from crawler.shop.catalogue import Catalogue, catalogue
from crawler.shop.draw.bodies import BODIES
from crawler.shop.draw.extras import EXTRAS
from crawler.shop.draw.finishes import FINISHES


@pytest.fixture(scope="module")
def shop() -> Catalogue:
    return catalogue()


def test_the_job_has_6924_guitars_and_1076_basses_with_a_photograph(shop: Catalogue) -> None:
    photographed = Counter(product.kind for product in shop.products if product.photo)
    assert (photographed["guitar"], photographed["bass"]) == (6924, 1076)
    assert set(photographed) == {"guitar", "bass", "amplifier", "drum", "case", "strings", "cable"}


@pytest.mark.parametrize("products", [1, 7, 40, 333])
def test_any_number_keeps_the_proportion(products: int) -> None:
    photographed = Counter(product.kind for product in catalogue(products).products if product.photo)
    assert photographed["guitar"] + photographed["bass"] == products
    assert photographed["guitar"] == round(products * 6924 / 8000)


def test_a_shop_needs_a_product() -> None:
    with pytest.raises(ValueError, match="1 or more, got 0"):
        catalogue(0)


def test_the_same_seed_gives_the_same_shop() -> None:
    assert catalogue(50, seed=3) == catalogue(50, seed=3)
    assert catalogue(50, seed=3).products != catalogue(50, seed=4).products


def test_categories_form_a_tree_and_products_lie_on_its_leaves(shop: Catalogue) -> None:
    slugs = {category.slug for category in shop.categories}
    parents = {category.parent for category in shop.categories}
    assert len(slugs) == len(shop.categories)
    assert parents <= slugs | {None}
    leaves = slugs - parents
    for product in shop.products:
        assert 1 <= len(product.categories) == len(set(product.categories)) <= 2
        assert leaves.issuperset(product.categories)
    assert {slug for product in shop.products for slug in product.categories} == leaves


def test_a_product_on_two_shelves_has_one_label(shop: Catalogue) -> None:
    kinds = {slug: product.kind for product in shop.products for slug in product.categories}
    assert all(kinds[slug] == product.kind for product in shop.products for slug in product.categories)
    twice = sum(len(product.categories) == 2 for product in shop.products) / len(shop.products)
    assert 0.1 < twice < 0.25


def test_some_products_lack_a_photograph_and_one_in_eight_has_colour_variants(shop: Catalogue) -> None:
    bare = sum(not product.photo for product in shop.products) / len(shop.products)
    assert 0.03 < bare < 0.05
    sizes = Counter(product.family for product in shop.products)
    assert 0.10 < sum(size for size in sizes.values() if size > 1) / len(shop.products) < 0.15
    assert max(sizes.values()) == 4


def test_colour_variants_differ_in_finish_alone(shop: Catalogue) -> None:
    families: dict[int, list] = {}
    for product in shop.products:
        families.setdefault(product.family, []).append(product)
    for members in families.values():
        assert len({product.finish for product in members}) == len(members)
        assert len({(product.kind, product.spec.seed, product.spec.style, product.maker) for product in members}) == 1


def test_ids_and_pictures_are_unique(shop: Catalogue) -> None:
    assert len({product.id for product in shop.products}) == len(shop.products)
    assert len({product.spec for product in shop.products}) == len(shop.products)


def test_every_style_and_finish_can_be_drawn(shop: Catalogue) -> None:
    assert {product.spec.style for product in shop.products} == set(BODIES) | set(EXTRAS)
    assert {product.spec.finish for product in shop.products} <= set(FINISHES)


@pytest.mark.parametrize("what", ["finish", "left_handed"])
def test_finish_and_hand_are_distributed_alike_in_both_labels(shop: Catalogue, what: str) -> None:
    shares = []
    for kind in ("guitar", "bass"):
        counts = Counter(getattr(product.spec, what) for product in shop.products if product.kind == kind)
        shares.append({value: count / counts.total() for value, count in counts.items()})
    distance = sum(abs(shares[0].get(value, 0) - shares[1].get(value, 0)) for value in {*shares[0], *shares[1]}) / 2
    assert distance < 0.12  # 1,100 draws of 48 finishes alone differ by 0.07
