"""Images by their addresses, outside a crawl: what a person names, fetched as carefully as what a page names."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from crawler.crawl_errors import Refused
from crawler.fetch import Fetcher
from crawler.guard import Guard
from crawler.limits import Limits
from crawler.site import SiteName
from crawler.urls import absolute, host_of, netloc_of

__all__ = ["SINGLE_LIMITS", "fetch_images"]

SINGLE_LIMITS = Limits(total_s=30.0, retries=1, robots_retries=0)
"""Somebody waits for these: a host in trouble is asked once more, and no minute is spent on it."""


async def fetch_images(
    urls: Sequence[str], *, allow_private: Collection[str] = (), limits: Limits = SINGLE_LIMITS
) -> list[bytes | Refused]:
    """The bodies of http(s) addresses in their order, or why one cannot be had; all at once, within the limits.

    Guarded, bounded and polite as a crawl is: private addresses are refused on every hop, robots.txt is asked.

    Args:
        urls: absolute addresses.
        allow_private: host names or literals that may be private.
        limits: bytes, seconds, rates.
    """
    we = SiteName(name="singles")
    fetcher = Fetcher(
        limits,
        Guard(allow_private),
        agent=we.agent,
        user_agent=we.user_agent,
        allowed=lambda host: True,  # any public host: the guard says which are
    )

    async def one(url: str) -> bytes | Refused:
        address = absolute("http://none/", url) if url.lower().startswith(("http://", "https://")) else None
        if address is None or host_of(netloc_of(address)) == "none":
            return Refused("address", f"{url[:200]!r} is not an http(s) address")
        try:
            return (await fetcher.image(address)).body
        except Refused as refused:
            return refused

    async with fetcher:
        return await asyncio.gather(*map(one, urls))
