"""Open connections: kept for the next request to their host, and bounded, however many hosts there are.

A pool bounds the connections in use, not the idle ones: a list over 3,000 hosts would leave 3,000 open, and where a
process may have 1,024 files every third host would seem to be down. So each host has a pool of its own, and those used
longest ago are closed.
"""

from __future__ import annotations

import resource
from collections import OrderedDict
from collections.abc import Callable

import aiohttp

from crawler.guard import Guard, GuardedResolver
from crawler.limits import Limits

__all__ = ["Connections"]

_OTHER_FILES = 256  # of the process: shards, ledger, the caller's own
_FEWEST, _MOST = 8, 4096  # hosts with idle connections


class Connections:
    """The pools of a crawl, by host[:port]; made in its event loop.

    Args:
        limits: of the crawl.
        guard, resolver: what names may mean.
        user_agent: the whole User-Agent header.
        busy: whether a host is being asked; its pool stays.
    """

    def __init__(
        self,
        limits: Limits,
        guard: Guard,
        resolver: aiohttp.abc.AbstractResolver | None,
        *,
        user_agent: str,
        busy: Callable[[str], bool],
    ) -> None:
        self._limits, self._busy = limits, busy
        self._most = _hosts_for(limits)
        self._resolver = GuardedResolver(guard, resolver)
        self._headers = {"User-Agent": user_agent}
        self._pools: OrderedDict[str, aiohttp.ClientSession] = OrderedDict()

    async def to(self, netloc: str) -> aiohttp.ClientSession:
        """The pool of a host."""
        pool = self._pools.get(netloc)
        if pool is None:
            await self._make_room()
            if (pool := self._pools.get(netloc)) is None:  # still, after waiting
                pool = self._pools[netloc] = self._new()
        self._pools.move_to_end(netloc)
        return pool

    async def _make_room(self) -> None:
        if len(self._pools) < self._most:
            return
        idle = next((netloc for netloc in self._pools if not self._busy(netloc)), None)
        if idle is not None:
            await self._pools.pop(idle).close()

    def _new(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            # No limit here: the host's token and the semaphore come before a connection, so nobody waits in the pool
            # on the clock of a timeout (aiohttp #10313).
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, resolver=self._resolver),
            # the whole of a request has a timer of ours, which knows what we waited for ourselves
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._limits.connect_s, sock_read=self._limits.read_s
            ),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Closes them all."""
        for pool in self._pools.values():
            await pool.close()
        self._pools.clear()
        await self._resolver.close()


def _hosts_for(limits: Limits) -> int:
    """Hosts that may have idle connections, as many as `per_host` each, beside those in use."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return _MOST
    return max(_FEWEST, min(_MOST, (files - _OTHER_FILES - limits.concurrency) // limits.per_host))
