"""What a site asks of robots, as RFC 9309 has it: unavailable allows, unreachable denies, a day is remembered."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from protego import Protego

from crawler.crawl_errors import Refused
from crawler.limits import Limits

__all__ = ["MAX_BYTES", "KeptRobots", "Robots", "page_refuses_images", "refuses_images"]

MAX_BYTES = 512_000  # RFC 9309, section 2.5: at least 500 KiB; what is beyond is not read
_KEEP_S = 24 * 3600.0
_UNREACHABLE_KEEP_S = 300.0  # asked again sooner: a host that was down for a moment should not lose a day
_FORBIDDEN = frozenset({"noindex", "none", "noimageindex", "noai", "noimageai"})
# Result pages are commonly "noindex, follow": that is about the page, not about the pictures it shows
_FORBIDDEN_BY_PAGE = frozenset({"noimageindex", "noai", "noimageai"})

_QUICKLY_READ = 20_000  # characters
_PROBE = "http://shop.example/any/address/of/common/length.html?page=1"
_CHEAP_S, _SHARE = 0.01, 20  # rules that take longer get a twentieth of the time

Get = Callable[[str], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class KeptRobots:
    """An origin's robots.txt from an earlier run: the text (None: it has none), and for how long it still counts."""

    text: str | None
    seconds: float


@dataclass(slots=True)
class _Rules:
    parsed: Protego | None
    unreachable: str  # why everything is denied; "" if it is not
    until: float
    crawl_delay_s: float


class Robots:
    """Each origin's robots.txt, fetched once a day.

    Args:
        get: fetches robots.txt once, at most MAX_BYTES of it; raises Refused.
        agent: our product token.
        limits: `robots_retries`, `robots_pause_s`.
        kept: by origin, from an earlier run.
        on_learned: told (origin, text or None, seconds it counts) of each answer that counts for a day.
        on_waiting: told (origin, why, seconds) when an origin that cannot be reached is let alone for a while.
    """

    def __init__(
        self,
        get: Get,
        agent: str,
        limits: Limits | None = None,
        *,
        kept: Mapping[str, KeptRobots] | None = None,
        on_learned: Callable[[str, str | None, float], None] | None = None,
        on_waiting: Callable[[str, Refused, float], None] | None = None,
    ) -> None:
        self._get, self._agent, self._limits = get, agent, limits or Limits()
        self._on_learned = on_learned or (lambda origin, text, seconds: None)
        self._on_waiting = on_waiting or (lambda origin, refused, seconds: None)
        self._kept = dict(kept or {})
        self._rules: dict[str, _Rules] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def known(self, origin: str) -> bool:
        """Whether the origin's rules are at hand, so that `check` can be asked."""
        rules = self._rules.get(origin)
        return rules is not None and rules.until > monotonic()

    def crawl_delay_s(self, origin: str) -> float:
        """Seconds the origin asks for between two requests; 0 if it does not say or is not known."""
        rules = self._rules.get(origin)
        return rules.crawl_delay_s if rules else 0.0

    async def learn(self, origin: str) -> None:
        """Fetches and reads the origin's robots.txt unless it is known; `origin` is such as "https://example.org".

        Whoever wants something of an origin that cannot be reached waits here, holding nothing, while it is tried
        again; only then everything there is denied.
        """
        async with self._locks.setdefault(origin, asyncio.Lock()):
            if self.known(origin):
                return
            kept = self._kept.pop(origin, None)
            if kept is not None and kept.seconds > 0:
                self._rules[origin] = await self._parsed(kept.text, kept.seconds)
            else:
                self._rules[origin] = await self._read(origin)

    def check(self, url: str, origin: str) -> None:
        """Checks an address against its origin's rules, which must be known.

        Raises:
            Refused: "robots", or "robots-unreachable" where the rules cannot be had.
        """
        rules = self._rules[origin]
        if rules.unreachable:
            raise Refused("robots-unreachable", rules.unreachable, failed=True)
        if rules.parsed is not None and not rules.parsed.can_fetch(url, self._agent):
            raise Refused("robots", "robots.txt disallows it")

    async def _read(self, origin: str) -> _Rules:
        attempt = 0
        while True:
            try:
                body = await self._get(f"{origin}/robots.txt")
            except Refused as refused:
                status = refused.reason.removeprefix("http-")
                # RFC 9309, section 2.3.1.3: 4xx allows everything; 429 is a server asking for less, not for more.
                # Section 2.3.1.2: after five redirects it may be taken for unavailable.
                if (status.startswith("4") and status != "429") or refused.reason == "redirects":
                    return await self._learned(origin, None)
                if not refused.again or attempt >= self._limits.robots_retries:
                    return self._unreachable(origin, str(refused))
                pause = self._limits.robots_pause_s * 2**attempt * random.uniform(0.75, 1.0)
                self._on_waiting(origin, refused, pause)
            else:
                return await self._learned(origin, body.decode("utf-8-sig", errors="replace"))
            await asyncio.sleep(pause)
            attempt += 1

    async def _learned(self, origin: str, text: str | None) -> _Rules:
        self._on_learned(origin, text, _KEEP_S)
        return await self._parsed(text, _KEEP_S)

    def _unreachable(self, origin: str, why: str) -> _Rules:
        until = monotonic() + _UNREACHABLE_KEEP_S
        before = self._rules.get(origin)
        if before is not None and not before.unreachable:
            # RFC 9309, section 2.4: a copy may be used beyond its day while the file cannot be reached
            return _Rules(before.parsed, "", until, before.crawl_delay_s)
        return _Rules(None, why, until, 0.0)

    async def _parsed(self, text: str | None, seconds: float) -> _Rules:
        until = monotonic() + seconds
        if text is None:
            return _Rules(None, "", until, 0.0)
        # half a megabyte of rules takes seconds: the loop turns meanwhile
        parsed = Protego.parse(text) if len(text) < _QUICKLY_READ else await asyncio.to_thread(Protego.parse, text)
        delay = float(parsed.crawl_delay(self._agent) or 0.0)
        rate = parsed.request_rate(self._agent)
        if rate is not None and rate.requests > 0:
            delay = max(delay, rate.seconds / rate.requests)
        began = monotonic()
        parsed.can_fetch(_PROBE, self._agent)
        # ten thousand rules cost 100 ms an address, which other hosts would pay for: so this one is asked less often
        if (cost := monotonic() - began) > _CHEAP_S:
            delay = max(delay, cost * _SHARE)
        # a file without a rule costs nothing an address
        return _Rules(parsed if "disallow" in text.lower() else None, "", until, delay)


def refuses_images(headers: Iterable[str], agent: str) -> str | None:
    """The directive of X-Robots-Tag headers that forbids taking an image, if any.

    A header may be addressed to one robot ("otherbot: noindex, noai"), with all that follows in it; one not to us is
    passed over.
    """
    return _directive(headers, agent, _FORBIDDEN)


def page_refuses_images(root: Any, headers: Iterable[str], agent: str) -> str | None:
    """The directive by which a page forbids taking the images it shows, if any.

    Args:
        root: of the page's lxml tree; `<meta name="robots">`, or named as our agent, is looked for.
        headers: its X-Robots-Tag headers.
        agent: our product token.
    """
    if word := _directive(headers, agent, _FORBIDDEN_BY_PAGE):
        return word
    names = ("robots", agent.lower())
    for element in root.xpath("//meta[@name][@content]"):
        if str(element.get("name", "")).strip().lower() in names:
            for word in re.split(r"[\s,]+", element.get("content", "").lower()):
                if word in _FORBIDDEN_BY_PAGE:
                    return word
    return None


def _directive(headers: Iterable[str], agent: str, forbidden: frozenset[str]) -> str | None:
    for header in headers:
        ours = True
        for part in header.lower().split(","):
            name, colon, word = (piece.strip() for piece in part.partition(":"))
            if not colon:
                word = name
            elif name not in _WITH_VALUE:
                ours = name in ("", agent.lower(), "*", "robots")
            if ours and word in forbidden:
                return word
    return None


_WITH_VALUE = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
