"""One polite GET: each hop is guarded, allowed by robots, in its host's budget, and bounded in time and bytes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from types import TracebackType
from typing import NamedTuple

from multidict import CIMultiDict

from crawler.buckets import ByteBucket
from crawler.crawl_errors import Refused
from crawler.guard import Guard, Resolver
from crawler.host_budget import HostBudget
from crawler.limits import Limits
from crawler.retry_after import retry_after_s
from crawler.robots import MAX_BYTES, KeptRobots, Robots
from crawler.slots import Slots
from crawler.traffic import Traffic
from crawler.transport import Exchange, Transport
from crawler.urls import absolute, host_of, netloc_of

__all__ = ["Fetcher", "Reply"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OVERLOAD = frozenset({429, 503})
_HOST_IN_DOUBT = frozenset({429, 502, 503, 504})  # what the breaker counts; a 500 is a page's own trouble
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_PAGE_HEADERS: tuple[str, ...] = ("Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.5",)
_IMAGE_HEADERS: tuple[str, ...] = ("Accept: image/jpeg,image/png,image/webp,image/*;q=0.8",)


class Reply(NamedTuple):
    """An answer with status 200: final address, headers as sent, whole body; or with 304, which has no body."""

    url: str
    headers: CIMultiDict[str]
    body: bytes
    unchanged: bool = False


class Fetcher:
    """Fetches pages and images; use as an async context manager.

    Args:
        limits: of the crawl.
        guard: which addresses may be called.
        agent: our product token, for robots.txt.
        user_agent: the whole User-Agent header.
        allowed: whether a host belongs to the crawl; asked on every hop.
        parked: seconds from now until which hosts (host[:port]) are still parked from an earlier run.
        on_park: told (host[:port], seconds) when a host asks to be left alone.
        robots: by origin, what an earlier run learned less than a day ago.
        on_robots: told (origin, robots.txt or None, seconds it counts) when one is learned.
        resolver: instead of the system's.
        traffic: counted into, instead of one of its own.
    """

    def __init__(
        self,
        limits: Limits,
        guard: Guard,
        *,
        agent: str,
        user_agent: str,
        allowed: Callable[[str], bool],
        parked: Mapping[str, float] | None = None,
        on_park: Callable[[str, float], None] | None = None,
        robots: Mapping[str, KeptRobots] | None = None,
        on_robots: Callable[[str, str | None, float], None] | None = None,
        resolver: Resolver | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        self.traffic = traffic or Traffic()
        self.robots = Robots(
            self._get_robots, agent, limits, kept=robots, on_learned=on_robots, on_waiting=self._robots_waiting
        )
        self._limits, self._guard, self._allowed = limits, guard, allowed
        self._user_agent = user_agent
        self._on_park = on_park or (lambda host, seconds: None)
        self._resolver = resolver
        self._budgets: dict[str, HostBudget] = {}
        self._park_from_before(parked or {})
        self._slots = Slots(limits.concurrency)
        self._bytes = ByteBucket(limits.bytes_per_s)
        self._metered = bool(limits.bytes_per_s or limits.bytes_per_s_per_host)
        self._transport: Transport | None = None

    async def __aenter__(self) -> Fetcher:
        self._transport = Transport(self._limits, self._guard, self._resolver, user_agent=self._user_agent)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._transport
        await self._transport.close()

    def budget(self, netloc: str) -> HostBudget:
        """The budget of a host[:port]."""
        budget = self._budgets.get(netloc)
        if budget is None:
            budget = self._budgets[netloc] = HostBudget(self._limits)
        return budget

    async def page(self, url: str) -> Reply:
        """GETs a page. `url` is one that `absolute` gave. Raises Refused."""
        try:
            return await self._again(url, _PAGE_HEADERS, self._limits.page_bytes, unzip=True)
        except Refused as refused:
            self.traffic.refused("page", url, refused)
            raise

    async def image(self, url: str, *, etag: str | None = None, last_modified: str | None = None) -> Reply:
        """GETs an image, as it lies on the server; `unchanged` if it is still the one with these validators.

        Raises Refused.
        """
        headers = _IMAGE_HEADERS
        if etag or last_modified:
            known = {"If-None-Match": etag, "If-Modified-Since": last_modified}
            headers += tuple(f"{name}: {value}" for name, value in known.items() if value and value.isprintable())
        return await self._again(url, headers, self._limits.image_bytes)

    async def _get_robots(self, url: str) -> bytes:
        reply = await self._follow(url, _PAGE_HEADERS, MAX_BYTES, unzip=True, robots=True)
        return reply.body

    def _robots_waiting(self, origin: str, refused: Refused, seconds: float) -> None:
        netloc = netloc_of(f"{origin}/")
        self.budget(netloc).park(monotonic() + seconds)
        self.traffic.refused("robots", f"{origin}/robots.txt", Refused("robots-waiting", str(refused)))

    def _park_from_before(self, parked: Mapping[str, float]) -> None:
        for netloc, seconds in parked.items():
            self.budget(netloc).park(monotonic() + seconds)
            if seconds > self._limits.longest_park_s:
                self.budget(netloc).give_up("host-parked", f"asked an earlier run to come back in {seconds:.0f} s")

    async def _again(self, url: str, headers: tuple[str, ...], cap: int, *, unzip: bool = False) -> Reply:
        budget = self.budget(netloc_of(url))
        budget.retries.earn()
        attempt = 0
        while True:
            try:
                return await self._follow(url, headers, cap, unzip=unzip, robots=False)
            except Refused as refused:
                if not refused.again or attempt >= self._limits.retries:
                    raise
                # what waits for a park or for the breaker costs the host no request more than it allows
                waits = budget.breaker.is_open or budget.parked_until > monotonic()
                if not waits and not budget.retries.spend():
                    detail = f"{refused.detail}; not tried again: the host's retry budget is spent".lstrip("; ")
                    raise Refused(refused.reason, detail, failed=refused.failed) from None
                # full jitter on the upper half, so that a host's many workers do not come back together
                wait = self._limits.backoff_s * 2**attempt * random.uniform(0.5, 1.0)
                self.traffic.retry(netloc_of(url), url, refused, wait)
            await asyncio.sleep(wait)
            attempt += 1

    async def _follow(self, url: str, headers: tuple[str, ...], cap: int, *, unzip: bool, robots: bool) -> Reply:
        first = url
        for _ in range(self._limits.redirects + 1):
            netloc = netloc_of(url)
            # robots.txt may redirect anywhere public (RFC 9309, section 2.3.1.2); everything else stays on the site
            if not robots and not self._allowed(host_of(netloc)):
                raise Refused("foreign-host", f"{host_of(netloc)} is not among the site file's hosts")
            self._guard.check(url)
            budget = self.budget(netloc)
            if not robots:
                origin = url[: url.index("/", 8)]
                if not self.robots.known(origin):
                    await self.robots.learn(origin)
                    delay = min(self.robots.crawl_delay_s(origin), self._limits.longest_crawl_delay_s)
                    budget.slow_to(delay)
                self.robots.check(url, origin)
            buckets = (self._bytes, budget.bytes) if self._metered else ()
            exchange = Exchange(url, netloc, headers, cap, cut=robots, unzip=unzip, buckets=buckets)
            reply = await self._once(exchange, budget, robots=robots)
            if isinstance(reply, Reply):
                return reply
            target = absolute(url, reply)
            if target is None:
                raise Refused("address", f"redirected to {reply[:200]!r}, which is no web address")
            url = target
        raise Refused("redirects", f"more than {self._limits.redirects} redirects from {first}")

    async def _once(self, exchange: Exchange, budget: HostBudget, *, robots: bool) -> Reply | str:
        """One request. Returns the reply, or where it is redirected to."""
        assert self._transport
        netloc, url = exchange.netloc, exchange.url
        token = await budget.acquire()
        standing, begun = budget.standing(), False
        end = _End()
        try:
            if not self._slots.take(standing):
                await self._slots.wait(netloc, standing)
            begun = True
            budget.begun(token)
            began, size = self.traffic.begin(netloc), 0
            try:
                await self._transport.get(exchange)
                status, headers = exchange.status, exchange.headers
                if status == 200:
                    body = exchange.body
                    size = len(body)
                    return Reply(url, headers, body)
                if status == 304 and len(exchange.request) > 1:  # asked with conditions
                    return Reply(url, headers, b"", unchanged=True)
                if status in _REDIRECTS:
                    return headers.get("Location", "")
                raise self._refusal(status, headers, budget, netloc, url)
            finally:
                self.traffic.end(netloc, began, url, exchange.status, size)
        except Refused as refused:
            end.refused(refused, exchange.status)
            if refused.reason == "tls" and not refused.again:
                budget.give_up("tls", refused.detail)  # the next connection would be shown the same certificate
            raise
        except asyncio.CancelledError:
            end.cancelled = True
            raise
        finally:
            if begun:
                self._slots.release(standing)
            opened = budget.release(
                token,
                overloaded=end.overloaded,
                failed=end.failed,
                answered=begun and not end.cancelled,
                robots=robots,
            )
            if opened:
                self.traffic.refused("breaker", url, Refused("breaker-open", f"{netloc}: at last {end.failed}"))

    def _refusal(self, status: int, headers: Mapping[str, str], budget: HostBudget, netloc: str, url: str) -> Refused:
        wait = retry_after_s(headers.get("Retry-After", ""), datetime.now(UTC)) if status in _AGAIN else None
        if wait is None:
            return Refused(f"http-{status}", again=status in _AGAIN, failed=status >= 500 or status == 429)
        self.traffic.park(netloc, wait)
        budget.park(monotonic() + wait)
        self._on_park(netloc, wait)
        if wait > self._limits.longest_park_s:
            detail = f"Retry-After {wait:.0f} s is longer than we wait"
            budget.give_up("host-parked", detail)
            return Refused(f"http-{status}", detail, failed=True)
        detail = f"asked to come back after {wait:.0f} s"
        self.traffic.refused("host", url, Refused("host-parked", f"{netloc} {detail}"))
        return Refused(f"http-{status}", detail, again=True, failed=True)


@dataclass(slots=True)
class _End:
    """How a request ended, as its host's budget wants to know it."""

    overloaded: bool = False
    failed: str = ""  # what puts the host itself in doubt
    cancelled: bool = False

    def refused(self, refused: Refused, status: int) -> None:
        self.overloaded = status in _OVERLOAD or refused.reason in ("timeout", "too-slow")
        if status in _HOST_IN_DOUBT or refused.reason in _DOUBTFUL:
            self.failed = str(refused)


_DOUBTFUL = frozenset({"timeout", "too-slow", "dns", "connection", "tls", "protocol"})
