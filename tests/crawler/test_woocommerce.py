"""A stock WooCommerce shop, as far as a crawler sees one, crawled whole with the site file that comes along.

The pages are written here after the structure of the default theme: sub-category tiles among the products, lazy
images, "add to cart", ordering and comparison links by the thousand, page/1 as a refresh to the category.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from crawler.advice import advice
from crawler.crawl import crawl
from crawler.limits import Limits
from crawler.report import DROPS_NAME
from crawler.site import load_site
from crawler.trial import try_page
from shards.shard_set import ShardSet

FAST = Limits(concurrency=16, per_host=16, rate_per_host=0, backoff_s=0.01, retries=0, total_s=10, read_s=5)
PER_PAGE = 4
TREE = {"guitars": ["electric", "acoustic"], "basses": [], "uncategorized": []}
STOCK = {
    "electric": [f"strat-{i}" for i in range(9)],
    "acoustic": [f"folk-{i}" for i in range(3)],
    "guitars": [],
    "basses": [*(f"jazz-bass-{i}" for i in range(4)), "gift-card"],
    "uncategorized": ["oddment"],
}
PATHS = {"electric": "guitars/electric", "acoustic": "guitars/acoustic"}
LAZY = "data:image/svg+xml,%3Csvg%20xmlns='http://www.w3.org/2000/svg'/%3E"


def address(slug: str) -> str:
    return f"/product-category/{PATHS.get(slug, slug)}/"


def sizes(name: str) -> str:
    return ", ".join(f"/wp-content/uploads/2026/01/{name}-{w}x{w}.jpg {w}w" for w in (600, 150, 300, 100))


def product(name: str, number: int) -> str:
    file = f"/wp-content/uploads/2026/01/{name}-150x150.jpg"
    if name == "gift-card":
        image = (
            '<img class="woocommerce-placeholder wp-post-image" src="/wp-content/uploads/woocommerce-placeholder.png">'
        )
    elif number % 3 == 0:  # a theme's own markup
        image = f'<img width="300" class="attachment-woocommerce_thumbnail" src="{file}" srcset="{sizes(name)}">'
    elif number % 3 == 1:  # a lazy-loading extension
        image = (
            f'<img class="attachment-woocommerce_thumbnail lazyload" src="{LAZY}" data-src="{file}"'
            f' data-srcset="{sizes(name)}"><noscript><img src="{file}"></noscript>'
        )
    else:  # another, that leaves the address to those without scripts
        image = (
            f'<img class="attachment-woocommerce_thumbnail" src="/lazy.gif">'
            f'<noscript><img src="{file}" srcset="{sizes(name)}"></noscript>'
        )
    return f"""<li class="product type-product post-{number} status-publish instock shipping-taxable purchasable">
<a href="/product/{name}/" class="woocommerce-LoopProduct-link woocommerce-loop-product__link">{image}
<h2 class="woocommerce-loop-product__title">{name.replace("-", " ").title()}</h2>
<span class="price"><span class="woocommerce-Price-amount amount"><bdi>12,50&nbsp;€</bdi></span></span></a>
<a href="?add-to-cart={number}" class="button add_to_cart_button ajax_add_to_cart">Add to cart</a>
<a href="?action=yith-woocompare-add-product&amp;id={number}" class="compare">Compare</a></li>"""


def listing(slug: str | None, page: int) -> str:
    names = STOCK[slug] if slug else []
    shown = names[(page - 1) * PER_PAGE : page * PER_PAGE]
    children = TREE if slug is None else TREE.get(slug, [])
    tiles = "".join(
        f'<li class="product-category product first"><a href="{address(child)}"><img src="/tile.jpg">'
        f'<h2 class="woocommerce-loop-category__title">{child.title()} <mark class="count">(9)</mark></h2></a></li>'
        for child in children
    )
    widget = "".join(
        f'<li class="cat-item"><a href="{address(top)}?orderby=price">{top.title()}</a></li>' for top in TREE
    )
    pages = -(-len(names) // PER_PAGE)
    links = (
        "".join(f'<a class="page-numbers" href="{address(slug)}page/{n}/">{n}</a>' for n in range(1, pages + 1))
        if slug
        else ""
    )
    if slug and page < pages:
        links += f'<a class="next page-numbers" href="{address(slug)}page/{page + 1}/">&rarr;</a>'
    crumbs = f'<a href="/">Home</a>&nbsp;&#47;&nbsp;{slug.title()}' if slug else "Shop"
    return f"""<!DOCTYPE html><html lang="en"><body class="archive woocommerce woocommerce-page">
<nav class="woocommerce-breadcrumb">{crumbs}</nav><ul class="product-categories">{widget}</ul>
<form class="woocommerce-ordering"><select name="orderby"></select></form>
<ul class="products columns-4">{tiles}{"".join(product(name, n) for n, name in enumerate(shown))}</ul>
<nav class="woocommerce-pagination"><ul class="page-numbers">{links}</ul></nav></body></html>"""


@pytest.fixture
async def woo(make_picture):
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        slugs = {address(slug): slug for slug in STOCK}
        path, _, page = request.path.partition("page/")
        if request.path == "/shop/":
            return web.Response(text=listing(None, 1), content_type="text/html")
        if path in slugs and page == "1/":
            refresh = f'<meta http-equiv="refresh" content="0;url={path}">'
            return web.Response(text=refresh, content_type="text/html")
        if path in slugs:
            return web.Response(text=listing(slugs[path], int(page.strip("/") or 1)), content_type="text/html")
        if path.startswith("/wp-content/uploads/2026/"):
            name, _, size = path.rsplit("/", 1)[1].removesuffix(".jpg").rpartition("-")
            side = int(size.split("x")[0])
            body = make_picture(sum(name.encode()) * 31, size=(side, side))
            return web.Response(body=body, content_type="image/jpeg")
        raise web.HTTPNotFound

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/shop/")), asked


def own_file(folder: Path, url: str, more: str = "") -> Path:
    path = folder / "mine.toml"
    path.write_text(
        f"""extends = "woocommerce"
[site]
name = "mine"
start = ["{url}"]
allow_private = ["127.0.0.1"]
[[labels.rules]]
label = "bass"
path = ["(?i)bass"]
[[labels.rules]]
label = "guitar"
path = ["(?i)guitar"]
{more}"""
    )
    return path


async def test_the_whole_shop(woo, tmp_path):
    url, asked = woo
    report = await crawl(load_site(own_file(tmp_path, url)), tmp_path / "set", limits=FAST)
    assert report.labels == {"guitar": 12, "bass": 4}
    assert report.dropped == {"rule": 1}  # its stand-in for no photo
    assert not report.problems
    with ShardSet.open(tmp_path / "set") as found:
        metas: list[dict[str, Any]] = [found.meta(i) for i in range(len(found))]
    assert {meta["width"] for meta in metas} == {300}  # of four widths, whichever way the image is lazy
    assert {meta["title"] for meta in metas} >= {"Strat 8", "Folk 0", "Jazz Bass 3"}
    paths = {"/".join(meta["label_path"]) for meta in metas}
    assert paths == {"Guitars/Electric", "Guitars/Acoustic", "Basses"}
    assert not [path for path in asked if any(trap in path for trap in ("?", "page/1/", "uncategorized"))]
    assert len(asked) == len(set(asked)) + 4  # each category page twice: explored, then read
    drops = [json.loads(line) for line in (tmp_path / "set" / DROPS_NAME).read_text().splitlines()]
    assert [row["product_url"].rsplit("/", 2)[1] for row in drops] == ["gift-card"]


async def test_its_breadcrumb_can_be_the_path(woo, tmp_path):
    url, _ = woo
    crumbs = '[listing]\nbreadcrumb = "nav.woocommerce-breadcrumb::text, nav.woocommerce-breadcrumb a::text"\n'
    await crawl(load_site(own_file(tmp_path, url, crumbs)), tmp_path / "set", limits=FAST)
    with ShardSet.open(tmp_path / "set") as found:
        assert {"/".join(found.meta(i)["label_path"]) for i in range(len(found))} == {"Home/Basses"}


async def test_by_category_without_rules(woo, tmp_path):
    url, _ = woo
    tables: dict[str, Any] = {"start": [url], "allow_private": ["127.0.0.1"]}
    report = await crawl(load_site("woocommerce", site=tables), tmp_path / "set", limits=FAST)
    assert report.labels == {"Guitars": 12, "Basses": 4}


async def test_a_page_is_tried(woo, tmp_path):
    url, _ = woo
    site = load_site(own_file(tmp_path, url))
    trial = await try_page(site, url.replace("/shop/", address("electric")), path=("Guitars",))
    counts = {found.key: (found.items, found.count) for found in trial.found}
    assert counts["listing.item"] == (None, 4)
    assert counts["listing.title"] == (4, 4)
    assert [(item.title, item.label, item.rule) for item in trial.items[:2]] == [
        ("Strat 0", "guitar", 2), ("Strat 1", "guitar", 2)
    ]  # fmt: skip
    assert trial.next_page
    assert trial.next_page.endswith("/product-category/guitars/electric/page/2/")
    assert trial.image
    assert "300x300" in trial.image
    assert "would be kept" in trial.image
    assert {link.why_not is None for link in trial.links} == {False}  # only the widget's, by price
    start = await try_page(site, url)
    assert [(link.text, link.label) for link in start.links if link.why_not is None] == [
        ("Guitars", "guitar"), ("Basses", "bass")
    ]  # fmt: skip


async def test_the_page_after_a_page_by_number(shop_url, site_at):
    site = site_at(shop_url)
    trial = await try_page(site, f"{shop_url}gb/st-models.html?pg=3&ls=2&sort=x")
    assert trial.next_page == f"{shop_url}gb/st-models.html?sort=x&pg=4&ls=100"
    assert trial.image


def test_nothing_is_amiss_in_what_comes_along():
    for name in ("thomann", "embedded", "folder", "woocommerce"):
        assert advice(load_site(name)) == []
