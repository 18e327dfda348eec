"""The requests in flight over all hosts, shared so that slow hosts cannot use them up.

A request to a dead host holds its slot until a timeout; twenty such hosts would hold every slot, and the healthy ones
would wait. So hosts that are slow, or not heard of yet, have at most half of the slots between them while quick ones
are at work; and whoever waits is served host by host, not in the order of asking.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from time import monotonic

__all__ = ["Slots"]

_AT_WORK_S = 5.0  # a quick host that began nothing for so long has no claim
_Waiting = OrderedDict[object, deque[asyncio.Future[None]]]


class Slots:
    """Leave to have a request in flight.

    Args:
        count: requests in flight at most.
        clock: seconds, monotonic.
    """

    def __init__(self, count: int, *, clock: Callable[[], float] = monotonic) -> None:
        self.free = count
        self._slow_most = max(1, count // 2)
        self._slow_held = 0
        self._clock = clock
        self._quick_until = float("-inf")
        self._quick: _Waiting = OrderedDict()
        self._slow: _Waiting = OrderedDict()

    def take(self, quick: bool) -> bool:
        """Takes a slot if one is to be had at once; `quick` as `release` must be told again."""
        if self.free <= 0:
            return False
        if quick:
            self._quick_until = self._clock() + _AT_WORK_S
        elif not self._slow_may():
            return False
        else:
            self._slow_held += 1
        self.free -= 1
        return True

    async def wait(self, host: object, quick: bool) -> None:
        """Takes a slot when it is the host's turn."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if quick:
            self._quick_until = self._clock() + _AT_WORK_S
        (self._quick if quick else self._slow).setdefault(host, deque()).append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release(quick)  # it was granted, and is no longer wanted
            raise

    def release(self, quick: bool) -> None:
        """Gives a slot back."""
        self.free += 1
        if not quick:
            self._slow_held -= 1
        if self._quick or self._slow:
            self._grant()

    def _slow_may(self) -> bool:
        return self._slow_held < self._slow_most or self._clock() >= self._quick_until

    def _grant(self) -> None:
        while self.free > 0:
            # the slow keep a quarter even from a crowd of quick ones: they are slowed, not starved
            if self._slow and self._slow_held < (self._slow_most + 1) // 2 and _next(self._slow):
                self._slow_held += 1
            elif self._quick and _next(self._quick):
                pass
            elif self._slow and self._slow_may() and _next(self._slow):
                self._slow_held += 1
            else:
                return
            self.free -= 1


def _next(waiting: _Waiting) -> bool:
    """Grants a slot to the host whose turn it is, which then goes to the end; False if nobody waits."""
    while waiting:
        host, waiters = waiting.popitem(last=False)
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                if waiters:
                    waiting[host] = waiters
                waiter.set_result(None)
                return True
    return False
