"""A list over many hosts: what waits, waits in the ledger, not in tasks."""

from __future__ import annotations

import asyncio

from aiohttp import web

from crawler import guard
from crawler.collect import Collection
from crawler.crawl import crawl
from crawler.fetch import Fetcher
from crawler.limits import Limits
from crawler.site import list_site

HOSTS, EACH, CONCURRENCY = 120, 2, 8


class Loopback:
    """Every name is this machine."""

    async def resolve(self, host):
        return ["127.0.0.1"]

    async def close(self):
        pass


async def test_hosts_that_wait_cost_no_tasks(start_web, make_picture, tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "_Resolver", Loopback)
    monkeypatch.setattr("crawler.collect._WORKERS", 8)
    most = 0
    fetch = Collection._fetch

    async def counted(self, job):
        nonlocal most
        ours = [task for task in asyncio.all_tasks() if "Collection._work" in repr(task.get_coro())]
        most = max(most, len(ours))
        await fetch(self, job)

    monkeypatch.setattr(Collection, "_fetch", counted)
    pictures = {f"/{number}.jpg": make_picture(number, (48, 48)) for number in range(EACH)}
    port = (await start_web(pictures)).rstrip("/").rpartition(":")[2]
    hosts = [f"h{number}.example" for number in range(HOSTS)]
    rows = tmp_path / "rows.txt"
    rows.write_text("".join(f"http://{host}:{port}{path}\n" for path in pictures for host in hosts))
    limits = Limits(concurrency=CONCURRENCY, per_host=4, rate_per_host=0, robots_retries=0)
    site = list_site(rows, site={"allow_private": hosts})
    report = await crawl(site, tmp_path / "set", limits=limits)
    assert (report.images, report.answered, report.kept) == (HOSTS * EACH, HOSTS * EACH, EACH)
    assert 1 < most <= 8 + 4 * CONCURRENCY


async def test_connections_left_open_are_bounded_and_used_again(start_web, monkeypatch):
    open_now: set[int] = set()
    connections: set[tuple[str, int]] = set()
    most, asked = 0, 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal most, asked
        transport = request.transport
        assert transport is not None
        connections.add(transport.get_extra_info("peername"))
        if request.path == "/0":
            asked += 1
            open_now.add(transport.get_extra_info("socket").fileno())
            most = max(most, len(open_now))
        return web.Response(body=b"x")

    monkeypatch.setattr("crawler.transport._most_open", lambda limits: 4)
    port = (await start_web({"/robots.txt": 404, "/0": answer, "/1": answer})).rstrip("/").rpartition(":")[2]
    hosts = [f"h{number}.example" for number in range(20)]
    limits = Limits(concurrency=2, rate_per_host=0)
    guarded = guard.Guard(hosts)
    async with Fetcher(
        limits, guarded, agent="b", user_agent="b", allowed=lambda host: True, resolver=Loopback()
    ) as fetcher:
        for host in hosts:
            for path in ("0", "0", "1"):
                assert (await fetcher.image(f"http://{host}:{port}/{path}")).body == b"x"
        assert asked == 2 * len(hosts)
        assert len(connections) == len(hosts)
        assert most <= 4 + 1  # numbers of files: those of closed connections are given again
