"""What the network kept from a run is asked for by the next one, categories included; what goes in a circle ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from crawler.crawl import crawl
from crawler.crawl_errors import NothingFound
from crawler.limits import Limits
from crawler.site import Site, load_site
from shards.shard_set import ShardSet, rebuild

FAST = Limits(per_host=8, rate_per_host=0, retries=0, retry_floor=0, robots_retries=0, total_s=10)


def tiles(*paths: str) -> str:
    return "".join(f'<li class="product-category"><a href="/{path}/">{path.split("/")[-1]}</a></li>' for path in paths)


def products(*names: str, following: str = "") -> str:
    linked = 'a class="woocommerce-LoopProduct-link"'
    items = "".join(
        f'<li class="product"><{linked} href="/p/{name}"><img src="/i/{name}.jpg"></a></li>' for name in names
    )
    link = f'<nav class="woocommerce-pagination"><a class="next page-numbers" href="{following}">next</a></nav>'
    return f'<ul class="products">{items}</ul>{link if following else ""}'


def site(url: str, **tables: Any) -> Site:
    start = {"name": "again", "start": [f"{url}shop/"], "allow_private": ["127.0.0.1"]}
    return load_site("woocommerce", site=start, **tables)


def kept(folder: Path) -> dict[str, str]:
    with ShardSet.open(folder) as found:
        return {found.key(i): found.labels[int(found.label_ids[i])] for i in range(len(found))}


class Failing:
    """A page that answers 500 so many times."""

    def __init__(self, times: int, text: str) -> None:
        self.times, self.text, self.asked = times, text, 0

    async def __call__(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.asked <= self.times:
            return web.Response(status=500)
        return web.Response(text=self.text, content_type="text/html")


def shop(make_picture: Any, failing: int) -> dict[str, Any]:
    """Two categories; that of guitars, which has one below it, fails so many times."""
    names = ("bass-1", "bass-2", "guitar-1", "guitar-2", "archtop-1")
    table = {f"/i/{name}.jpg": make_picture(number) for number, name in enumerate(names)}
    return table | {
        "/shop/": tiles("guitars", "basses"),
        "/basses/": products("bass-1", "bass-2"),
        "/guitars/": Failing(failing, tiles("guitars/archtops") + products("guitar-1", "guitar-2")),
        "/guitars/archtops/": products("archtop-1"),
    }


async def test_a_category_that_failed_is_explored_and_walked_by_the_next_run(start_web, make_picture, tmp_path):
    whole = await crawl(site(await start_web(shop(make_picture, 0))), tmp_path / "whole", limits=FAST)
    url = await start_web(shop(make_picture, 1))
    first = await crawl(site(url), tmp_path / "set", limits=FAST)
    assert (first.finished, first.kept, first.failed_pages) == (True, 2, 1)
    assert first.problems == {f"{url}guitars/": "http-500"}
    second = await crawl(site(url), tmp_path / "set", limits=FAST)
    assert (second.finished, second.already_finished, second.failed_pages, second.problems) == (True, False, 0, {})
    assert second.labels == whole.labels == {"basses": 2, "guitars": 3}
    assert kept(tmp_path / "set") == kept(tmp_path / "whole")
    third = await crawl(site(url), tmp_path / "set", limits=FAST)
    assert third.already_finished


async def test_a_category_that_is_gone_is_not_asked_for_again(start_web, make_picture, tmp_path):
    table = shop(make_picture, 0) | {"/guitars/": 404}
    url = await start_web(table)
    first = await crawl(site(url), tmp_path / "set", limits=FAST)
    assert (first.kept, first.failed_pages, first.problems) == (2, 0, {f"{url}guitars/": "http-404"})
    assert (await crawl(site(url), tmp_path / "set", limits=FAST)).already_finished


async def test_labels_that_lie_below_a_page_that_failed_are_found_by_the_next_run(start_web, make_picture, tmp_path):
    url = await start_web(shop(make_picture, 1))
    below = site(url, labels={"depth": 2})
    with pytest.raises(NothingFound, match="none of 3 categories has a label"):
        await crawl(below, tmp_path / "set", limits=FAST)
    assert (await crawl(below, tmp_path / "set", limits=FAST)).labels == {"archtops": 1}


async def test_next_links_in_a_circle_end_where_it_closes(start_web, make_picture, tmp_path):
    names = {page: f"bass-{page}" for page in (1, 2, 3)}
    asked: Counter[str] = Counter()

    async def basses(request: web.Request) -> web.Response:
        page = int(request.query.get("at", 1))
        asked[request.raw_path] += 1
        # 1, 2, 3, 2, 3 ...; the first page has another name the second time
        following = f"/basses/?at={page + 1}" if page < 3 else "/basses/?at=2"
        return web.Response(text=products(names[page], following=following), content_type="text/html")

    async def drums(request: web.Request) -> web.Response:
        """The same two pages under addresses that never repeat."""
        page = int(request.query.get("at", 1))
        asked["drums"] += 1
        text = products(f"drum-{page % 2}", following=f"/drums/?at={page + 1}")
        return web.Response(text=text, content_type="text/html")

    pictures = {f"/i/{name}.jpg": make_picture(n) for n, name in enumerate((*names.values(), "drum-0", "drum-1"))}
    url = await start_web({"/shop/": tiles("basses", "drums"), "/basses/": basses, "/drums/": drums} | pictures)
    report = await crawl(site(url), tmp_path / "set", limits=FAST)
    assert (report.labels, report.problems) == ({"basses": 3, "drums": 2}, {})
    assert asked == {"/basses/": 2, "/basses/?at=2": 1, "/basses/?at=3": 1, "drums": 1 + 3}


@pytest.mark.parametrize("first", ["a", "b"])
async def test_of_two_addresses_with_the_same_bytes_the_first_in_the_shop_counts(
    start_web, make_picture, tmp_path, first
):
    """Whichever is answered first; nothing that the sample says is the other's."""
    body, other_asked = make_picture(1), asyncio.Event()

    async def image(request: web.Request) -> web.Response:
        name = request.path.removeprefix("/i/").removesuffix(".jpg")
        if name != first:
            await asyncio.wait_for(other_asked.wait(), 20)
        said = {"a": "image/png", "b": "image/jpeg"}[name]
        response = web.Response(body=body, content_type=said, headers={"ETag": f'"{name}"'})
        if name == first:
            asyncio.get_running_loop().call_later(0.5, other_asked.set)
        return response

    url = await start_web(
        {"/shop/": tiles("basses"), "/basses/": products("a", "b"), "/i/a.jpg": image, "/i/b.jpg": image}
    )
    report = await crawl(site(url), tmp_path / "set", limits=FAST)
    assert (report.kept, report.dropped) == (1, {"duplicate": 1})
    with ShardSet.open(tmp_path / "set") as found:
        meta = found.meta(0)
    assert (meta["image_url"], meta["final_url"], meta["product_url"]) == (f"{url}i/a.jpg",) * 2 + (f"{url}p/a",)
    assert (meta["etag"], meta.get("content_type")) == ('"a"', "image/png")


async def test_a_kill_between_the_set_and_its_report_costs_neither(start_web, make_picture, tmp_path, monkeypatch):
    url = await start_web(shop(make_picture, 0))

    async def killed(self: Any, *, already_finished: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr("crawler.crawl._Crawl._report", killed)
        with pytest.raises(KeyboardInterrupt):
            await crawl(site(url), tmp_path / "set", limits=FAST)
    with ShardSet.open(tmp_path / "set") as found:
        told = {name: found.manifest.source[name] for name in ("pages", "requests", "bytes", "seconds")}
    again = await crawl(site(url), tmp_path / "set", limits=FAST)
    assert again.already_finished
    assert told == {"pages": again.pages, "requests": again.requests, "bytes": again.bytes, "seconds": again.seconds}


async def test_the_index_of_a_crawl_is_that_of_its_tars(start_web, make_picture, tmp_path, monkeypatch):
    folder = tmp_path / "set"
    with monkeypatch.context() as context:
        context.setattr("shards.index._walk_tar", None)  # not walked: the crawl knows what it wrote
        assert (await crawl(site(await start_web(shop(make_picture, 0))), folder, limits=FAST)).kept == 5
    made = {path.name: path.read_bytes() for path in folder.glob("*.idx")}
    rebuild(folder).close()
    assert {path.name: path.read_bytes() for path in folder.glob("*.idx")} == made
