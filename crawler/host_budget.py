"""The budget of one host: how many requests, how often, how many bytes and retries, and whether to ask it at all.

A worker takes a host's token first and a connection after, so a slow host holds its own tokens and nobody else's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from crawler.breaker import Breaker
from crawler.buckets import ByteBucket, RetryBudget
from crawler.crawl_errors import Refused
from crawler.limits import Limits
from crawler.slots import Standing

__all__ = ["HostBudget", "Token"]

_QUICK_S = 1.0  # a host whose answers take longer on average is a slow one
_WEIGHT = 0.2  # of the newest answer in that average
_ONE_BY_ONE_S = 1.0  # a host that asks for so long a pause is not asked by two at a time


@dataclass(slots=True, eq=False)
class Token:
    """Leave to make one request, given at `started`; `release` takes it back. `begun` once it has a connection."""

    started: float
    probe: bool
    begun: float | None = None


class HostBudget:
    """What one host is given: a window of requests in flight (AIMD), a rate, and a time until which it is parked.

    Args:
        limits: of the crawl.
        parked_until: seconds of the clock, from an earlier run.
        clock: seconds, monotonic.
    """

    def __init__(self, limits: Limits, parked_until: float = 0.0, *, clock: Callable[[], float] = monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._most = limits.per_host
        # One request to a host not heard of, and one more for each answer until the first trouble (TCP's slow start):
        # a host that turns out to hang holds little.
        self._window = 1.0
        self._untroubled = True
        self._interval = 1 / limits.rate_per_host if limits.rate_per_host else 0.0
        self._next_start = 0.0
        self._halved = float("-inf")
        self._latency: float | None = None  # seconds an answer takes, moving average
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._sleepers: set[asyncio.Future[None]] = set()
        self._out: dict[Token, None] = {}  # in the order given
        self.parked_until = parked_until
        self.breaker = Breaker(limits)
        self.retries = RetryBudget(limits)
        self.bytes = ByteBucket(limits.bytes_per_s_per_host)
        self.given_up: tuple[str, str] | None = None  # reason and detail, once nothing more is asked of the host

    @property
    def window(self) -> int:
        """Requests that may be in flight now."""
        return int(self._window)

    @property
    def interval_s(self) -> float:
        """Seconds between two starts at least; 0 is no limit."""
        return self._interval

    @property
    def in_flight(self) -> int:
        """Tokens given out."""
        return len(self._out)

    def standing(self) -> Standing:
        """What the host is known for: answering soon, or not, or nothing yet."""
        if self._latency is None:
            return Standing.NEW
        if self._latency >= _QUICK_S or self.breaker.failures:
            return Standing.SLOW
        oldest = next(iter(self._out), None)
        if oldest is not None and oldest.begun is not None and self._clock() - oldest.begun >= _QUICK_S:
            return Standing.SLOW
        return Standing.QUICK

    def slow_to(self, interval_s: float) -> None:
        """At least this many seconds between two starts (Crawl-delay)."""
        self._interval = max(self._interval, interval_s)
        if self._interval >= _ONE_BY_ONE_S:
            self._most, self._window = 1, 1.0

    def park(self, until: float) -> None:
        """Begins nothing before `until` (seconds of the clock)."""
        self.parked_until = max(self.parked_until, until)

    def give_up(self, reason: str, detail: str) -> None:
        """Asks nothing more of the host: whoever waits for it, and whoever comes, is refused with this."""
        if self.given_up is None:
            self.given_up = (reason, detail)
            self._wake_all()

    def wait_s(self, now: float) -> float | None:
        """Seconds until a request may begin, 0 for now; None if something else must end first.

        Raises:
            Refused: the host is given up.
        """
        if self.given_up is not None:
            raise Refused(*self.given_up, failed=True)
        if len(self._out) >= int(self._window):
            return None
        wait = max(self._next_start, self.parked_until) - now
        if self.breaker.is_open:
            probe = self.breaker.wait_s(now)
            if probe is None:
                return None
            wait = max(wait, probe)
        return wait if wait > 0 else 0.0

    def begin(self, now: float) -> Token:
        """Takes a token, `wait_s` being 0."""
        self._next_start = now + self._interval
        token = Token(now, self.breaker.begin())
        self._out[token] = None
        return token

    async def acquire(self) -> Token:
        """Waits for a token. Awaits nothing if nothing is in the way.

        Raises:
            Refused: the host is given up; "host-down" or what else says why.
        """
        behind = bool(self._waiters)  # who asks again after a failure does so behind those who have not asked yet
        while True:
            now = self._clock()
            wait = self.wait_s(now)
            if wait == 0.0 and not behind:
                return self.begin(now)
            await self._pause(None if behind else wait)
            behind = False

    def begun(self, token: Token) -> None:
        """The request begins, perhaps after waiting for a connection: the next one keeps its distance from it."""
        token.begun = now = self._clock()
        self._next_start = max(self._next_start, now + self._interval)

    def release(
        self, token: Token, *, overloaded: bool = False, failed: str = "", answered: bool = True, robots: bool = False
    ) -> bool:
        """Gives the token back.

        An overloaded host's window is halved, once per round of requests; success widens it by one a round (additive
        increase, multiplicative decrease, as in TCP).

        Args:
            token: that `acquire` gave.
            overloaded: the host asked for less, or kept us waiting too long.
            failed: what went wrong, if the host itself is in doubt; counted by the breaker.
            answered: False if nothing can be said (the request was cancelled).
            robots: it was for robots.txt, which says nothing of how soon the host's pages come.

        Returns:
            Whether this opened the breaker.
        """
        now = self._clock()
        self._untroubled = self._untroubled and not (failed or overloaded)
        del self._out[token]
        opened = False
        if failed:
            before = self.breaker.opened
            if self.breaker.failed(now, probe=token.probe):
                self.give_up("host-down", f"failing for {self._limits.give_up_s:g} s, at last: {failed}")
            opened = self.breaker.opened > before
            if opened:
                self._window = 1.0  # what comes back is not met by all who waited
        elif answered:
            self.breaker.answered()
            if not robots:
                took = now - (token.begun or token.started)
                self._latency = took if self._latency is None else self._latency + _WEIGHT * (took - self._latency)
        elif token.probe:
            self.breaker.abandoned()
        if overloaded:
            if token.started >= self._halved:
                self._halved = now
                self._window = max(1.0, self._window / 2)
        elif answered and not failed and not robots and self._window < self._most:
            step = 1.0 if self._untroubled else 1 / self._window
            self._window = min(float(self._most), self._window + step)
        if self._waiters:
            self._wake()
        return opened

    async def _pause(self, wait_s: float | None) -> None:
        """Waits so long, or (None) until a token may have come free; in any case until the host is given up."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        if wait_s is None:
            self._waiters.append(waiter)
            timer = None
        else:
            self._sleepers.add(waiter)
            timer = loop.call_later(wait_s, _set, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            self._wake()  # the turn may have been given to one who no longer wants it
            raise
        finally:
            if timer is not None:
                timer.cancel()
                self._sleepers.discard(waiter)

    def _wake(self) -> None:
        free = int(self._window) - len(self._out)
        if self.breaker.is_open:
            free = 0 if self.breaker.probing else min(free, 1)
        while self._waiters and free > 0:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1

    def _wake_all(self) -> None:
        for waiter in (*self._waiters, *self._sleepers):
            _set(waiter)
        self._waiters.clear()


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
