"""A finished set once more: over the embedded shop some months later, and over shops that are made to change."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from crawler.crawl import crawl
from crawler.crawl_errors import NothingFound
from crawler.frontier import LEDGER_NAME
from crawler.limits import Limits
from crawler.report import DROPS_NAME, CrawlReport
from crawler.shop.catalogue import Catalogue, catalogue
from crawler.shop.render import default_thumbnail
from crawler.shop.restock import Restocked, restocked
from crawler.shop.server import Shop, application
from shards.shard_set import ShardSet
from shards.verify import verify

FAST = Limits(concurrency=16, per_host=16, rate_per_host=0, backoff_s=0.01, retries=0, total_s=10, read_s=2)


@pytest.fixture(scope="module")
def stock() -> Catalogue:
    """Small, for it is crawled often."""
    return catalogue(90, seed=3)


@pytest.fixture(scope="module")
def photos(stock, make_picture) -> dict[int, bytes]:
    return {product.id: make_picture(product.id) for product in stock.products if product.photo}


class Street:
    """One address where shops come and go; counts what is asked, and answers 500 for what `broken` says."""

    def __init__(self) -> None:
        self.broken: tuple[str, ...] = ()
        self.statuses: dict[int, int] = {}
        self._runner: TestServer | None = None
        self._port = 0

    async def open(self, shop: Shop) -> str:
        """Opens a shop where the other one was."""
        await self.close()

        @web.middleware
        async def counting(request, handler):
            broken = any(part in request.path for part in self.broken)
            response = web.Response(status=500) if broken else await handler(request)
            if "/thumb" in request.path:
                self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
            return response

        app = application(shop)
        app.middlewares.append(counting)
        self._runner = TestServer(app, port=self._port or None)
        await self._runner.start_server()
        self._port = self._runner.port
        self.statuses = {}
        return str(self._runner.make_url("/"))

    async def close(self) -> None:
        if self._runner:
            await self._runner.close()


@pytest.fixture
async def street():
    one = Street()
    yield one
    await one.close()


@pytest.fixture(scope="module")
def later(stock) -> Restocked:
    return restocked(stock, 0.08)


@pytest.fixture
def later_shop(later, photos, make_picture) -> Shop:
    new = {product.id: make_picture(product.id + 7_000_000) for product in later.to_draw}
    return Shop(later.catalogue, {**photos, **new}, default_thumbnail(), renewed=later.renewed)


def contents(folder: Path) -> dict[str, tuple[str, bytes, str]]:
    """Label, bytes and title by product address."""
    assert verify(folder) == []
    with ShardSet.open(folder) as found:
        return {
            found.meta(i)["product_url"].partition("/gb/")[2]: (
                found.labels[found.label_ids[i]],
                bytes(found.image(i)),
                found.meta(i)["title"],
            )
            for i in range(len(found))
        }


def files(folder: Path) -> dict[str, bytes]:
    """Everything but the ledger."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(LEDGER_NAME)}


def accounted(report: CrawlReport, folder: Path) -> None:
    assert report.kept + sum(report.dropped.values()) + sum(report.failed.values()) == report.products
    assert len(contents(folder)) == report.kept
    assert len((folder / DROPS_NAME).read_text().splitlines()) == report.products - report.kept


async def test_a_shop_some_months_later(street, shop, later, later_shop, site_at, photos, tmp_path):
    site = site_at(await street.open(shop), drop={"placeholder_at": 2})
    first = await crawl(site, tmp_path / "set", limits=FAST, shard_samples=16)
    assert first.refresh is None
    before = files(tmp_path / "set")

    same = await crawl(site, tmp_path / "set", limits=FAST, shard_samples=16, refresh=True)
    assert same.refresh is not None
    assert (same.refresh["unchanged"], same.refresh["new"], same.refresh["vanished"]) == (first.products, 0, 0)
    assert street.statuses.pop(304) == same.unchanged == first.images
    assert street.statuses == {200: first.images}  # those of the first crawl
    assert files(tmp_path / "set") == before

    await street.open(later_shop)
    report = await crawl(site, tmp_path / "set", limits=FAST, shard_samples=16, refresh=True)
    accounted(report, tmp_path / "set")
    labelled = {product.id for product in stock_of(later_shop)}
    added, renewed = later.added & labelled, later.renewed & labelled
    gone = {product.id for product in stock_of(shop)} & later.gone
    assert len(added) > 3 < len(renewed)
    assert report.refresh == {
        "new": len(added), "changed": len(renewed), "changed_image": len(renewed), "changed_label": 0,
        "changed_title": 0, "unchanged": first.products - len(renewed) - len(gone), "unasked": 0,
        "vanished": len(gone), "not_met": 0,
    }  # fmt: skip
    assert street.statuses[200] == len(added) + len(renewed)
    # the same as a crawl of the new shop, and what vanished is still there
    fresh = await crawl(site, tmp_path / "fresh", limits=FAST)
    now, expected = contents(tmp_path / "set"), contents(tmp_path / "fresh")
    assert {url: now[url] for url in expected} == expected
    assert len(now) == len(expected) + len(gone) == report.kept == fresh.kept + len(gone)
    with closing(sqlite3.connect(tmp_path / "set" / LEDGER_NAME)) as db:
        rows = db.execute("SELECT url, day, kept FROM vanished").fetchall()
    assert {int(url.rpartition("_")[2].removesuffix(".htm")) for url, *_ in rows} == gone
    assert all(len(day) == 10 and kept for _, day, kept in rows)

    again = files(tmp_path / "set")
    report = await crawl(site, tmp_path / "set", limits=FAST, shard_samples=16, refresh=True)
    assert (report.refresh["changed"], report.refresh["new"], report.refresh["vanished"]) == (0, 0, 0)
    assert files(tmp_path / "set") == again

    await street.open(shop)  # everything comes back, and the new ones vanish: this time for good
    report = await crawl(site, tmp_path / "set", limits=FAST, shard_samples=16, refresh=True, vanished="drop")
    accounted(report, tmp_path / "set")
    assert (report.refresh["new"], report.refresh["vanished"]) == (0, len(added))
    assert contents(tmp_path / "set").keys() == {u for u in now if u in contents_of(shop)}


def stock_of(shop: Shop) -> list:
    return [product for product in shop.stock.products if product.kind in ("guitar", "bass") and product.photo]


def contents_of(shop: Shop) -> set[str]:
    return {f"{shop.product_slug(product)}.htm" for product in stock_of(shop)}


async def test_other_changes_and_what_cannot_be_asked(street, shop, stock, stock_with, photos, site_at, tmp_path):
    site = site_at(await street.open(shop), drop={"placeholder_at": 3})
    first = await crawl(site, tmp_path, limits=FAST, shard_samples=16)
    before = contents(tmp_path)
    guitars = [product for product in stock_of(shop) if product.kind == "guitar"]
    basses = [product for product in stock_of(shop) if product.kind == "bass"]
    moved = replace(guitars[0], categories=("4-string-basses",))
    lost = guitars[1]
    products = [{moved.id: moved}.get(product.id, product) for product in stock.products]
    # two products have one image now, and one has none
    renewed = {**photos, basses[0].id: photos[basses[1].id], lost.id: b"<html>sorry</html>"}
    await street.open(Shop(stock_with(stock, products), renewed, default_thumbnail(), renewed={basses[0].id, lost.id}))
    street.broken = (f"/{guitars[2].id}.jpg",)
    report = await crawl(site, tmp_path, limits=FAST, shard_samples=16, refresh=True)
    accounted(report, tmp_path)
    assert not report.failed
    assert (report.refresh["unasked"], report.refresh["changed_label"], report.refresh["vanished"]) == (1, 1, 0)
    now = contents(tmp_path)
    name = shop.product_slug
    assert now[f"{name(moved)}.htm"] == ("bass", *before[f"{name(moved)}.htm"][1:])
    assert now[f"{name(guitars[2])}.htm"] == before[f"{name(guitars[2])}.htm"]
    assert before.keys() - now.keys() == {f"{name(lost)}.htm", f"{name(basses[0])}.htm"}
    # what could not be asked is asked by the next run, without a refresh
    street.broken = ()
    report = await crawl(site, tmp_path, limits=FAST)
    assert report.finished
    assert report.refresh["unasked"] == 0
    assert (await crawl(site, tmp_path, limits=FAST)).already_finished
    assert contents(tmp_path) == now
    assert first.kept == report.kept + 2


async def test_pages_that_cannot_be_read_make_nothing_vanish(street, shop, later_shop, later, site_at, tmp_path):
    site = site_at(await street.open(shop), drop={"placeholder_at": 2})
    await crawl(site, tmp_path, limits=FAST, shard_samples=16)
    before = contents(tmp_path)
    await street.open(later_shop)
    street.broken = ("st-models", "4-string-basses")
    report = await crawl(site, tmp_path, limits=FAST, shard_samples=16, refresh=True, vanished="drop")
    accounted(report, tmp_path)
    assert report.refresh["vanished"] == 0 < report.refresh["not_met"]
    assert before.keys() <= contents(tmp_path).keys()
    street.broken = ()
    report = await crawl(site, tmp_path, limits=FAST, shard_samples=16, refresh=True)
    accounted(report, tmp_path)
    assert report.refresh["not_met"] == 0 < report.refresh["vanished"]


async def test_a_shop_that_is_gone_leaves_the_set_alone(street, shop, site_at, tmp_path):
    site = site_at(await street.open(shop), drop={"placeholder_at": 2})
    await crawl(site, tmp_path, limits=FAST, shard_samples=16)
    before = contents(tmp_path)
    street.broken = ("/",)
    with pytest.raises(NothingFound, match="no start page could be read"):
        await crawl(site, tmp_path, limits=FAST, refresh=True)
    assert contents(tmp_path) == before
    street.broken = ("/thumb",)
    report = await crawl(site, tmp_path, limits=FAST)  # it was begun, and goes on
    assert contents(tmp_path) == before
    assert report.refresh["unasked"] >= report.kept
    street.broken = ()
    assert (await crawl(site, tmp_path, limits=FAST)).refresh["unchanged"] == report.products
