"""The requests in flight over all hosts, shared so that slow hosts cannot use them up.

A request to a dead host holds its slot until a timeout; twenty such hosts would hold every slot, and the healthy ones
would wait. So hosts not heard of yet have at most half of the slots between them, those and slow ones together also,
while quick ones are at work; and whoever waits is served host by host, not in the order of asking.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from enum import IntEnum
from time import monotonic

__all__ = ["Slots", "Standing"]

_AT_WORK_S = 5.0  # a quick host that began nothing for so long has no claim
_Waiting = OrderedDict[object, deque[asyncio.Future[None]]]


class Standing(IntEnum):
    """What is known of a host's answers."""

    QUICK = 0
    SLOW = 1
    NEW = 2


class Slots:
    """Leave to have a request in flight.

    Args:
        count: requests in flight at most.
        clock: seconds, monotonic.
    """

    def __init__(self, count: int, *, clock: Callable[[], float] = monotonic) -> None:
        self.free = count
        self._half = max(1, count // 2)
        self._held = [0, 0, 0]  # by standing
        self._clock = clock
        self._quick_until = float("-inf")
        self._waiting: tuple[_Waiting, ...] = (OrderedDict(), OrderedDict(), OrderedDict())

    def take(self, standing: Standing) -> bool:
        """Takes a slot if one is to be had at once; `release` must be told the same standing."""
        if standing is Standing.QUICK:
            self._quick_until = self._clock() + _AT_WORK_S
        if self.free <= 0 or not self._may(standing):
            return False
        self._held[standing] += 1
        self.free -= 1
        return True

    async def wait(self, host: object, standing: Standing) -> None:
        """Takes a slot when it is the host's turn."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[standing].setdefault(host, deque()).append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release(standing)  # it was granted, and is no longer wanted
            raise

    def release(self, standing: Standing) -> None:
        """Gives a slot back."""
        self.free += 1
        self._held[standing] -= 1
        if any(self._waiting):
            self._grant()

    def _may(self, standing: Standing) -> bool:
        _, slow, new = self._held
        if standing is Standing.QUICK:
            return True
        if standing is Standing.NEW and new >= self._half:
            return False
        return slow + new < self._half or self._clock() >= self._quick_until

    def _grant(self) -> None:
        quarter = (self._half + 1) // 2
        while self.free > 0:
            _, slow, new = self._held
            # those not quick keep a quarter even from a crowd of quick ones: they are slowed, not starved
            order = _OTHERS_FIRST if slow + new < quarter else _QUICK_FIRST
            for standing in order:
                if self._waiting[standing] and self._may(standing) and _next(self._waiting[standing]):
                    self._held[standing] += 1
                    self.free -= 1
                    break
            else:
                return


_QUICK_FIRST = (Standing.QUICK, Standing.NEW, Standing.SLOW)
_OTHERS_FIRST = (Standing.NEW, Standing.SLOW, Standing.QUICK)


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
