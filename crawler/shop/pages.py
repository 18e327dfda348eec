"""The shop's pages, with the structure of the real shop's: what the selectors meet, and a person can browse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader

if TYPE_CHECKING:
    from crawler.shop.server import Shop
    from crawler.shop.stock import Article, Shelf

__all__ = ["CLOSED", "DEFAULT_IMAGE", "LAZY_IMAGE", "MAX_PER_PAGE", "PER_PAGE", "category_page", "product_page"]

SHOP_NAME = "Bassline Music"
LAZY_IMAGE = "/pics/images/misc/placeholder.svg"  # what img[src] holds on every item until a script swaps it
DEFAULT_IMAGE = "/thumb//thumb150x150/pics/images/misc/default.jpg"  # one of the two places of the "no photo" picture
CLOSED = "/gb/intern/"  # what robots.txt disallows; category pages link into it
PER_PAGE, MAX_PER_PAGE = 25, 100

_templates = Environment(
    loader=PackageLoader("crawler.shop"), autoescape=True, trim_blocks=True, lstrip_blocks=True, auto_reload=False
)


@dataclass(frozen=True, slots=True)
class _Card:
    """What a template shows of a product."""

    href: str
    maker: str
    name: str
    price: str
    webp: str
    jpeg: str


def category_page(shop: Shop, category: Shelf | None, *, page: int, per_page: int, closed: bool = False) -> str:
    """The HTML of a category's result page; the home page for `None`. A page past the end has no items.

    Args:
        page: from 1.
        per_page: at most MAX_PER_PAGE.
        closed: the copy of the page in the part that robots.txt disallows.
    """
    products = shop.products_in(category.slug) if category else []
    first = (page - 1) * per_page
    shown = products[first : first + per_page]
    children = [] if closed else shop.children_of(category.slug if category else None)
    links = [(child.name, f"/gb/{child.slug}.html") for child in children]
    if category and products and not closed:
        links.append((f"B-Stock {category.name}", f"{CLOSED}{category.slug}.html"))
    own = f"{CLOSED if closed else '/gb/'}{category.slug}.html" if category else "/"
    return _templates.get_template("category.html").render(
        shop_name=SHOP_NAME,
        title=category.name if category else "Everything for a band",
        crumbs=_crumbs(shop, category),
        links=links,
        products=[_card(shop, product) for product in shown],
        placeholder=LAZY_IMAGE,
        page=page,
        pages=max(1, -(-len(products) // per_page)),
        before=f"{own}?pg={page - 1}&ls={per_page}" if page > 1 else None,
        after=f"{own}?pg={page + 1}&ls={per_page}" if first + per_page < len(products) else None,
    )


def product_page(shop: Shop, product: Article) -> str:
    """The HTML of one product's own page."""
    listed = [(shop.category(slug).name, f"/gb/{slug}.html") for slug in product.categories]
    return _templates.get_template("product.html").render(
        shop_name=SHOP_NAME,
        title=f"{product.maker} {product.name}".strip(),
        crumbs=_crumbs(shop, shop.category(product.categories[0])),
        product=_card(shop, product),
        placeholder=LAZY_IMAGE,
        listed=listed,
    )


def _crumbs(shop: Shop, category: Shelf | None) -> Sequence[tuple[str, str]]:
    crumbs: list[tuple[str, str]] = []
    while category is not None:
        crumbs.append((category.name, f"/gb/{category.slug}.html"))
        category = shop.category(category.parent) if category.parent else None
    return crumbs[::-1]


def _card(shop: Shop, product: Article) -> _Card:
    jpeg = shop.thumbnail_path(product)
    return _Card(
        href=f"/gb/{shop.product_slug(product)}.htm",
        maker=product.maker,
        name=product.name,
        price=f"€ {product.price_cents / 100:,.2f}",
        webp=jpeg.removesuffix(".jpg") + ".webp",
        jpeg=jpeg,
    )
