"""The whole crawl against the real embedded shop, and against shops that are made to go wrong."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from crawler.crawl import crawl
from crawler.crawl_errors import CrawlBusy, LedgerFailed, NotACrawl, NothingFound, OtherSite
from crawler.frontier import LEDGER_NAME
from crawler.limits import Limits
from crawler.report import DROPS_NAME, CrawlReport, CrawlStats
from crawler.shop import pages
from crawler.shop.folder import folder_catalogue
from crawler.shop.render import default_thumbnail
from crawler.shop.server import Shop, application, serve
from crawler.site import load_site
from shards.shard_set import ShardSet

FAST = Limits(concurrency=16, per_host=16, rate_per_host=0, backoff_s=0.01, retries=1, total_s=10, read_s=2)


def drops(folder: Path) -> dict[str, tuple[str, str]]:
    """Reason and detail by product address."""
    lines = (folder / DROPS_NAME).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len({row["product_url"] for row in rows}) == len(rows)
    return {row["product_url"]: (row["reason"], row["detail"]) for row in rows}


def kept(folder: Path) -> dict[str, int]:
    with ShardSet.open(folder) as found:
        return {found.key(i): int(found.label_ids[i]) for i in range(len(found))}


def accounted(report: CrawlReport, folder: Path) -> None:
    """Every product seen is in exactly one outcome."""
    assert report.kept + sum(report.dropped.values()) + sum(report.failed.values()) == report.products
    assert len(kept(folder)) == report.kept
    reasons = Counter(reason for reason, _ in drops(folder).values())
    assert reasons == Counter(report.dropped) + Counter(report.failed)


async def test_the_whole_shop(shop, shop_url, site_at, stock, photos, tmp_path):
    seen: list[CrawlStats] = []
    report = await crawl(site_at(shop_url), tmp_path / "set", limits=FAST, on_progress=seen.append)
    labelled = [product for product in stock.products if product.kind in ("guitar", "bass")]
    expected = Counter(product.kind for product in labelled if product.photo)
    assert report.finished
    assert report.labels == dict(expected)
    assert report.products == len(labelled)
    assert set(report.dropped) <= {"placeholder", "rule"}
    assert sum(report.dropped.values()) == sum(not product.photo for product in labelled)
    assert not report.failed
    accounted(report, tmp_path / "set")
    assert seen[-1].stage == "done"
    assert seen[-1].images == report.images
    with ShardSet.open(tmp_path / "set") as found:
        assert found.labels == ("bass", "guitar")
        by_url = {found.meta(i)["product_url"]: bytes(found.image(i)) for i in range(len(found))}
        meta = found.meta(0)
    for product in labelled:
        if product.photo:  # the shop's own bytes, untouched
            assert by_url[f"{shop_url}gb/{shop.product_slug(product)}.htm"] == photos[product.id]
    assert {"sha256", "dhash", "width", "listing_url", "label_path", "title", "fetched_at", "etag", "site"} <= set(meta)
    assert meta["label_path"][0] == "Guitars and Basses"
    assert "/thumb//thumb150x150/" in meta["image_url"]


async def test_a_finished_crawl_is_left_alone(shop_url, site_at, tmp_path):
    first = await crawl(site_at(shop_url), tmp_path / "set", limits=FAST)
    before = {path: path.read_bytes() for path in (tmp_path / "set").glob("*") if path.name != LEDGER_NAME}
    again = await crawl(site_at(shop_url), tmp_path / "set", limits=FAST)
    assert again.already_finished
    assert (again.kept, again.dropped, again.labels) == (first.kept, first.dropped, first.labels)
    assert {path: path.read_bytes() for path in before} == before


async def test_robots_txt_is_obeyed(shop, site_at, tmp_path):
    asked: list[str] = []

    async def note(request: web.Request, response: web.StreamResponse) -> None:
        asked.append(request.path)

    app = application(shop)
    app.on_response_prepare.append(note)
    async with TestServer(app) as server:
        url = str(server.make_url("/"))
        report = await crawl(site_at(url), tmp_path / "set", limits=FAST)
        with closing(sqlite3.connect(tmp_path / "set" / LEDGER_NAME)) as db:
            closed = db.execute("SELECT problem FROM category WHERE url LIKE ?", (f"%{pages.CLOSED}%",)).fetchall()
    assert closed
    assert all(problem.startswith("robots") for (problem,) in closed)
    assert len(asked) > report.images
    assert not any(pages.CLOSED in path for path in asked)
    assert report.problems


async def test_another_site_file_is_refused(shop_url, site_at, tmp_path):
    await crawl(site_at(shop_url), tmp_path, limits=FAST)
    with pytest.raises(OtherSite, match=r"\[drop\] differs"):
        await crawl(site_at(shop_url, drop={"min_side": 33}), tmp_path)


async def test_a_folder_that_is_no_crawl_is_refused(shop_url, site_at, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(NotACrawl):
        await crawl(site_at(shop_url), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


async def test_two_crawls_into_one_folder(shop_url, site_at, tmp_path):
    stop, begun = asyncio.Event(), asyncio.Event()
    slow_limits = Limits(per_host=1, rate_per_host=20)
    slow = asyncio.create_task(
        crawl(site_at(shop_url), tmp_path, limits=slow_limits, on_progress=lambda stats: begun.set(), stop=stop)
    )
    await begun.wait()
    with pytest.raises(CrawlBusy):
        await crawl(site_at(shop_url), tmp_path, limits=FAST)
    stop.set()
    assert not (await slow).finished


async def test_stopped_and_gone_on_with(shop_url, site_at, tmp_path):
    whole = await crawl(site_at(shop_url), tmp_path / "whole", limits=FAST, shard_samples=64)
    stop = asyncio.Event()

    def stop_half_way(stats: CrawlStats) -> None:
        if stats.images_done > 40:
            stop.set()

    part = await crawl(
        site_at(shop_url), tmp_path / "part", limits=FAST.model_copy(update={"rate_per_host": 150.0}),
        on_progress=stop_half_way, stop=stop, shard_samples=64,
    )  # fmt: skip
    assert not part.finished
    assert not (tmp_path / "part" / "dataset.json").exists()
    rest = await crawl(site_at(shop_url), tmp_path / "part", limits=FAST, shard_samples=64)
    assert rest.finished
    assert rest.images_per_s
    assert kept(tmp_path / "part") == kept(tmp_path / "whole")
    assert drops(tmp_path / "part").keys() == drops(tmp_path / "whole").keys()
    assert rest.dropped == whole.dropped
    assert len(list((tmp_path / "part").glob("*.tar"))) > 4


async def test_one_image_under_two_products_two_labels_and_many(stock, photos, site_at, tmp_path, stock_with):
    photos = dict(photos)
    guitars = [product for product in stock.products if product.kind == "guitar" and product.photo]
    basses = [product for product in stock.products if product.kind == "bass" and product.photo]
    photos[guitars[1].id] = photos[guitars[0].id]  # twice: one of them is kept
    photos[basses[0].id] = photos[guitars[2].id]  # a bass and a guitar: neither
    for product in guitars[3:9]:  # six products: a placeholder
        photos[product.id] = photos[guitars[3].id]
    both = replace(basses[1], categories=("4-string-basses", "st-models"))  # listed as both
    products = [both if product.id == both.id else product for product in stock.products]
    async with serve(Shop(stock_with(stock, products), photos, default_thumbnail())) as url:
        report = await crawl(site_at(url), tmp_path, limits=FAST, shard_samples=50)
    accounted(report, tmp_path)
    assert report.dropped["duplicate"] == 1
    assert report.dropped["label-conflict"] == 3
    assert report.dropped["placeholder"] >= 6
    keys = kept(tmp_path)
    assert len(keys) == len(guitars) + len(basses) - 1 - 3 - 6
    with ShardSet.open(tmp_path) as found:
        images = {bytes(found.image(i)) for i in range(len(found))}
    assert photos[guitars[0].id] in images
    assert not {photos[product.id] for product in (guitars[2], guitars[3], both)} & images


async def test_every_way_an_image_can_be_bad(stock, site_at, tmp_path, start_web, make_picture):
    good = make_picture(1)

    async def endless(request):
        response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
        await response.prepare(request)
        while not request.transport.is_closing():
            await response.write(bytes(65536))
        return response

    async def silent(request):
        await asyncio.sleep(30)

    bad = {
        "404": (404, "http-404"),
        "500": (500, "http-500"),
        "html": ("<html>sorry</html>", "not-an-image"),
        "html-as-jpeg": ((200, {"Content-Type": "image/jpeg"}, b"<html>sorry</html>"), "not-an-image"),
        "empty": (b"", "not-an-image"),
        "truncated": (good[: len(good) // 2], "broken"),
        "gif": (make_picture(2, kind="GIF"), "format"),
        "tiny": (make_picture(3, size=(8, 8)), "too-small"),
        "bomb": (bytes.fromhex("89504e470d0a1a0a0000000d49484452000186a0000186a00802000000") + bytes(64), "dimensions"),
        "endless": (endless, "too-large"),
        "long": ((200, {}, bytes(300_000)), "too-large"),
        "silent": (silent, "timeout"),
        "loop": ((302, {"Location": "/img/loop"}, b""), "redirects"),
        "private": ((302, {"Location": "http://169.254.169.254/latest/meta-data/"}, b""), "foreign-host"),
        "noai": ((200, {"X-Robots-Tag": "noai", "Content-Type": "image/jpeg"}, good), "x-robots-tag"),
    }
    fine = {
        "moved": (302, {"Location": "/img/there//x%20y"}, b""),
        "png-named-jpg": make_picture(4, kind="PNG"),
        "as-text": (200, {"Content-Type": "text/plain"}, make_picture(5)),
        "webp": make_picture(6, kind="WEBP"),
    }
    names = [*bad, *fine]
    items = "".join(
        f'<div class="fx-product-list-entry"><div class="product"><a class="product__image" href="/gb/{name}.htm">'
        f'<picture class="fx-picture"><source data-srcset="/img/{name}"></picture></a></div></div>'
        for name in names
    )
    listed = f'<ul><li class="link-list__item"><a class="link-list__text" href="/gb/b.html">Basses</a></li></ul>{items}'

    async def listing(request):
        return web.Response(text=listed if request.query.get("pg", "1") == "1" else "", content_type="text/html")

    url = await start_web(
        {
            "/": '<li class="link-list__item"><a class="link-list__text" href="/gb/b.html">Basses</a></li>',
            "/gb/b.html": listing,
            "/img/there//x%20y": make_picture(7),
            **{f"/img/{name}": answer for name, (answer, _) in bad.items()},
            **{f"/img/{name}": answer for name, answer in fine.items()},
        }
    )
    limits = FAST.model_copy(update={"read_s": 0.3, "image_bytes": 200_000})
    report = await crawl(site_at(url), tmp_path, limits=limits)
    accounted(report, tmp_path)
    found = {address.rsplit("/", 1)[1].removesuffix(".htm"): reason for address, (reason, _) in drops(tmp_path).items()}
    assert found == {name: reason for name, (_, reason) in bad.items()}
    assert report.kept == len(fine)
    assert report.failed == {"http-500": 1, "timeout": 1}
    with ShardSet.open(tmp_path) as kept_set:
        exts = {kept_set.meta(i)["product_url"].rsplit("/", 1)[1]: kept_set.ext(i) for i in range(len(kept_set))}
    assert exts == {"moved.htm": "jpg", "png-named-jpg.htm": "png", "as-text.htm": "jpg", "webp.htm": "webp"}


async def test_real_thumbnails_from_a_folder(instruments10, tmp_path):
    stock, photos = folder_catalogue(instruments10)
    async with serve(Shop(stock, photos, default_thumbnail())) as url:
        report = await crawl(load_site("folder", site={"start": [url]}), tmp_path, limits=FAST)
    accounted(report, tmp_path)
    files = [path for path in instruments10.rglob("*") if path.is_file()]
    assert report.products == len(files)
    assert report.kept + sum(report.dropped.values()) == len(files)
    with ShardSet.open(tmp_path) as found:
        assert found.labels == tuple(sorted(path.name for path in instruments10.iterdir()))
        titles = {found.meta(i)["title"]: bytes(found.image(i)) for i in range(len(found))}
        assert {"jpg", "png"} == {found.ext(i) for i in range(len(found))}
    for name, body in titles.items():
        assert (instruments10 / name).read_bytes() == body


async def test_no_label_and_no_page_are_errors_that_say_so(shop_url, site_at, tmp_path, start_web):
    rules = {"rules": [{"label": "tuba", "path": ["Tubas"]}]}
    with pytest.raises(NothingFound, match=r"none of .* categories has a label"):
        await crawl(site_at(shop_url, labels=rules), tmp_path / "a", limits=FAST)
    url = await start_web({"/": 500})
    with pytest.raises(NothingFound, match="no start page could be read"):
        await crawl(site_at(url), tmp_path / "b", limits=FAST)


async def test_pagination_that_never_ends(site_at, tmp_path, start_web, make_picture):
    item = (
        '<div class="fx-product-list-entry"><div class="product"><a class="product__image" href="/gb/x.htm">'
        '<picture class="fx-picture"><source data-srcset="/x.jpg"></picture></a></div></div>'
    )
    link = '<li class="link-list__item"><a class="link-list__text" href="/gb/b.html">Basses</a></li>'
    url = await start_web({"/": link, "/gb/b.html": item, "/x.jpg": make_picture(1)})
    report = await crawl(site_at(url), tmp_path, limits=FAST)
    assert (report.kept, report.pages) == (1, 2)


async def test_a_full_disk_is_an_error_that_says_so_and_the_crawl_goes_on_later(
    shop_url, site_at, tmp_path, monkeypatch
):
    from shards.writer import ShardWriter

    sync = ShardWriter.sync
    calls = 0

    def full(self):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(28, "No space left on device")
        return sync(self)

    monkeypatch.setattr(ShardWriter, "sync", full)  # a full disk cannot be had without root
    with pytest.raises(LedgerFailed, match="No space left"):
        await crawl(site_at(shop_url), tmp_path, limits=FAST, shard_samples=64)
    monkeypatch.undo()
    report = await crawl(site_at(shop_url), tmp_path, limits=FAST, shard_samples=64)
    assert report.finished
    accounted(report, tmp_path)
    assert report.kept == 300
