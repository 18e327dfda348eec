"""A shop on a bad day, for testing crawlers: slow, failing, and telling those in a hurry to come back later."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

__all__ = ["Faults", "trouble"]


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong.

    Args:
        slow_s: seconds that every answer takes longer.
        fail: share of the requests that fail: a third each with status 500, with 503, and with the connection cut.
        rate: requests a second that are answered, with as many in store; beyond it 429 with Retry-After. 0 is no limit.
        seed: decides which requests fail, with their path and with how often it was asked for: a second try may do.
    """

    slow_s: float = 0.0
    fail: float = 0.0
    rate: float = 0.0
    seed: int = 0

    def __bool__(self) -> bool:
        return bool(self.slow_s or self.fail or self.rate)


def trouble(faults: Faults, clock: Callable[[], float] = monotonic) -> Middleware:
    """The middleware that makes a web application's day bad; robots.txt and all."""
    asked: Counter[str] = Counter()
    store, filled = max(1.0, faults.rate), clock()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal store, filled
        if faults.rate:
            now = clock()
            store, filled = min(max(1.0, faults.rate), store + (now - filled) * faults.rate), now
            if store < 1:
                wait = max(1, -int(-(1 - store) // faults.rate))
                return web.Response(status=429, headers={"Retry-After": str(wait)}, text="too many requests")
            store -= 1
        if faults.slow_s:
            await asyncio.sleep(faults.slow_s)
        asked[request.path] += 1
        dice = zlib.crc32(f"{faults.seed} {asked[request.path]} {request.path}".encode()) / 2**32
        if dice < faults.fail:
            kind = int(3 * dice / faults.fail)
            if kind < 2:
                return web.Response(status=(500, 503)[kind], text="a bad day")
            if request.transport is not None:
                request.transport.abort()
        return await handler(request)

    return middleware
