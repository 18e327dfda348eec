"""How fast a crawl goes now, and when it will be through: arithmetic on what was counted, with no clock of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crawler.report import HostStats

__all__ = ["MovingRates", "eta_s"]


class MovingRates:
    """Rates of several counters over the last `window_s` seconds.

    Args:
        window_s: how far back it looks; less at the beginning.
    """

    def __init__(self, window_s: float = 5.0) -> None:
        self._window_s = window_s
        self._seen: deque[tuple[float, tuple[float, ...]]] = deque()

    def update(self, now: float, counters: tuple[float, ...]) -> tuple[float, ...]:
        """Notes the counters at `now` (seconds, never going back); returns their rates a second, 0 at first."""
        seen = self._seen
        seen.append((now, counters))
        # one entry older than the window stays: a rate is always over the whole of it
        while len(seen) > 2 and seen[1][0] <= now - self._window_s:
            seen.popleft()
        began, first = seen[0]
        if now <= began:
            return tuple(0.0 for _ in counters)
        return tuple((last - before) / (now - began) for before, last in zip(first, counters, strict=True))


def eta_s(remaining: int, images_per_s: float, hosts: Iterable[HostStats]) -> float | None:
    """Seconds until `remaining` images are answered for: at the present rate, and not before any host allows it.

    A host with p images waiting that begins one request every i seconds and is parked for k more cannot be through
    in less than k + p * i. None while nothing moves and no host says why.
    """
    if not remaining:
        return 0.0
    least = max((host.parked_s + host.pending * host.interval_s for host in hosts if host.pending), default=0.0)
    if images_per_s > 0:
        return max(least, remaining / images_per_s)
    return least or None
