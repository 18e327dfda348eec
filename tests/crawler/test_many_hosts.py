"""A list over many hosts: what waits, waits in the ledger, not in tasks."""

from __future__ import annotations

import asyncio
import socket

from aiohttp.abc import AbstractResolver

from crawler import guard
from crawler.collect import Collection
from crawler.crawl import crawl
from crawler.limits import Limits
from crawler.site import list_site

HOSTS, EACH, CONCURRENCY = 300, 3, 8


class Loopback(AbstractResolver):
    """Every name is this machine."""

    async def resolve(self, host, port=0, family=socket.AF_INET):
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self):
        pass


async def test_hosts_that_wait_cost_no_tasks(start_web, make_picture, tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "_Resolver", Loopback)
    monkeypatch.setattr("crawler.collect._WORKERS", 16)
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
    assert 1 < most <= 16 + 4 * CONCURRENCY
