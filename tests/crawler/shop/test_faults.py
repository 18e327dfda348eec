"""A shop on a bad day is crawled to the same set as on a good one; and it is as bad as it was told to be."""

from __future__ import annotations

from collections import Counter
from typing import Any

import aiohttp
import pytest

from crawler.crawl import crawl
from crawler.limits import Limits
from crawler.shop.faults import Faults
from crawler.shop.server import serve


async def _statuses(url: str, count: int) -> Counter[int]:
    found: Counter[int] = Counter()
    async with aiohttp.ClientSession() as session:
        for number in range(count):
            try:
                async with session.get(f"{url}nothing/{number}") as answer:
                    found[answer.status] += 1
            except aiohttp.ClientError:
                found[0] += 1
    return found


async def test_it_fails_as_often_as_it_was_told_to(shop: Any) -> None:
    async with serve(shop, faults=Faults(fail=0.3)) as url:
        found = await _statuses(url, 300)
        again = await _statuses(url, 300)
    assert 60 <= found[500] + found[503] + found[0] <= 120
    assert min(found[500], found[503], found[0]) >= 10
    assert found[404] == 300 - found[500] - found[503] - found[0]
    assert again != found  # another try is another chance


async def test_those_in_a_hurry_are_told_to_wait(shop: Any) -> None:
    async with serve(shop, faults=Faults(rate=0.01)) as url, aiohttp.ClientSession() as session:
        async with session.get(url) as answer:
            assert answer.status == 200
        async with session.get(url) as answer:
            assert answer.status == 429
            assert 90 <= int(answer.headers["Retry-After"]) <= 100


@pytest.mark.timeout(60)
async def test_a_crawl_of_a_bad_day(shop: Any, site_at: Any, tmp_path: Any) -> None:
    limits = Limits(concurrency=16, per_host=16, rate_per_host=0, backoff_s=0.01, retries=6, retry_ratio=1.0)
    async with serve(shop, faults=Faults(slow_s=0.002, fail=0.05)) as url:
        bad = await crawl(site_at(url), tmp_path / "bad", limits=limits)
    async with serve(shop) as url:
        good = await crawl(site_at(url), tmp_path / "good", limits=limits)
    assert (bad.kept, bad.failed, bad.labels) == (good.kept, {}, good.labels)
    assert sum(host["retries"] for host in bad.by_host.values()) > 5
