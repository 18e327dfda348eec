"""robots.txt as RFC 9309 has it."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest
from aiohttp import web

from crawler import extract
from crawler.crawl_errors import Refused
from crawler.fetch import Fetcher
from crawler.guard import Guard
from crawler.limits import Limits
from crawler.robots import MAX_BYTES, KeptRobots, Robots, page_refuses_images, refuses_images

LIMITS = Limits(rate_per_host=0, robots_retries=0, retries=0, backoff_s=0.01, total_s=5)


def fetcher() -> Fetcher:
    return Fetcher(LIMITS, Guard(["127.0.0.1"]), agent="bassline", user_agent="b", allowed=lambda host: True)


@pytest.mark.parametrize(
    ("robots", "allowed"),
    [
        (404, True), (403, True), (401, True),
        (500, False), (503, False), (429, False),
        ("", True), ("User-agent: *\nDisallow: /", False), ("User-agent: *\nDisallow:", True),
        ("User-agent: other\nDisallow: /", True),
        ("User-agent: *\nDisallow: /\n\nUser-agent: bassline\nAllow: /img\nDisallow: /", True),
        ("User-agent: *\nDisallow: /*.jpg$", False), ("User-agent: *\nDisallow: /img\nAllow: /img/a", True),
        ("\x00\xff<html>not robots</html>", True),
    ],
)  # fmt: skip
async def test_verdicts(start_web, robots, allowed):
    url = await start_web({"/robots.txt": robots, "/img/a.jpg": b"x"})
    async with fetcher() as one:
        if allowed:
            assert (await one.image(url + "img/a.jpg")).body == b"x"
        else:
            with pytest.raises(Refused) as refused:
                await one.image(url + "img/a.jpg")
            assert refused.value.reason == ("robots-unreachable" if isinstance(robots, int) else "robots")


async def test_it_is_asked_once_and_obeyed_on_redirects(start_web):
    asked = []

    async def robots(request):
        asked.append(1)
        return web.Response(text="User-agent: *\nDisallow: /closed")

    url = await start_web({"/robots.txt": robots, "/a": b"x", "/go": (302, {"Location": "/closed/a"}, b"")})
    async with fetcher() as one:
        await one.image(url + "a")
        await one.image(url + "a")
        with pytest.raises(Refused, match="robots"):
            await one.image(url + "go")
    assert len(asked) == 1


async def test_redirected_robots(start_web):
    closed = "User-agent: *\nDisallow: /"
    url = await start_web({"/robots.txt": (302, {"Location": "/r"}, b""), "/r": closed, "/a": b"x"})
    async with fetcher() as one:
        with pytest.raises(Refused, match="robots"):
            await one.image(url + "a")


async def test_a_huge_file_is_read_to_its_first_500_kilobytes(start_web):
    head, tail = "User-agent: *\nDisallow: /a\n", "\nDisallow: /b\n"
    url = await start_web({"/robots.txt": head + "# filling\n" * (MAX_BYTES // 10) + tail, "/a": b"x", "/b": b"x"})
    async with fetcher() as one:
        assert (await one.image(url + "b")).body == b"x"
        with pytest.raises(Refused, match="robots"):
            await one.image(url + "a")


async def test_crawl_delay_slows_the_host(start_web):
    url = await start_web({"/robots.txt": "User-agent: *\nCrawl-delay: 0.3\n", "/a": b"x"})
    async with fetcher() as one:
        began = monotonic()
        for _ in range(3):
            await one.image(url + "a")
    assert monotonic() - began >= 0.55


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ("noai", "noai"), ("noindex, nofollow", "noindex"), ("nofollow", None), ("bassline: noimageai", "noimageai"),
        ("otherbot: noindex", None), ("NONE", "none"), ("unavailable_after: 25 Jun 2010", None), ("", None),
        ("max-image-preview: large", None),
    ],
)  # fmt: skip
def test_x_robots_tag(header, word):
    assert refuses_images([header], "bassline") == word


async def test_rules_that_take_long_are_asked_less_often(monkeypatch):
    monkeypatch.setattr("crawler.robots._CHEAP_S", 1e-4)  # some machines are through with them sooner than that takes

    async def get(url: str) -> bytes:
        return b"User-agent: *\n" + b"".join(b"Disallow: /x*y%d$\n" % n for n in range(20_000))

    robots, turns = Robots(get, "bassline"), 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    work = asyncio.create_task(others())
    await robots.learn("http://shop.example")
    work.cancel()
    assert turns > 20  # other hosts went on while it was read
    assert robots.crawl_delay_s("http://shop.example") > 0


@pytest.mark.parametrize(
    ("page", "headers", "word"),
    [
        ('<meta name="robots" content="noai, noimageai">', (), "noai"),
        ('<META NAME="Robots" CONTENT="index NOIMAGEAI">', (), "noimageai"),
        ('<meta name="bassline" content="noimageindex">', (), "noimageindex"),
        ('<meta name="otherbot" content="noai">', (), None),
        ('<meta name="robots" content="noindex, follow">', (), None),  # about the page, not about its pictures
        ("", ("otherbot: noai, noimageai", "noimageai"), "noimageai"),
        ("", ("otherbot: noai, noimageai",), None),
        ("", ("noindex",), None),
    ],
)
def test_pages_that_close_their_images(page, headers, word):
    tree = extract.parse(f"<html><head>{page}</head></html>".encode(), "http://shop.example/")
    assert page_refuses_images(tree.root, headers, "bassline") == word


async def test_a_day_is_remembered_over_a_restart_and_an_unreachable_one_is_tried_again():
    asked, learned = [], []

    async def get(url: str) -> bytes:
        asked.append(url)
        if len(asked) < 3:
            raise Refused("http-503", again=True, failed=True)
        return b"User-agent: *\nDisallow: /closed"

    limits = Limits(robots_pause_s=0.01)
    first = Robots(get, "bassline", limits, on_learned=lambda *told: learned.append(told))
    await first.learn("http://shop.example")
    assert len(asked) == 3
    origin, text, seconds = learned[0]
    second = Robots(get, "bassline", limits, kept={origin: KeptRobots(text, seconds)})
    await second.learn("http://shop.example")
    with pytest.raises(Refused, match="disallows"):
        second.check("http://shop.example/closed", "http://shop.example")
    assert len(asked) == 3
    third = Robots(get, "bassline", limits, kept={origin: KeptRobots(text, 0.0)})
    await third.learn("http://shop.example")
    assert len(asked) == 4
