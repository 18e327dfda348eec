"""What goes over the wire and what goes wrong, counted as it happens: by host, and by class of problem.

A request costs about two microseconds here. Everything but `refused` is called in the event loop; whoever reads from
another thread reads what `crawler.watch` makes of it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic, time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crawler.crawl_errors import Refused

__all__ = ["FETCH_BUCKETS_S", "HostTraffic", "OnEvent", "Problem", "Traffic"]

FETCH_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

OnEvent = Callable[[Mapping[str, Any]], None]
"""Told of everything, one JSON-able object each, with `event` and `at` (epoch seconds); called from several threads."""


@dataclass(slots=True)
class HostTraffic:
    """One host's share: requests ended, body bytes, requests in flight, retries, seconds in requests by bucket."""

    requests: int = 0
    bytes: int = 0
    in_flight: int = 0
    retries: int = 0
    fetch_s: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(FETCH_BUCKETS_S) + 1))


@dataclass(frozen=True, slots=True)
class Problem:
    """A class of problem: how often it was met in this run, and where first."""

    count: int
    first_url: str
    first_detail: str


class Traffic:
    """Counts of one run.

    Args:
        on_event: told of every request, retry, park, refused page and image; None costs nothing.
    """

    def __init__(self, on_event: OnEvent | None = None) -> None:
        self.requests = self.bytes = self.in_flight = self.retries = self.parked = 0
        self.hosts: dict[str, HostTraffic] = {}
        self.problems: dict[str, Problem] = {}
        self._on_event = on_event
        self._lock = Lock()

    def begin(self, netloc: str) -> float:
        """A request goes out; returns the moment that `end` takes."""
        host = self.hosts.get(netloc)
        if host is None:
            host = self.hosts[netloc] = HostTraffic()
        host.in_flight += 1
        self.in_flight += 1
        self.requests += 1
        return monotonic()

    def end(self, netloc: str, began: float, url: str, status: int, size: int) -> None:
        """It has ended: `status` 0 if nothing was answered, `size` of the body in bytes."""
        seconds = monotonic() - began
        host = self.hosts[netloc]
        host.in_flight -= 1
        self.in_flight -= 1
        host.requests += 1
        host.bytes += size
        self.bytes += size
        host.fetch_s += seconds
        host.buckets[bisect_left(FETCH_BUCKETS_S, seconds)] += 1
        if self._on_event is not None:
            self.event("request", url=url, status=status, bytes=size, seconds=round(seconds, 6))

    def retry(self, netloc: str, url: str, refused: Refused, wait_s: float) -> None:
        """A request will be tried again after `wait_s`."""
        self.retries += 1
        if host := self.hosts.get(netloc):
            host.retries += 1
        if self._on_event is not None:
            self.event("retry", url=url, reason=refused.reason, detail=refused.detail, wait_s=round(wait_s, 3))

    def park(self, netloc: str, seconds: float) -> None:
        """A host asked to be left alone."""
        self.parked += 1
        if self._on_event is not None:
            self.event("park", host=netloc, seconds=round(seconds, 3))

    def refused(self, kind: str, url: str, refused: Refused) -> None:
        """A page or image will not be had; from any thread."""
        with self._lock:
            known = self.problems.get(refused.reason)
            self.problems[refused.reason] = (
                Problem(known.count + 1, known.first_url, known.first_detail)
                if known
                else Problem(1, url, refused.detail)
            )
        if self._on_event is not None:
            self.event(kind, url=url, reason=refused.reason, detail=refused.detail, failed=refused.failed)

    def by_host(self) -> dict[str, dict[str, float]]:
        """Requests, bytes, retries and seconds in requests by host, the busiest first."""
        busiest = sorted(self.hosts.items(), key=lambda item: (-item[1].requests, item[0]))
        return {
            name: {"requests": seen.requests, "bytes": seen.bytes, "retries": seen.retries, "fetch_s": seen.fetch_s}
            for name, seen in busiest
        }

    def event(self, event: str, **told: Any) -> None:
        """Tells whoever listens."""
        if self._on_event is not None:
            self._on_event({"event": event, "at": round(time(), 3), **told})
