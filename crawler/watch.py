"""What a crawl tells while it runs: five times a second the counts, and as often as it is cheap the state by host.

Everything with more than one number in it is replaced as a whole, never changed: another thread may read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from crawler.collect import Collection
from crawler.crawl_errors import LedgerFailed
from crawler.fetch import Fetcher
from crawler.frontier import Frontier
from crawler.rates import MovingRates, eta_s
from crawler.report import CrawlStats, HostStats
from crawler.traffic import HostTraffic, Traffic

__all__ = ["Watch"]

_TELL_S = 0.2
_SHARE = 0.005  # of the time, at most, for counting by host: a crawl of 10,000 hosts is looked at less often
_NONE = HostTraffic()


class Watch:
    """Fills in `stats` and calls `on_progress`.

    Args:
        stats: of the crawl; what is counted elsewhere (categories, pages, products, images) is left alone.
        traffic: of the crawl.
        frontier: of the crawl.
        done_before: images answered for by earlier runs.
        on_progress: called with `stats`.
    """

    def __init__(
        self,
        stats: CrawlStats,
        traffic: Traffic,
        frontier: Frontier,
        done_before: int,
        on_progress: Callable[[CrawlStats], None],
    ) -> None:
        self.fetcher: Fetcher | None = None
        self.collection: Collection | None = None
        self._stats, self._traffic, self._frontier = stats, traffic, frontier
        self._done_before, self._on_progress = done_before, on_progress
        self._rates = MovingRates()
        self._started = monotonic()
        self._pending: dict[str, int] = {}
        self._hosts_due = 0.0

    async def run(self) -> None:
        """Tells until it is cancelled."""
        counting = asyncio.create_task(self._count_pending())
        try:
            while True:
                self.tell()
                await asyncio.sleep(_TELL_S)
        finally:
            counting.cancel()

    def tell(self) -> None:
        """Brings the stats up to now and tells them."""
        now = monotonic()
        stats, frontier, traffic = self._stats, self._frontier, self._traffic
        stats.seconds = now - self._started
        stats.kept, stats.unchanged, stats.dropped = frontier.kept, frontier.unchanged, dict(frontier.dropped)
        stats.images_done = self._done_before + frontier.taken
        stats.requests, stats.bytes = traffic.requests, traffic.bytes
        stats.in_flight, stats.retries = traffic.in_flight, traffic.retries
        stats.problems = dict(traffic.problems)
        rates = self._rates.update(now, (stats.pages + stats.categories, frontier.taken, traffic.bytes))
        stats.pages_per_s, stats.images_per_s, stats.bytes_per_s = rates
        stats.to_ledger = frontier.queued
        if self.collection is not None:
            stats.listings_left = self.collection.listings_left
            stats.to_examine = max(0, self.collection.on_the_way - stats.to_ledger)
        if now >= self._hosts_due:
            stats.hosts = self._hosts(now)
            self._hosts_due = now + (monotonic() - now) / _SHARE
        remaining = max(0, stats.images - stats.images_done)
        known = stats.stage == "collect" and stats.listings_left == 0
        stats.eta_s = eta_s(remaining, stats.images_per_s, stats.hosts) if known else None
        self._on_progress(stats)

    def _hosts(self, now: float) -> tuple[HostStats, ...]:
        found = [self._host(name, now) for name in self._traffic.hosts.keys() | self._pending.keys()]
        return tuple(sorted(found, key=lambda host: (-host.in_flight, -host.pending, -host.requests, host.host)))

    def _host(self, name: str, now: float) -> HostStats:
        seen = self._traffic.hosts.get(name, _NONE)
        budget = self.fetcher.budget(name) if self.fetcher else None
        wait_s = (budget.breaker.wait_s(now) or 0.0) if budget else 0.0
        return HostStats(
            host=name,
            requests=seen.requests,
            bytes=seen.bytes,
            retries=seen.retries,
            in_flight=seen.in_flight,
            window=budget.window if budget else 0,
            parked_s=max(wait_s, budget.parked_until - now) if budget else 0.0,
            interval_s=budget.interval_s if budget else 0.0,
            pending=self._pending.get(name, 0),
            fetch_s=seen.fetch_s,
            buckets=tuple(seen.buckets),
            failing=budget.breaker.failures if budget and budget.breaker.is_open else 0,
            given_up=budget.given_up[0] if budget and budget.given_up else "",
        )

    async def _count_pending(self) -> None:
        with suppress(LedgerFailed):
            while True:
                self._pending, took_s = await self._frontier.pending()
                await asyncio.sleep(max(1.0, took_s / _SHARE))
