"""What a review found: answers of a server that once stopped a whole crawl, or slipped past robots rules."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from crawler import extract
from crawler.crawl import crawl
from crawler.limits import Limits
from crawler.robots import Robots
from crawler.shop.folder import folder_catalogue
from crawler.shop.render import default_thumbnail
from crawler.shop.server import Shop, application
from crawler.site import load_site
from crawler.urls import absolute
from shards.errors import ConfigError
from shards.shard_set import ShardSet
from shards.verify import verify

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def photographs(tmp_path: Path, thumbnails: dict[str, list[Path]]) -> Path:
    folder = tmp_path / "photographs"
    for label in ("banjo", "drum"):
        (folder / label).mkdir(parents=True)
        for path in thumbnails[label]:
            (folder / label / path.name).write_bytes(path.read_bytes())
    return folder


async def _serve(photographs: Path, middleware: object, port: int = 0) -> tuple[web.AppRunner, int]:
    app = application(Shop(*folder_catalogue(photographs), default_thumbnail()))
    app.middlewares.append(middleware)  # type: ignore[arg-type]
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, runner.addresses[0][1]


async def test_headers_that_are_not_utf8_stop_nothing(tmp_path: Path, thumbnails: dict[str, list[Path]]) -> None:
    """By hand, because aiohttp's server does not send such bytes."""
    image = thumbnails["banjo"][0].read_bytes()
    item = (
        b'<div class="fx-product-list-entry"><div class="product"><a class="product__image" href="/p1.htm">'
        b'<picture class="fx-picture"><source data-srcset="/i/1.jpg"></picture></a></div></div>'
    )
    link = b'<div class="link-list__item"><a class="link-list__text" href="/banjo.html">banjo</a></div>'

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        body = {b"/": link, b"/robots.txt": b"", b"/i/1.jpg": image}.get(path.split(b"?")[0], b"")
        if path.startswith(b"/banjo.html") and b"pg=1" in path:
            body = item
        head = b'HTTP/1.1 200 OK\r\nConnection: close\r\nETag: "caf\xe9"\r\nContent-Type: text/\xe9\r\n'
        head += b"Content-Length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        report = await crawl(load_site("folder", site={"start": [f"http://127.0.0.1:{port}/"]}), tmp_path / "set")
    assert report.kept == 1
    with ShardSet.open(tmp_path / "set") as made:
        assert made.meta(0)["etag"] == '"caf\ufffd"'


def test_an_address_with_raw_bytes_is_quoted() -> None:
    raw = b"/caf\xe9.jpg".decode("utf-8", "surrogateescape")
    assert absolute("http://shop.example/", raw) == "http://shop.example/caf%E9.jpg"


async def test_an_outage_is_made_good_by_the_next_run(tmp_path: Path, photographs: Path) -> None:
    down = True

    @web.middleware
    async def outage(request: web.Request, handler: Handler) -> web.StreamResponse:
        hit = request.path.endswith(".jpg") and int(request.path.rpartition("/")[2].split(".")[0]) % 2
        if down and (hit or request.path.endswith("drum.html")) and request.query.get("pg") != "":
            raise web.HTTPServiceUnavailable
        return await handler(request)

    runner, port = await _serve(photographs, outage)
    try:
        site = load_site("folder", site={"start": [f"http://127.0.0.1:{port}/"]})
        limits = Limits(retries=0, rate_per_host=0)
        first = await crawl(site, tmp_path / "set", limits=limits)
        assert first.finished
        assert 0 < first.kept < 16
        down = False
        second = await crawl(site, tmp_path / "set", limits=limits)
        third = await crawl(site, tmp_path / "set", limits=limits)
    finally:
        await runner.cleanup()
    assert second.failed == {}
    assert second.kept == second.products
    assert second.kept > first.kept
    assert third.already_finished
    assert verify(tmp_path / "set") == []


@pytest.mark.parametrize("charset", ["utf_8", "cp65001", "idna", "nonsense", "rot13"])
def test_a_charset_that_one_library_lacks_is_no_error(charset: str) -> None:
    tree = extract.parse(b"<a href=/x>x</a>", "http://a.example/", f"text/html; charset={charset}")
    assert [link.url for link in extract.links(tree, "a")] == ["http://a.example/x"]


async def test_a_byte_order_mark_hides_no_rule() -> None:
    async def get(url: str) -> bytes:
        return b"\xef\xbb\xbfUser-agent: *\nDisallow: /\n"

    robots = Robots(get, "bassline")
    await robots.learn("http://a.example")
    with pytest.raises(Exception, match="disallows"):
        robots.check("http://a.example/x", "http://a.example")


async def test_every_robots_tag_line_counts(tmp_path: Path, photographs: Path) -> None:
    @web.middleware
    async def tagged(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if request.path.endswith(".jpg"):
            response.headers.add("X-Robots-Tag", "otherbot: noindex")
            response.headers.add("X-Robots-Tag", "noai")
        return response

    runner, port = await _serve(photographs, tagged)
    try:
        site = load_site("folder", site={"start": [f"http://127.0.0.1:{port}/"]})
        with pytest.raises(Exception, match="not one image was kept"):
            await crawl(site, tmp_path / "set")
    finally:
        await runner.cleanup()


def test_a_replacement_that_cannot_be_is_a_wrong_site_file() -> None:
    with pytest.raises(ConfigError, match="rewrite"):
        load_site("thomann", listing={"rewrite": [["/x/", r"/\1/"]]})
