"""How hard a crawl may work, and the budget of each host: its concurrency, its rate, and how long it wants to be left.

A worker takes a host's token first and a connection after, so a slow host holds its own tokens and nobody else's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic

from pydantic import Field

from shards.toml_file import StrictModel

__all__ = ["HostBudget", "Limits"]


class Limits(StrictModel):
    """Limits of a crawl; every field has its unit in its name or here."""

    concurrency: int = Field(default=64, ge=1, le=4096, description="requests in flight over all hosts")
    per_host: int = Field(default=8, ge=1, le=1024, description="requests in flight to one host at most")
    rate_per_host: float = Field(default=10.0, ge=0, description="requests a second begun to one host; 0 is no limit")
    connect_s: float = Field(default=5.0, gt=0)
    read_s: float = Field(default=10.0, gt=0, description="longest silence inside an answer")
    total_s: float = Field(default=60.0, gt=0, description="one request from connection to last byte")
    page_bytes: int = Field(default=8_000_000, ge=1)
    image_bytes: int = Field(default=10_000_000, ge=1)
    redirects: int = Field(default=5, ge=0)
    retries: int = Field(default=3, ge=0, description="attempts after the first")
    backoff_s: float = Field(default=0.5, gt=0, description="before the first retry; doubled each time, with jitter")
    longest_park_s: float = Field(default=3600.0, gt=0, description="a longer Retry-After fails the address instead")
    longest_crawl_delay_s: float = Field(default=60.0, ge=0, description="a longer Crawl-delay counts as this")


class HostBudget:
    """What one host is given: a window of requests in flight (AIMD), a rate, and a time until which it is parked.

    Args:
        limits: of the crawl.
        parked_until: monotonic seconds, from an earlier run.
    """

    def __init__(self, limits: Limits, parked_until: float = 0.0) -> None:
        self._most = limits.per_host
        self._window = float(limits.per_host)
        self._interval = 1 / limits.rate_per_host if limits.rate_per_host else 0.0
        self._next_start = 0.0
        self._halved = 0.0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.in_flight = 0
        self.parked_until = parked_until

    @property
    def window(self) -> int:
        """Requests that may be in flight now."""
        return int(self._window)

    @property
    def interval_s(self) -> float:
        """Seconds between two starts at least; 0 is no limit."""
        return self._interval

    def slow_to(self, interval_s: float) -> None:
        """At least this many seconds between two starts (Crawl-delay)."""
        self._interval = max(self._interval, interval_s)

    def park(self, until: float) -> None:
        """Begins nothing before `until` (monotonic seconds)."""
        self.parked_until = max(self.parked_until, until)

    async def acquire(self) -> float:
        """Waits for a token; returns the start time, which `release` takes. Awaits nothing if nothing is in the way."""
        while True:
            if self.in_flight >= self.window:
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                try:
                    await waiter
                except asyncio.CancelledError:
                    self._wake()
                    raise
                continue
            now = monotonic()
            wait = max(self._next_start, self.parked_until) - now
            if wait > 0:
                await asyncio.sleep(wait)
                continue
            self._next_start = now + self._interval
            self.in_flight += 1
            return now

    def release(self, started: float, *, overloaded: bool = False) -> None:
        """Gives the token back.

        An overloaded host's window is halved, once per round of requests; success widens it by one a round (additive
        increase, multiplicative decrease, as in TCP).
        """
        self.in_flight -= 1
        if overloaded:
            if started >= self._halved:
                self._halved = monotonic()
                self._window = max(1.0, self._window / 2)
        elif self._window < self._most:
            self._window = min(float(self._most), self._window + 1 / self._window)
        self._wake()

    def _wake(self) -> None:
        free = self.window - self.in_flight
        while self._waiters and free > 0:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1
