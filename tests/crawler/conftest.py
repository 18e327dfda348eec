"""A small real shop, and servers that misbehave on purpose, all on 127.0.0.1."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from PIL import Image

from crawler.shop.catalogue import Catalogue, catalogue
from crawler.shop.render import default_thumbnail
from crawler.shop.server import Shop, serve
from crawler.site import Site, load_site

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Answer = Handler | bytes | str | int | tuple[int, Mapping[str, str], bytes]
StartWeb = Callable[[Mapping[str, Answer]], Awaitable[str]]


def picture(seed: int, size: tuple[int, int] = (150, 150), kind: str = "JPEG", **options: Any) -> bytes:
    """A small picture that differs from every other seed's, in outline too."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture(scope="session")
def make_picture() -> Callable[..., bytes]:
    return picture


@pytest.fixture(scope="session")
def stock() -> Catalogue:
    """A shop of 300 guitars and basses with photographs, and the extras."""
    return catalogue(300, seed=3)


@pytest.fixture(scope="session")
def photos(stock: Catalogue) -> dict[int, bytes]:
    return {product.id: picture(product.id) for product in stock.products if product.photo}


@pytest.fixture
def shop(stock: Catalogue, photos: dict[int, bytes]) -> Shop:
    return Shop(stock, photos, default_thumbnail())


@pytest.fixture
async def shop_url(shop: Shop) -> AsyncIterator[str]:
    async with serve(shop) as url:
        yield url


@pytest.fixture
def site_at() -> Callable[..., Site]:
    """The embedded shop's site file for another address; further tables are merged over it."""

    def make(url: str, **tables: Any) -> Site:
        return load_site("embedded", **{**tables, "site": {"start": [url], **tables.get("site", {})}})

    return make


@pytest.fixture
async def start_web() -> AsyncIterator[StartWeb]:
    """Starts a server from a table path -> body, status, (status, headers, body) or handler; gives its address."""
    async with AsyncExitStack() as stack:

        async def start(table: Mapping[str, Answer]) -> str:
            async def handle(request: web.Request) -> web.StreamResponse:
                answer = table.get(request.raw_path.partition("?")[0])
                if answer is None:
                    return web.Response(status=404)
                if isinstance(answer, int):
                    return web.Response(status=answer)
                if isinstance(answer, str):
                    return web.Response(text=answer, content_type="text/html")
                if isinstance(answer, bytes):
                    return web.Response(body=answer, content_type="image/jpeg")
                if isinstance(answer, tuple):
                    return web.Response(status=answer[0], headers=dict(answer[1]), body=answer[2])
                return await answer(request)

            app = web.Application()
            app.router.add_get("/{path:.*}", handle)
            runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            return f"http://127.0.0.1:{runner.addresses[0][1]}/"

        yield start


@pytest.fixture
def stock_with() -> Callable[..., Catalogue]:
    """A catalogue with its products replaced."""

    def make(stock: Catalogue, products: Any) -> Catalogue:
        return replace(stock, products=tuple(products))

    return make
