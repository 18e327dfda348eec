"""The page of what was left out: made of a real crawl of a shop full of odd pictures, safe to open."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from parsel import Selector
from PIL import Image

from crawler.crawl import crawl
from crawler.drop_page import MOST_SHOWN, write_drop_page
from crawler.limits import Limits
from crawler.report import DROPS_NAME, CrawlReport

LIMITS = Limits(concurrency=8, per_host=8, rate_per_host=0, backoff_s=0.01, retries=0)
TITLES = ['<script>alert("1")</script>', 'quote" onerror="x', "plain"]
ENTRY = (
    '<div class="fx-product-list-entry"><div class="product"><a class="product__image" href="/p{0}.htm">'
    '<picture class="fx-picture"><source type="image/jpeg" data-srcset="/{1}"></picture></a>'
    '<span class="title__name">{2}</span></div></div>'
)


def frames(kind: str) -> bytes:
    out = io.BytesIO()
    pictures = [Image.new("RGB", (100, 100), colour) for colour in ("red", "blue")]
    pictures[0].save(out, kind, save_all=True, append_images=pictures[1:])
    return out.getvalue()


@cache
def as_kind(kind: str, size: tuple[int, int] = (100, 100)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "green").save(out, kind)
    return out.getvalue()


@pytest.fixture
async def crawled(
    start_web: Any, site_at: Any, make_picture: Callable[..., bytes], tmp_path: Path
) -> tuple[Path, CrawlReport]:
    """A set, of a shop with every kind of picture that is left out."""
    sound = [make_picture(seed) for seed in range(12)]
    pictures: dict[str, bytes] = {f"sound{n}.jpg": body for n, body in enumerate(sound)}
    pictures |= {f"again{n}.jpg": sound[n] for n in range(3)}
    pictures |= {f"broken{n}.jpg": sound[4 + n][: len(sound[4 + n]) // 2] for n in range(2)}
    pictures |= {"small.jpg": make_picture(50, (8, 8)), "moving.webp": frames("WEBP"), "still.gif": as_kind("GIF")}
    pictures |= {"bomb.png": as_kind("PNG", (4500, 4500)), "page.jpg": b"<html>not here</html>"}
    pictures |= {f"same{n}.jpg": make_picture(77) for n in range(9)}
    listing = "".join(
        ENTRY.format(n, name, TITLES[n % 3].replace("<", "&lt;").replace('"', "&quot;"))
        for n, name in enumerate([*pictures, *(f"gone{n}.jpg" for n in range(MOST_SHOWN + 5))])
    )
    url = await start_web(
        {
            "/": '<p class="link-list__item"><a class="link-list__text" href="/gb/electric_guitars.html">'
            "Electric Guitars</a></p>",
            "/gb/electric_guitars.html": listing,
            **{f"/{name}": body for name, body in pictures.items()},
        }
    )
    report = await crawl(site_at(url, drop={"max_side": 2000}), tmp_path / "set", limits=LIMITS)
    return tmp_path / "set", report


async def test_every_reason_with_its_pictures(crawled: tuple[Path, CrawlReport], tmp_path: Path) -> None:
    folder, report = crawled
    page = tmp_path / "drops.html"
    shown = write_drop_page(folder, page, title="what was left out")
    text = page.read_text(encoding="utf-8")
    tree = Selector(text)
    counts = Counter(report.dropped) + Counter(report.failed)
    lines = (folder / DROPS_NAME).read_text().splitlines()
    assert sum(counts.values()) == len(lines)
    assert {heading.attrib["id"] for heading in tree.css("h2")} == set(counts)
    for reason, count in counts.items():
        assert f"{count} product" in tree.css(f'h2[id="{reason}"] span::text').get("")
    for reason, pictures in {"duplicate": 3, "broken": 2, "too-small": 1, "animated": 1, "placeholder": 1}.items():
        sheet = tree.xpath(f'//h2[@id="{reason}"]/following-sibling::*[1][self::div]//figure')
        assert len(sheet) == pictures, reason
        for figure in sheet:
            data = figure.css("img::attr(src)").get("").removeprefix("data:image/jpeg;base64,")
            with Image.open(io.BytesIO(base64.b64decode(data))) as image:
                assert max(image.size) <= 120
            assert "http://127.0.0.1" in figure.attrib["title"]
    assert "and 8 more with it" in text  # one picture for nine products is shown once
    assert f"{MOST_SHOWN} addresses without a picture, the first {MOST_SHOWN}" in text
    assert shown == len(tree.css("figure"))


async def test_a_bomb_is_a_cross(crawled: tuple[Path, CrawlReport], tmp_path: Path) -> None:
    folder, _ = crawled
    page = tmp_path / "drops.html"
    write_drop_page(folder, page, title="x")
    (bomb,) = Selector(page.read_text()).xpath('//h2[@id="dimensions"]/following-sibling::div[1]//figure')
    assert not bomb.css("img")
    assert bomb.css("div.none")
    assert "4500x4500" in bomb.get()


async def test_it_is_safe_to_open(crawled: tuple[Path, CrawlReport], tmp_path: Path) -> None:
    folder, _ = crawled
    drops = (folder / DROPS_NAME).read_text().splitlines()
    evil = {**json.loads(drops[0]), "product_url": "javascript:alert(1)", "reason": '"><script>', "sha256": None}
    (folder / DROPS_NAME).write_text("\n".join([*drops, json.dumps(evil)]))
    page = tmp_path / "drops.html"
    write_drop_page(folder, page, title="<b>mine</b>")
    tree = Selector(page.read_text())
    assert not tree.css("script")
    assert not tree.css("h1 b")
    assert all(re.match(r"https?://|#", link) for link in tree.css("a::attr(href)").getall())
    assert all(source.startswith("data:image/jpeg;base64,") for source in tree.css("img::attr(src)").getall())
    loaded = {element.xpath("name()").get() for element in tree.xpath("//*[@src or @onerror or @onload]")}
    assert loaded == {"img"}
    assert "default-src 'none'" in tree.css("meta[http-equiv]::attr(content)").get("")


async def test_the_page_is_the_same_however_often(crawled: tuple[Path, CrawlReport], tmp_path: Path) -> None:
    folder, _ = crawled
    for name in ("a", "b"):
        write_drop_page(folder, tmp_path / name, title="x")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
