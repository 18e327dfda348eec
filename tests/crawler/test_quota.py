"""Quotas: exact, in the shop's order, and what is not needed is not fetched."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from crawler.crawl import crawl
from crawler.limits import Limits
from crawler.shop.render import default_thumbnail
from crawler.shop.server import Shop, application
from crawler.site import load_site
from shards.errors import ConfigError
from shards.shard_set import ShardSet

FAST = Limits(concurrency=16, per_host=16, rate_per_host=0, backoff_s=0.01, retries=0)


async def test_the_first_so_many_in_the_shops_order(stock, photos, site_at, tmp_path):
    photos = dict(photos)
    asked: list[str] = []

    async def note(request: web.Request, response: web.StreamResponse) -> None:
        asked.append(request.path)

    plain = Shop(stock, photos, default_thumbnail())
    order = {}
    app = application(plain)
    app.on_response_prepare.append(note)
    async with TestServer(app) as server:
        url = str(server.make_url("/"))
        whole = await crawl(site_at(url), tmp_path / "whole", limits=FAST)
        everything = len(asked)
        for seed in (1, 2):  # the same whatever comes first
            asked.clear()
            out = tmp_path / str(seed)
            limits = FAST.model_copy(update={"concurrency": 3 * seed, "per_host": 3 * seed})
            report = await crawl(site_at(url, labels={"quota": 30}), out, limits=limits, shard_samples=16)
            assert report.labels == {"bass": 30, "guitar": 30}
            assert report.kept + sum(report.dropped.values()) == report.products
            with ShardSet.open(out) as found:
                order[seed] = {found.key(i) for i in range(len(found))}
            images = [path for path in asked if "/thumb" in path]
            assert len(images) < 2 * (30 + 8) + 20
            assert len(asked) < everything / 2
        assert order[1] == order[2]
        # bad ones among the first are made good by those after them
        with ShardSet.open(tmp_path / "1") as found:
            first = [int(found.meta(i)["image_url"].rpartition("/")[2].removesuffix(".jpg")) for i in range(len(found))]
        for product in first[:25]:
            photos[product] = b"<html>sorry</html>"
        report = await crawl(site_at(url, labels={"quota": {"bass": 12, "guitar": 40}}), tmp_path / "bad", limits=FAST)
        assert report.labels == {"guitar": 40, "bass": 12}
        again = await crawl(site_at(url, labels={"quota": {"bass": 12, "guitar": 40}}), tmp_path / "bad", limits=FAST)
        assert again.already_finished
        # a quota nobody reaches changes nothing
        report = await crawl(site_at(url, labels={"quota": {"bass": 10_000}}), tmp_path / "all", limits=FAST)
        assert report.kept == whole.kept - 25


async def test_a_refresh_keeps_to_the_quota_and_to_what_it_has(stock, photos, site_at, tmp_path):
    shop = Shop(stock, photos, default_thumbnail())
    async with TestServer(application(shop)) as server:
        site = site_at(str(server.make_url("/")), labels={"quota": 20})
        await crawl(site, tmp_path, limits=FAST, shard_samples=16)
        before = {path.name: path.read_bytes() for path in tmp_path.glob("*.tar")}
        report = await crawl(site, tmp_path, limits=FAST, shard_samples=16, refresh=True)
        assert report.labels == {"bass": 20, "guitar": 20}
        assert {path.name: path.read_bytes() for path in tmp_path.glob("*.tar")} == before


def test_a_quota_of_no_label_is_refused():
    with pytest.raises(ConfigError, match="no rule gives the label 'tuba'"):
        load_site("embedded", labels={"quota": {"tuba": 5}})
    assert load_site("embedded", labels={"quota": 7}).labels.quota_of("bass") == 7
