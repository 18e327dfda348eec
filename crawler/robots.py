"""What a site asks of robots, as RFC 9309 has it: unavailable allows, unreachable denies, a day is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic

from protego import Protego

from crawler.crawl_errors import Refused

__all__ = ["MAX_BYTES", "Robots", "refuses_images"]

MAX_BYTES = 512_000  # RFC 9309, section 2.5: at least 500 KiB; what is beyond is not read
_KEEP_S = 24 * 3600.0
_UNREACHABLE_KEEP_S = 300.0  # asked again sooner: a host that was down for a moment should not lose a day
_FORBIDDEN = frozenset({"noindex", "none", "noimageindex", "noai", "noimageai"})

Get = Callable[[str], Awaitable[bytes]]


@dataclass(slots=True)
class _Rules:
    parsed: Protego | None
    unreachable: str  # why everything is denied; "" if it is not
    until: float
    crawl_delay_s: float


class Robots:
    """Each origin's robots.txt, fetched once.

    Args:
        get: fetches robots.txt, at most MAX_BYTES of it; raises Refused.
        agent: our product token.
    """

    def __init__(self, get: Get, agent: str) -> None:
        self._get, self._agent = get, agent
        self._rules: dict[str, _Rules] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def known(self, origin: str) -> bool:
        """Whether the origin's rules are at hand, so that `verdict` will not wait."""
        rules = self._rules.get(origin)
        return rules is not None and rules.until > monotonic()

    def crawl_delay_s(self, origin: str) -> float:
        """Seconds the origin asks for between two requests; 0 if it does not say or is not known."""
        rules = self._rules.get(origin)
        return rules.crawl_delay_s if rules else 0.0

    async def learn(self, origin: str) -> None:
        """Fetches and reads the origin's robots.txt unless it is known; `origin` is such as "https://example.org"."""
        async with self._locks.setdefault(origin, asyncio.Lock()):
            if not self.known(origin):
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
        now = monotonic()
        try:
            body = await self._get(f"{origin}/robots.txt")
        except Refused as refused:
            status = refused.reason.removeprefix("http-")
            # RFC 9309, section 2.3.1.3: 4xx allows everything; 429 is a server asking for less, not for more
            if status.startswith("4") and status != "429":
                return _Rules(None, "", now + _KEEP_S, 0.0)
            if refused.reason == "redirects":  # section 2.3.1.2: after five it may be taken for unavailable
                return _Rules(None, "", now + _KEEP_S, 0.0)
            return _Rules(None, str(refused), now + _UNREACHABLE_KEEP_S, 0.0)
        text = body.decode("utf-8-sig", errors="replace")
        parsed = Protego.parse(text)
        delay = parsed.crawl_delay(self._agent) or 0.0
        # a file without a rule costs nothing an address
        return _Rules(parsed if "disallow" in text.lower() else None, "", now + _KEEP_S, float(delay))


def refuses_images(header: str, agent: str) -> str | None:
    """The directive of an X-Robots-Tag header that forbids taking an image, if any.

    A directive may be addressed to one robot ("otherbot: noindex"); those not to us are passed over.
    """
    for part in header.lower().split(","):
        name, colon, directive = part.partition(":")
        if colon and name.strip() not in ("", agent.lower(), "unavailable_after"):
            continue
        word = (directive if colon else name).strip()
        if word in _FORBIDDEN:
            return word
    return None
