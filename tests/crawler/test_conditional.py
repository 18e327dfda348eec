"""A conditional request: what the server said last time is told, and 304 has no body."""

from __future__ import annotations

import pytest
from aiohttp import web

from crawler.crawl_errors import Refused
from crawler.fetch import Fetcher
from crawler.guard import Guard
from crawler.limits import Limits

LIMITS = Limits(rate_per_host=0, retries=0, connect_s=1, read_s=1)


async def test_unchanged_and_changed(start_web):
    seen = []

    async def image(request: web.Request) -> web.Response:
        seen.append((request.headers.get("If-None-Match"), request.headers.get("If-Modified-Since")))
        fresh = request.headers.get("If-None-Match") == '"b"'
        return web.Response(status=304) if fresh else web.Response(body=b"image", headers={"ETag": '"b"'})

    async def moved(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/a.jpg"})

    url = await start_web({"/a.jpg": image, "/moved.jpg": moved, "/always.jpg": 304})
    guard = Guard(["127.0.0.1"])
    async with Fetcher(LIMITS, guard, agent="b", user_agent="b", allowed=lambda host: True) as one:
        plain = await one.image(f"{url}a.jpg")
        same = await one.image(f"{url}a.jpg", etag='"b"', last_modified="Mon, 05 Jan 2026 09:00:00 GMT")
        other = await one.image(f"{url}a.jpg", etag='"old"')
        through = await one.image(f"{url}moved.jpg", etag='"b"')
        with pytest.raises(Refused, match="http-304"):  # nobody asked for that
            await one.image(f"{url}always.jpg")
    assert [(reply.unchanged, reply.body) for reply in (plain, same, other, through)] == [
        (False, b"image"), (True, b""), (False, b"image"), (True, b""),
    ]  # fmt: skip
    assert seen[:3] == [(None, None), ('"b"', "Mon, 05 Jan 2026 09:00:00 GMT"), ('"old"', None)]
