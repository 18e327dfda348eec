"""One polite GET, against servers that are slow, full, lying or hostile."""

from __future__ import annotations

import asyncio
import gzip
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest
from aiohttp import web

from crawler.crawl_errors import Refused
from crawler.fetch import Fetcher
from crawler.guard import Guard
from crawler.limits import Limits
from crawler.retry_after import retry_after_s

LIMITS = Limits(
    rate_per_host=0, robots_retries=0, retries=2, backoff_s=0.01, total_s=5, connect_s=1, read_s=0.5, page_bytes=100_000
)


def fetcher(limits: Limits = LIMITS, **options) -> Fetcher:
    return Fetcher(
        limits, Guard(["127.0.0.1"]), agent="bassline", user_agent="bassline/test", allowed=lambda host: True, **options
    )


def failing_first(times: int, answer: web.Response | None = None, headers: dict[str, str] | None = None, status=503):
    """A handler that fails a number of times and then answers; with the times it was asked."""
    asked: list[float] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(monotonic())
        if len(asked) <= times:
            return web.Response(status=status, headers=headers)
        return answer or web.Response(body=b"image")

    return handle, asked


async def test_addresses_go_over_the_wire_as_they_are(start_web):
    seen = []

    async def handle(request):
        seen.append((request.raw_path, request.headers))
        return web.Response(body=b"x")

    table = {"/thumb//a%7eb/%c3%bc.jpg": handle}
    url = await start_web(table)
    async with fetcher() as one:
        reply = await one.image(f"{url}thumb//a%7eb/%c3%bc.jpg?a=%20&b=+")
    raw, headers = seen[0]
    assert raw == "/thumb//a%7eb/%c3%bc.jpg?a=%20&b=+"
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"] == "bassline/test"
    assert reply.body == b"x"


async def test_retries_until_it_works(start_web):
    handle, asked = failing_first(2)
    async with fetcher() as one:
        assert (await one.image(await start_web({"/a": handle}) + "a")).body == b"image"
        assert one.traffic.retries == 2
    assert len(asked) == 3


async def test_gives_up_after_its_retries_and_never_retries_a_404(start_web):
    handle, asked = failing_first(9, status=500)
    missing, asked_missing = failing_first(9, status=404)
    url = await start_web({"/a": handle, "/b": missing})
    async with fetcher() as one:
        with pytest.raises(Refused) as refused:
            await one.image(url + "a")
        assert (refused.value.reason, refused.value.failed) == ("http-500", True)
        with pytest.raises(Refused) as refused:
            await one.image(url + "b")
        assert (refused.value.reason, refused.value.failed) == ("http-404", False)
    assert (len(asked), len(asked_missing)) == (3, 1)


async def test_retry_after_parks_the_whole_host_and_is_told(start_web):
    parked, told = [], asyncio.Event()

    def on_park(host: str, seconds: float) -> None:
        parked.append((host, seconds))
        told.set()

    handle, asked = failing_first(1, headers={"Retry-After": "1"}, status=429)
    url = await start_web({"/a": handle, "/b": b"other"})
    async with fetcher(on_park=on_park) as one:
        began = monotonic()
        first = asyncio.create_task(one.image(url + "a"))
        await told.wait()
        await one.image(url + "b")
        assert monotonic() - began >= 0.9
        await first
        assert one.budget(url.split("/")[2]).window < LIMITS.per_host  # halved, and on its way back
    assert parked == [(url.split("/")[2], 1.0)]
    assert len(asked) == 2


async def test_a_retry_after_beyond_patience_fails_at_once(start_web):
    handle, asked = failing_first(9, headers={"Retry-After": "100000"})
    async with fetcher() as one:
        with pytest.raises(Refused, match="longer than we wait"):
            await one.image(await start_web({"/a": handle}) + "a")
    assert len(asked) == 1


async def test_parked_from_an_earlier_run(start_web):
    url = await start_web({"/a": b"x"})
    began = monotonic()
    async with fetcher(parked={url.split("/")[2]: 0.4}) as one:
        await one.image(url + "a")
    assert monotonic() - began >= 0.35


def test_retry_after_in_both_forms():
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert retry_after_s("120", now) == 120
    assert retry_after_s("Sun, 22 Nov 2026 12:00:30 GMT", now) == 30
    assert retry_after_s("Sun, 22 Nov 2026 11:00:00 GMT", now) == 0
    assert retry_after_s((now + timedelta(seconds=5)).strftime("%a, %d %b %Y %H:%M:%S +0000"), now) == 5
    for nonsense in ("", "soon", "-5", "9" * 20, "Sun, 99 Nov 2026", "1.5"):
        assert retry_after_s(nonsense, now) is None


async def test_bounds_in_bytes(start_web):
    async def chunked(request):
        response = web.StreamResponse()
        await response.prepare(request)
        while request.transport and not request.transport.is_closing():
            await response.write(bytes(10_000))
        return response

    bomb = gzip.compress(bytes(50_000_000))
    url = await start_web(
        {
            "/long": (200, {}, bytes(100_001)),
            "/chunked": chunked,
            "/bomb": (200, {"Content-Encoding": "gzip"}, bomb),
            "/fits": (200, {}, bytes(100_000)),
            "/zipped": (200, {"Content-Encoding": "gzip"}, gzip.compress(b"page")),
        }
    )
    async with fetcher() as one:
        for path in ("long", "chunked", "bomb"):
            with pytest.raises(Refused, match="too-large"):
                await one.page(url + path)
        assert len((await one.page(url + "fits")).body) == 100_000
        assert (await one.page(url + "zipped")).body == b"page"


async def test_bounds_in_time(start_web):
    async def drip(request):
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        while request.transport and not request.transport.is_closing():
            await response.write(b".")
            await asyncio.sleep(0.1)
        return response

    async def silent(request):
        await asyncio.sleep(10)

    url = await start_web({"/drip": drip, "/silent": silent})
    async with fetcher(LIMITS.model_copy(update={"total_s": 0.8, "retries": 0})) as one:
        for path, reason in (("drip", "too-slow"), ("silent", "timeout")):
            with pytest.raises(Refused) as refused:
                await one.image(url + path)
            assert (refused.value.reason, refused.value.failed) == (reason, True)
    patient = LIMITS.model_copy(update={"total_s": 0.8, "retries": 0, "min_bytes_per_s": 0.0})
    async with fetcher(patient) as one:
        with pytest.raises(Refused, match="timeout: not done in"):
            await one.image(url + "drip")


async def test_redirects(start_web):
    url = await start_web(
        {
            "/a": (301, {"Location": "b"}, b""),
            "/b": (307, {"Location": "/c//d"}, b""),
            "/c//d": b"there",
            "/loop": (302, {"Location": "/loop"}, b""),
            **{f"/{i}": (302, {"Location": f"/{i + 1}"}, b"") for i in range(7)},
        }
    )
    async with fetcher() as one:
        reply = await one.image(url + "a")
        assert (reply.url, reply.body) == (url + "c//d", b"there")
        for path in ("loop", "0"):
            with pytest.raises(Refused, match="more than 5 redirects"):
                await one.image(url + path)


async def test_hosts_that_are_not_the_sites(start_web):
    url = await start_web({"/go": (302, {"Location": "http://elsewhere.example/x.jpg"}, b"")})
    own = Fetcher(LIMITS, Guard(["127.0.0.1"]), agent="b", user_agent="b", allowed=lambda host: host == "127.0.0.1")
    async with own as one:
        with pytest.raises(Refused, match="foreign-host"):
            await one.image(url + "go")


async def test_nobody_there(unused_tcp_port):
    async with fetcher(LIMITS.model_copy(update={"retries": 0})) as one:
        with pytest.raises(Refused, match="robots-unreachable: connection") as refused:  # RFC 9309: unreachable denies
            await one.image(f"http://127.0.0.1:{unused_tcp_port}/a")
        assert refused.value.failed


async def test_a_flood_of_headers(start_web):
    url = await start_web({"/flood": (200, {"X-Flood": "a" * 100_000}, b"x")})
    async with fetcher(LIMITS.model_copy(update={"retries": 0})) as one:
        with pytest.raises(Refused, match="protocol"):
            await one.image(url + "flood")
