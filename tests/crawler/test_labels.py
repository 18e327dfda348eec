"""Labels by path, address and title; products found under two; nothing of it depends on what came first."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from crawler.crawl import crawl
from crawler.labels import Decision, Labels
from crawler.limits import Limits
from crawler.report import DROPS_NAME, CrawlReport
from crawler.site import Site, load_site
from shards.shard_set import ShardSet

FAST = Limits(concurrency=16, per_host=16, rate_per_host=0, backoff_s=0.01, retries=0, total_s=10, read_s=5)
RULES: list[dict[str, Any]] = [
    {"label": "bass", "path": ["(?i)bass"], "title": ["(?i)bass"]},
    {"label": "guitar", "path": ["(?i)guitar"], "url": ["/g/"]},
]


def test_the_first_rule_that_fits_decides_and_the_others_are_told():
    labels = Labels(rules=RULES)
    assert labels.decide(["Guitars"], "/x") == Decision("guitar", 1)
    assert labels.decide(["Guitars"], "/x", "Jazz Bass") == Decision("bass", 0, (1,))
    assert labels.decide(["Guitars", "Bass Guitars"], "/x") == Decision("bass", 0, (1,))
    assert labels.decide(["Drums"], "/g/drums") == Decision("guitar", 1)
    assert labels.decide(["Drums"], "/x") == Decision(None)


@pytest.mark.parametrize(
    ("conflict", "found", "expected"),
    [
        ("drop", {"guitar": 1, "bass": 2}, ("bass", "guitar")),
        ("first-rule", {"guitar": 9, "bass": 2}, ("bass", None)),
        ("deepest", {"guitar": 3, "bass": 2}, ("guitar", None)),
        ("deepest", {"guitar": 2, "bass": 2}, ("bass", "guitar")),
        ("drop", {"guitar": 2}, ("guitar", None)),
    ],
)
def test_policies(conflict, found, expected):
    assert Labels(rules=RULES, conflict=conflict).resolve(found) == expected
    assert Labels(rules=RULES, conflict=conflict).resolve(dict(reversed(found.items()))) == expected


def test_by_category_there_is_no_order_of_labels():
    with pytest.raises(ValueError, match="needs rules"):
        Labels(by="category", conflict="first-rule")
    assert Labels(by="category").resolve({"b": 1, "a": 1}) == ("a", "b")


PAGE = """<a class="c" href="/guitars">Guitars</a> <a class="c" href="/basses">Basses</a>
<a class="c" href="/new">New</a> <a class="c" href="/guitars/short">Short Basses</a>"""


def item(name: str, image: str | None = None) -> str:
    return f'<li class="p"><a href="/p/{name}"><img src="/i/{image or name}.jpg"></a><h2>{name}</h2></li>'


SHOP = {
    "/": PAGE,
    "/guitars": item("strat") + item("both", "both-as-guitar") + item("twice", "one"),
    "/basses": item("both", "both-as-bass") + item("jazz") + item("twice-jazz", "one-jazz"),
    "/new": item("P-Bass") + item("kazoo") + item("strat", "strat-new"),
    "/guitars/short": item("mini") + item("twice", "other"),
}


@pytest.fixture
def shop_of(start_web, make_picture):
    """Serves SHOP, each of its pages only after those that `order` puts before it."""

    async def start(order: tuple[str, ...]) -> str:
        told = {path: asyncio.Event() for path in order}

        def page(path: str) -> Callable[[web.Request], Any]:
            seen = 0

            async def answer(request: web.Request) -> web.Response:
                nonlocal seen
                seen += 1
                if path in told and seen == 2:  # the first time, the category tree is explored
                    for before in order[: order.index(path)]:
                        await told[before].wait()
                    asyncio.get_running_loop().call_later(0.05, told[path].set)
                return web.Response(text=SHOP[path], content_type="text/html")

            return answer

        async def image(request: web.Request) -> web.Response:
            seed = sum(request.path.encode()) * 31 + len(request.path)
            return web.Response(body=make_picture(seed, size=(64, 64)), content_type="image/jpeg")

        names = ["strat", "both-as-guitar", "both-as-bass", "one", "jazz", "P-Bass", "kazoo", "strat-new", "mini"]
        names += ["other", "one-jazz"]
        table: dict[str, Any] = {path: page(path) for path in SHOP}
        return await start_web({**table, **{f"/i/{name}.jpg": image for name in names}})

    return start


def site(url: str, **labels: Any) -> Site:
    return load_site(
        "embedded",
        site={"start": [url]},
        follow={"links": "a.c", "deny_text": []},
        labels={"rules": RULES, **labels},
        listing={"item": "li.p", "link": "a::attr(href)", "image": ["img::attr(src)"], "title": "h2", "page": None},
        drop={"image": []},
    )


def contents(folder: Path) -> dict[str, tuple[str, str, str, Any]]:
    with ShardSet.open(folder) as found:
        rows = [(found.meta(i), found.labels[int(found.label_ids[i])]) for i in range(len(found))]
    assert all(meta["label"] == label for meta, label in rows)

    def told(meta: dict[str, Any]) -> tuple[str, str, str, Any]:
        image, listing = (meta[name].rsplit("/", 1)[1] for name in ("image_url", "listing_url"))
        return meta["label"], image, listing, meta["label_path"]

    return {meta["title"]: told(meta) for meta, _ in rows}


def dropped(folder: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in (folder / DROPS_NAME).read_text().splitlines()]
    return {row["title"]: row["reason"] for row in rows}


@pytest.mark.parametrize("conflict", ["drop", "first-rule", "deepest"])
async def test_a_product_on_several_pages_is_the_same_whichever_page_is_read_first(shop_of, tmp_path, conflict):
    found: list[tuple[CrawlReport, Any, Any]] = []
    orders = list(itertools.permutations(["/guitars", "/basses", "/new", "/guitars/short"]))[::7]
    for number, order in enumerate(orders):
        out = tmp_path / str(number)
        report = await crawl(site(await shop_of(order), conflict=conflict), out, limits=FAST)
        found.append((report, contents(out), dropped(out)))
    for report, kept, drops in found:
        assert report.finished
        assert report.kept == len(kept)
        assert (kept, drops) == found[0][1:]
    kept, drops = found[0][1:]
    assert kept["P-Bass"] == ("bass", "P-Bass.jpg", "new", ["New"])  # by its title
    assert kept["strat"] == ("guitar", "strat.jpg", "guitars", ["Guitars"])  # listed there first
    assert kept["mini"][0] == "bass"
    assert drops["kazoo"] == "no-label"
    if conflict == "drop":
        assert drops["both"] == drops["twice"] == "label-conflict"
    elif conflict == "first-rule":
        assert kept["both"] == ("bass", "both-as-guitar.jpg", "guitars", ["Guitars"])
        assert kept["twice"][:2] == ("bass", "one.jpg")
    else:  # both categories stand directly below the start page
        assert drops["both"] == drops["twice"] == "label-conflict"


async def test_a_breadcrumb_is_the_path(start_web, make_picture, tmp_path):
    crumbs = '<nav><a href="/">Home</a> / <a>Strings</a> / <a>Basses</a></nav>'
    url = await start_web(
        {"/": '<a class="c" href="/x">Summer sale</a><a class="c" href="/y">Winter sale</a>',
         "/x": crumbs + item("jazz"), "/y": item("kazoo"), "/i/jazz.jpg": make_picture(1)}
    )  # fmt: skip
    by_path = [{"label": "bass", "path": ["^Home / Strings / Basses$"]}]
    made = site(url, rules=by_path)
    made = made.model_copy(update={"listing": made.listing.model_copy(update={"breadcrumb": "nav a"})})
    report = await crawl(made, tmp_path, limits=FAST)
    assert contents(tmp_path) == {"jazz": ("bass", "jazz.jpg", "x", ["Home", "Strings", "Basses"])}
    assert (report.products, report.dropped, report.pages) == (1, {}, 3)


async def test_where_labels_met_is_reported(shop_of, tmp_path):
    made = site(await shop_of(()), conflict="first-rule", rules=[RULES[0], {**RULES[1], "url": ["/guitars"]}])
    report = await crawl(made, tmp_path, limits=FAST)
    assert [(one.kind, one.label, one.others, one.products) for one in report.label_conflicts] == [
        ("places", "bass", ("guitar",), 2), ("rules", "bass", ("guitar",), 1)
    ]  # fmt: skip
    told = [str(overlap) for overlap in report.label_conflicts]
    assert told[0].startswith("2 products listed under bass and guitar, such as http://127.0.0.1")
    assert told[1] == "label rules of bass and of guitar fit 1 product, such as 'mini': the first decided, bass"
    assert report.to_json()["label_conflicts"][0]["label"] == "bass"
    again = await crawl(made, tmp_path, limits=FAST)
    assert again.label_conflicts == report.label_conflicts


async def test_categories_left_out_for_their_number_are_told(start_web, make_picture, tmp_path):
    url = await start_web({
        "/": PAGE, "/guitars": item("strat"), "/basses": item("jazz"), "/i/strat.jpg": make_picture(1),
        "/i/jazz.jpg": make_picture(2),
    })  # fmt: skip
    made = site(url)
    made = made.model_copy(update={"follow": made.follow.model_copy(update={"max_categories": 3})})
    report = await crawl(made, tmp_path, limits=FAST)
    assert set(contents(tmp_path)) == {"strat", "jazz"}
    assert report.problems[f"{url}new"].startswith("3 categories are known")
