"""A kill while shards are written anew: the next run may judge otherwise, and the set is what the ledger says."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from crawler import settle
from crawler.crawl import crawl
from crawler.crawl_errors import LedgerFailed
from crawler.frontier import LEDGER_NAME, Frontier
from crawler.limits import Limits
from crawler.site import load_site
from shards.shard_set import ShardSet
from shards.verify import verify
from shards.writer import rewrite_without

FAST = Limits(concurrency=16, per_host=16, rate_per_host=0, backoff_s=0.01, retries=1, breaker_failures=100)


def cut(*arguments: Any, **more: Any) -> None:
    """A disk that is full: the ledger takes back what it has not committed, as a kill has it do."""
    raise OSError(errno.ENOSPC, "No space left on device")


def samples(folder: Path) -> dict[str, tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / LEDGER_NAME)) as db:
        return {key: tuple(row) for key, *row in db.execute("SELECT key, shard, generation, packed FROM sample")}


async def test_what_was_to_go_and_is_kept_after_all_is_fetched_again(shop_url, site_at, tmp_path, monkeypatch):
    site = site_at(shop_url)
    whole = await crawl(site, tmp_path / "whole", limits=FAST)
    with monkeypatch.context() as context:
        context.setattr(settle, "rewrite", cut)  # of the shop's placeholders
        with pytest.raises(LedgerFailed):
            await crawl(site, tmp_path / "set", limits=FAST)
    doomed = [key for key, (_, generation, _) in samples(tmp_path / "set").items() if generation < 0]
    assert doomed
    assert all(packed is None for *_, packed in samples(tmp_path / "set").values())  # there is one shard
    (tar,) = (tmp_path / "set").glob("*.tar")
    rewrite_without(tar, doomed)  # what the kill came after
    again = await crawl(site, tmp_path / "set", limits=FAST)
    assert (again.finished, again.labels, again.dropped) == (True, whole.labels, whole.dropped)
    assert verify(tmp_path / "set") == []


async def test_a_ledger_learns_which_of_the_doomed_are_there(shop_url, site_at, tmp_path):
    await crawl(site_at(shop_url), tmp_path, limits=FAST)
    before = samples(tmp_path)
    lost, kept = sorted(before)[:2]
    with closing(sqlite3.connect(tmp_path / LEDGER_NAME)) as db, db:
        db.execute("UPDATE sample SET generation = -1 - generation WHERE key IN (?, ?)", (lost, kept))
    (tar,) = tmp_path.glob("*.tar")
    rewrite_without(tar, [lost])
    await Frontier(tmp_path).close()
    after = samples(tmp_path)
    assert after.keys() == before.keys() - {lost}
    assert after[kept] == before[kept]


class Shop:
    """One product in three categories; of the deepest, which decides its label, the listing fails at first."""

    def __init__(self, picture: bytes) -> None:
        self.picture, self.fails, self.asked = picture, True, asyncio.Event()

    async def __call__(self, request: web.Request) -> web.Response:
        path, listed = request.path, "pg" in request.query
        if path.startswith("/i/"):
            self.asked.set()
            return web.Response(body=self.picture, content_type="image/jpeg")
        links = {"/": ("/g1", "/x"), "/x": ("/b2", "/y"), "/y": ("/g3",)}.get(path, ())
        text = "".join(f'<a class="c" href="{link}">{link}</a>' for link in links)
        if path in ("/g1", "/b2", "/g3") and request.query.get("pg", "1") == "1":
            text = '<ul><li class="p"><a href="/p1"><img src="/i/1.jpg"></a><h2>one</h2></li></ul>'
        if path == "/b2" and listed:  # the picture is written as a guitar's before it is known to be a bass's
            await self.asked.wait()
            await asyncio.sleep(1.2)
        if path == "/g3" and listed and self.fails:
            return web.Response(status=503)
        return web.Response(text=f"<html><body>{text}</body></html>", content_type="text/html")


async def test_a_label_that_was_amended_and_is_right_again_is_amended_again(
    start_web, make_picture, tmp_path, monkeypatch
):
    shop = Shop(make_picture(1))
    url = await start_web(dict.fromkeys(("/", "/g1", "/x", "/b2", "/y", "/g3", "/i/1.jpg"), shop))
    rules = [{"label": "guitar", "url": ["/g"]}, {"label": "basses", "url": ["/b"]}]
    listing = {
        "item": "li.p",
        "link": "a::attr(href)",
        "image": ["img::attr(src)"],
        "title": "h2",
        "page": "?pg={page}",
    }
    site = load_site(
        "embedded", site={"start": [url]}, follow={"links": "a.c", "deny_text": []},
        labels={"rules": rules, "conflict": "deepest"}, listing=listing, drop={"image": []},
    )  # fmt: skip
    with monkeypatch.context() as context:
        context.setattr(settle, "groups_of_samples", cut)
        with pytest.raises(LedgerFailed):
            await crawl(site, tmp_path, limits=FAST)
    (tar,) = tmp_path.glob("*.tar")
    assert b'"label":"basses"' in tar.read_bytes()
    shop.fails = False
    report = await crawl(site, tmp_path, limits=FAST)
    assert (report.finished, report.labels) == (True, {"guitar": 1})
    assert verify(tmp_path) == []
    with ShardSet.open(tmp_path) as found:
        assert (found.labels[found.label_ids[0]], found.meta(0)["label"]) == ("guitar", "guitar")
