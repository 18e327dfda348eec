"""What is told while a crawl runs: rates of now, an end that is known or not, hosts and problems counted once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.crawl import crawl
from crawler.limits import Limits
from crawler.rates import MovingRates, eta_s
from crawler.report import CrawlStats, HostStats
from crawler.traffic import FETCH_BUCKETS_S

FAST = Limits(concurrency=8, per_host=4, rate_per_host=0, backoff_s=0.01, retries=1)
HOST = HostStats("a", 0, 0, 0, 0, 8, 0.0, 0.0, 0, 0.0, (0,) * (len(FETCH_BUCKETS_S) + 1))


@given(st.floats(0.5, 1e4), st.integers(1, 200))
def test_a_steady_rate_is_the_rate(rate: float, ticks: int) -> None:
    rates = MovingRates(5.0)
    found = (0.0,)
    for tick in range(ticks + 1):
        found = rates.update(tick * 0.2, (rate * tick * 0.2,))
    assert found[0] == pytest.approx(rate)


def test_a_rate_forgets_what_is_older_than_its_window() -> None:
    rates = MovingRates(5.0)
    for tick in range(51):
        rates.update(tick * 0.2, (100.0 * tick,))
    for tick in range(51, 90):
        found = rates.update(tick * 0.2, (5000.0,))
    assert found == (0.0,)
    assert len(rates._seen) <= 27


def test_the_end_is_bounded_by_what_a_host_allows() -> None:
    limited = replace(HOST, pending=100, interval_s=0.5, parked_s=7.0)
    assert eta_s(100, 400.0, [limited, HOST]) == 57.0
    assert eta_s(1000, 10.0, [limited, HOST]) == 100.0
    assert eta_s(10, 0.0, [limited]) == 57.0
    assert eta_s(10, 0.0, [HOST]) is None
    assert eta_s(0, 0.0, []) == 0.0


async def test_a_crawl_tells_of_hosts_queues_and_problems(start_web: Any, site_at: Any, tmp_path: Any) -> None:
    entry = (
        '<div class="fx-product-list-entry"><div class="product"><a class="product__image" href="/{0}.htm">'
        '<picture class="fx-picture"><source type="image/jpeg" data-srcset="/{0}.jpg"></picture></a>'
        '<span class="title__name">{0}</span></div></div>'
    )
    url = await start_web(
        {
            "/": '<div class="link-list__item"><a class="link-list__text" href="/gb/electric_guitars.html">Guitars'
            "</a></div>",
            "/gb/electric_guitars.html": "".join(entry.format(n) for n in range(30)),
        }
    )
    events: list[Any] = []
    seen: list[CrawlStats] = []

    def look(stats: CrawlStats) -> None:
        seen.append(replace(stats))

    with pytest.raises(Exception, match="not one image was kept"):
        await crawl(site_at(url), tmp_path, limits=FAST, on_progress=look, on_event=events.append)
    # the end of a crawl that fails is told by nobody: what was told before must still be true
    assert all(stats.in_flight <= FAST.concurrency for stats in seen)
    kinds = {event["event"] for event in events}
    assert {"stage", "request", "image"} <= kinds
    refused = [event for event in events if event["event"] == "image"]
    assert len(refused) == 30
    assert {event["reason"] for event in refused} == {"http-404"}
