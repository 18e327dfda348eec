"""Reading a body: bounded in bytes after decompression, in time, in slowness, and by the caps on bytes a second."""

from __future__ import annotations

import asyncio
from time import monotonic

import aiohttp

from crawler.buckets import ByteBucket
from crawler.crawl_errors import Refused
from crawler.limits import Limits

__all__ = ["read_body"]


async def read_body(
    response: aiohttp.ClientResponse,
    cap: int,
    limits: Limits,
    *,
    cut: bool,
    buckets: tuple[ByteBucket, ...],
    deadline: asyncio.Timeout,
) -> bytes:
    """The body, at most `cap` bytes after decompression.

    Args:
        response: its headers are in.
        cap: bytes.
        limits: `read_s`, `min_bytes_per_s`.
        cut: keep the first `cap` bytes instead of refusing.
        buckets: whose caps hold; empty if there are none.
        deadline: of the request; waiting for a bucket, which is our own doing, is added to it.

    Raises:
        Refused: "too-large", "too-slow".
    """
    content = response.content
    if content.is_eof() and content.total_bytes <= cap and not buckets:
        return content.read_nowait()  # the common case: a thumbnail came in one piece with its headers
    length = response.content_length
    if length is not None and length > cap and not cut:
        raise Refused("too-large", f"Content-Length {length}, at most {cap} bytes are taken")
    pieces: list[bytes] = []
    size, began = 0, monotonic()
    async for piece in content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > cap:
            if cut:
                return b"".join(pieces)[:cap]
            raise Refused("too-large", f"more than {cap} bytes")
        now = monotonic()
        took = now - began
        if took > limits.read_s and size < limits.min_bytes_per_s * took:
            raise Refused("too-slow", f"{size} bytes in {took:.0f} s", again=True, failed=True)
        if buckets:
            wait = max(bucket.take(len(piece), now) for bucket in buckets)
            if wait > 0:
                deadline.reschedule((deadline.when() or 0.0) + wait)
                await asyncio.sleep(wait)
                began += monotonic() - now
    return b"".join(pieces)
