"""A slow or dead host slows no other. Measured without a clock: the others go on only when the healthy are done."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from crawler.crawl import crawl
from crawler.crawl_errors import Refused
from crawler.fetch import Fetcher
from crawler.guard import Guard
from crawler.limits import Limits
from crawler.site import load_site

IMAGES = 12


class Loopback:
    """Every name is this machine."""

    async def resolve(self, host):
        return ["127.0.0.1"]

    async def close(self):
        pass


@pytest.mark.parametrize("hanging_at", ["robots", "images"])
async def test_hosts_that_hang_hold_up_nobody(start_web, hanging_at):
    done = asyncio.Event()
    healthy = [f"healthy-{number}.example" for number in range(4)]
    hanging = [f"hanging-{number}.example" for number in range(24)]

    async def answer(request: web.Request) -> web.Response:
        robots = request.path == "/robots.txt"
        if request.host.startswith("hanging") and robots == (hanging_at == "robots"):
            await done.wait()  # for ever, if the healthy were to wait for them
        return web.Response(status=404) if robots else web.Response(body=b"x")

    url = await start_web({"/robots.txt": answer, **{f"/{number}": answer for number in range(IMAGES)}})
    port = url.rsplit(":", 1)[1]
    limits = Limits(concurrency=64, per_host=8, rate_per_host=0, read_s=60, total_s=60)
    guard = Guard([*healthy, *hanging])
    fetcher = Fetcher(limits, guard, agent="b", user_agent="b", allowed=lambda host: True, resolver=Loopback())
    async with fetcher as one:

        async def work(host: str, numbers: list[int]) -> None:
            while numbers:
                await one.image(f"http://{host}:{port}{numbers.pop()}")

        async def drain(hosts: list[str]) -> None:
            queues = {host: list(range(IMAGES)) for host in hosts}
            await asyncio.gather(*(work(host, queue) for host, queue in queues.items() for _ in range(8)))

        slow = asyncio.create_task(drain(hanging))
        await asyncio.sleep(0.05)  # the hanging are first in every queue
        try:
            await asyncio.wait_for(drain(healthy), 30)
            finished = sum(one.traffic.hosts[name].requests for name in one.traffic.hosts if name.startswith("healthy"))
            assert finished == len(healthy) * (IMAGES + 1)
            hung = [seen for name, seen in one.traffic.hosts.items() if name.startswith("hanging")]
            assert sum(seen.in_flight for seen in hung) >= 8  # they did hang, in the places that are theirs
        finally:
            done.set()
        await asyncio.wait_for(slow, 30)


async def test_a_dead_host_is_given_up_and_asked_again_by_the_next_run(tmp_path, thumbnails):
    """Half the thumbnails are on a host whose gateway is down: the crawl ends, and the next run has them all."""
    pictures = [path.read_bytes() for path in thumbnails["banjo"][:8]]
    dead, asked = True, 0

    async def other(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        if request.path == "/robots.txt":
            raise web.HTTPNotFound
        asked += 1
        if dead:
            raise web.HTTPBadGateway
        return web.Response(body=pictures[int(request.path.strip("/").split(".")[0])], content_type="image/jpeg")

    app = web.Application()
    app.router.add_get("/{path:.*}", other)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    items = "".join(
        f'<div class="fx-product-list-entry"><div class="product"><a class="product__image" href="/p{number}.htm">'
        f'<picture class="fx-picture"><source data-srcset="{base}/{number}.jpg"></picture></a></div></div>'
        for number in range(8)
        for base in ["" if number % 2 else f"http://127.0.0.1:{port}"]
    )
    link = '<div class="link-list__item"><a class="link-list__text" href="/banjo.html">banjo</a></div>'

    async def shop(request: web.Request) -> web.StreamResponse:
        if request.path.endswith(".jpg"):
            return web.Response(body=pictures[int(request.path.strip("/").split(".")[0])], content_type="image/jpeg")
        if request.path == "/banjo.html":
            return web.Response(text=items if request.query.get("pg") == "1" else "", content_type="text/html")
        if request.path == "/robots.txt":
            raise web.HTTPNotFound
        return web.Response(text=link, content_type="text/html")

    front = web.Application()
    front.router.add_get("/{path:.*}", shop)
    front_runner = web.AppRunner(front, access_log=None, shutdown_timeout=0.1)
    await front_runner.setup()
    await web.TCPSite(front_runner, "127.0.0.1", 0).start()
    try:
        site = load_site("folder", site={"start": [f"http://127.0.0.1:{front_runner.addresses[0][1]}/"]})
        limits = Limits(
            rate_per_host=0, retries=1, backoff_s=0.01, breaker_failures=2, breaker_pause_s=0.1, give_up_s=0.3
        )
        first = await crawl(site, tmp_path / "set", limits=limits)
        assert first.finished
        assert first.kept == 4
        assert sum(first.failed.values()) == 4
        assert first.failed["host-down"] >= 1
        assert "breaker-open" in first.problem_classes
        dead, before = False, asked
        second = await crawl(site, tmp_path / "set", limits=limits)
        assert (second.kept, second.failed) == (8, {})
        assert asked - before == 4
    finally:
        await front_runner.cleanup()
        await runner.cleanup()


async def test_a_host_that_comes_back_loses_nothing(start_web):
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(body=b"x") if asked > 30 else web.Response(status=503)

    url = await start_web({f"/{number}": answer for number in range(64)})
    limits = Limits(rate_per_host=0, backoff_s=0.01, breaker_pause_s=0.02, breaker_longest_pause_s=0.02)
    fetcher = Fetcher(limits, Guard(["127.0.0.1"]), agent="b", user_agent="b", allowed=lambda host: True)
    async with fetcher as one:
        replies = await asyncio.gather(*(one.image(f"{url}{number}") for number in range(64)))
        assert len(replies) == 64
        budget = one.budget(url.split("/")[2])
        assert budget.breaker.opened >= 1
        assert not budget.breaker.is_open


async def test_retries_have_a_budget(start_web):
    url = await start_web({f"/{number}": 500 for number in range(50)})
    limits = Limits(rate_per_host=0, retries=3, backoff_s=0.001, retry_floor=4, retry_ratio=0.1)
    fetcher = Fetcher(limits, Guard(["127.0.0.1"]), agent="b", user_agent="b", allowed=lambda host: True)
    async with fetcher as one:
        ends = await asyncio.gather(*(one.image(f"{url}{n}") for n in range(50)), return_exceptions=True)
        assert all(isinstance(end, Refused) and end.reason == "http-500" for end in ends)
        assert one.traffic.retries == 9  # 4 and a tenth of 50, where 150 would have been asked for
        assert any("retry budget" in str(end) for end in ends)


async def test_bytes_a_second_are_capped(start_web):
    body = bytes(50_000)
    url = await start_web({f"/{number}": body for number in range(8)})
    for cap in ({"bytes_per_s": 500_000.0}, {"bytes_per_s_per_host": 500_000.0}):
        limits = Limits(rate_per_host=0, total_s=0.4, connect_s=0.4, **cap)  # our own waiting is no timeout
        fetcher = Fetcher(limits, Guard(["127.0.0.1"]), agent="b", user_agent="b", allowed=lambda host: True)
        async with fetcher as one:
            began = asyncio.get_running_loop().time()
            replies = await asyncio.gather(*(one.image(f"{url}{number}") for number in range(8)))
            took = asyncio.get_running_loop().time() - began
        assert all(reply.body == body for reply in replies)
        assert took >= 8 * 50_000 / 500_000 * 0.95
