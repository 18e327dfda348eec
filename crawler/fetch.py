"""One polite GET: each hop is guarded, allowed by robots, in its host's budget, and bounded in time and bytes."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic
from types import TracebackType

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from crawler.crawl_errors import Refused
from crawler.guard import Guard, GuardedResolver
from crawler.limits import HostBudget, Limits
from crawler.robots import MAX_BYTES, Robots
from crawler.traffic import Traffic
from crawler.urls import absolute, host_of, netloc_of

__all__ = ["Fetcher", "Reply", "retry_after_s"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OVERLOAD = frozenset({429, 503})
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_PAGE_HEADERS = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.5", "Accept-Encoding": "gzip, deflate"}
_CONDITIONS = frozenset({"If-None-Match", "If-Modified-Since"})
_IMAGE_HEADERS = {"Accept": "image/jpeg,image/png,image/webp,image/*;q=0.8", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Reply:
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
        traffic: Traffic | None = None,
    ) -> None:
        self.traffic = traffic or Traffic()
        self.robots = Robots(self._get_robots, agent)
        self._limits, self._guard, self._allowed = limits, guard, allowed
        self._user_agent = user_agent
        self._on_park = on_park or (lambda host, seconds: None)
        now = monotonic()
        self._budgets = {host: HostBudget(limits, now + seconds) for host, seconds in (parked or {}).items()}
        self._connections = asyncio.Semaphore(limits.concurrency)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Fetcher:
        self._session = aiohttp.ClientSession(
            # No limit here: the host's token and the semaphore come before a connection, so nobody waits in the pool
            # on the clock of a timeout (aiohttp #10313).
            connector=aiohttp.TCPConnector(
                limit=0, ttl_dns_cache=300, resolver=GuardedResolver(self._guard), ssl=ssl.create_default_context()
            ),
            timeout=aiohttp.ClientTimeout(
                total=self._limits.total_s, sock_connect=self._limits.connect_s, sock_read=self._limits.read_s
            ),
            headers={"User-Agent": self._user_agent},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session
        await self._session.close()

    def budget(self, netloc: str) -> HostBudget:
        """The budget of a host[:port]."""
        budget = self._budgets.get(netloc)
        if budget is None:
            budget = self._budgets[netloc] = HostBudget(self._limits)
        return budget

    async def page(self, url: str) -> Reply:
        """GETs a page. `url` is one that `absolute` gave. Raises Refused."""
        try:
            return await self._again(url, _PAGE_HEADERS, self._limits.page_bytes)
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
            headers = {**headers, **{name: value for name, value in known.items() if value}}
        return await self._again(url, headers, self._limits.image_bytes)

    async def _get_robots(self, url: str) -> bytes:
        reply = await self._again(url, _PAGE_HEADERS, MAX_BYTES, robots=True)
        return reply.body

    async def _again(self, url: str, headers: Mapping[str, str], cap: int, *, robots: bool = False) -> Reply:
        attempt = 0
        while True:
            try:
                return await self._follow(url, headers, cap, robots=robots)
            except Refused as refused:
                if not refused.again or attempt >= self._limits.retries:
                    raise
                # full jitter on the upper half, so that a host's many workers do not come back together
                wait = self._limits.backoff_s * 2**attempt * random.uniform(0.5, 1.0)
                self.traffic.retry(netloc_of(url), url, refused, wait)
            await asyncio.sleep(wait)
            attempt += 1

    async def _follow(self, url: str, headers: Mapping[str, str], cap: int, *, robots: bool) -> Reply:
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
            reply = await self._once(url, headers, cap, budget, netloc, cut=robots)
            if isinstance(reply, Reply):
                return reply
            target = absolute(url, reply)
            if target is None:
                raise Refused("address", f"redirected to {reply[:200]!r}, which is no web address")
            url = target
        raise Refused("redirects", f"more than {self._limits.redirects} redirects from {first}")

    async def _once(
        self, url: str, headers: Mapping[str, str], cap: int, budget: HostBudget, netloc: str, *, cut: bool
    ) -> Reply | str:
        """One request. Returns the reply, or where it is redirected to."""
        assert self._session
        started = await budget.acquire()
        overloaded = False
        try:
            async with self._connections:
                began, status, size = self.traffic.begin(netloc), 0, 0
                try:
                    # encoded=True: yarl must not tidy what the shop wrote
                    async with self._session.get(
                        URL(url, encoded=True), headers=headers, allow_redirects=False
                    ) as response:
                        status = response.status
                        if status == 200:
                            body = await _read(response, cap, cut=cut)
                            size = len(body)
                            return Reply(url, _readable(response.headers), body)
                        if status == 304 and _CONDITIONS & headers.keys():
                            return Reply(url, _readable(response.headers), b"", unchanged=True)
                        if status in _REDIRECTS:
                            return response.headers.get("Location", "")
                        overloaded = status in _OVERLOAD
                        raise self._refusal(status, response.headers, budget, netloc)
                finally:
                    self.traffic.end(netloc, began, url, status, size)
        except TimeoutError as error:
            overloaded = True
            raise Refused("timeout", str(error)[:200] or type(error).__name__, again=True, failed=True) from None
        except aiohttp.ClientConnectorDNSError as error:
            raise Refused("dns", str(error)[:200], again=True, failed=True) from None
        except (aiohttp.InvalidURL, aiohttp.InvalidUrlClientError) as error:
            raise Refused("address", str(error)[:200]) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Refused("connection", f"{type(error).__name__}: {error}"[:200], again=True, failed=True) from None
        finally:
            budget.release(started, overloaded=overloaded)

    def _refusal(self, status: int, headers: Mapping[str, str], budget: HostBudget, netloc: str) -> Refused:
        wait = retry_after_s(headers.get("Retry-After", ""), datetime.now(UTC)) if status in _AGAIN else None
        if wait is None:
            return Refused(f"http-{status}", again=status in _AGAIN, failed=status >= 500 or status == 429)
        if wait > self._limits.longest_park_s:
            return Refused(f"http-{status}", f"Retry-After {wait:.0f} s is longer than we wait", failed=True)
        self.traffic.park(netloc, wait)
        budget.park(monotonic() + wait)
        self._on_park(netloc, wait)
        return Refused(f"http-{status}", f"asked to come back after {wait:.0f} s", again=True, failed=True)


def retry_after_s(header: str, now: datetime) -> float | None:
    """Seconds from `now` that a Retry-After header asks for, in either form of RFC 9110; None if it says neither."""
    header = header.strip()
    if header.isascii() and header.isdigit():
        return float(header) if len(header) < 10 else None
    with suppress(ValueError, TypeError, IndexError, OverflowError):
        moment = parsedate_to_datetime(header)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - now).total_seconds())
    return None


def _readable(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Headers as text that can be stored: aiohttp keeps bytes that are not UTF-8 as lone surrogates."""
    pairs = headers.items()
    return CIMultiDict(
        (name, value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")) for name, value in pairs
    )


async def _read(response: aiohttp.ClientResponse, cap: int, *, cut: bool) -> bytes:
    """The body, at most `cap` bytes after decompression; `cut` keeps the first `cap` instead of refusing.

    Raises:
        Refused: "too-large".
    """
    length = response.content_length
    if length is not None and length <= cap and "Content-Encoding" not in response.headers:
        return await response.read()  # the common case: the parser itself takes no more than Content-Length
    if length is not None and length > cap and not cut:
        raise Refused("too-large", f"Content-Length {length}, at most {cap} bytes are taken")
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > cap:
            if cut:
                return b"".join(pieces)[:cap]
            raise Refused("too-large", f"more than {cap} bytes")
    return b"".join(pieces)
