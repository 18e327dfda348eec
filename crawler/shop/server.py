"""The embedded shop: a real web server over a stock, as far as a crawler can tell the real shop.

Thumbnails are most of the traffic, so their path does the least: bytes from the memory map, the ETag made once.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from aiohttp import web
from PIL import Image

from crawler.shop import pages
from crawler.shop.catalogue import catalogue
from crawler.shop.faults import Faults, trouble
from crawler.shop.folder import folder_catalogue
from crawler.shop.render import default_thumbnail, rendered
from crawler.shop.restock import restocked
from crawler.shop.stock import Article, Shelf, Stock
from shards.sample import sniff

__all__ = ["Shop", "application", "open_shop", "serve"]

_OPENED, _RESTOCKED = datetime(2026, 1, 5, 9, tzinfo=UTC), datetime(2026, 7, 6, 9, tzinfo=UTC)
_KINDS = {"jpg": "image/jpeg", "svg": "image/svg+xml"}
_ROBOTS = f"""User-agent: *
Disallow: {pages.CLOSED}
Disallow: /gb/search
Allow: /
"""
_PLACEHOLDER = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="150" height="150"><path fill="#eee" d="M0 0h150v150H0z"/></svg>'
)


class Shop:
    """A stock with its photographs, and what the pages ask of it.

    Args:
        stock: categories and products.
        photos: image bytes by product number; a product that is not in it shows the default thumbnail.
        default: the default thumbnail, a JPEG; served with status 200 in place of every missing photograph, under the
            product's own address or (every third) under one well-known one, as shops do either.
        renewed: product numbers whose photograph has replaced another one; their Last-Modified is later.
    """

    def __init__(
        self, stock: Stock, photos: Mapping[int, bytes], default: bytes, *, renewed: Collection[int] = ()
    ) -> None:
        self.stock, self.photos, self.default, self.renewed = stock, photos, default, renewed
        self._categories = {category.slug: category for category in stock.categories}
        self._children: dict[str | None, list[Shelf]] = {}
        for category in stock.categories:
            self._children.setdefault(category.parent, []).append(category)
        self._listed: dict[str, list[Article]] = {}
        self._products = {product.id: product for product in stock.products}
        for product in stock.products:
            for slug in product.categories:
                self._listed.setdefault(slug, []).append(product)
        self._etags: dict[int, str] = {}

    def category(self, slug: str) -> Shelf:
        """The category of that name. Raises KeyError."""
        return self._categories[slug]

    def product(self, id: int) -> Article:
        """The product of that number. Raises KeyError."""
        return self._products[id]

    def children_of(self, slug: str | None) -> Sequence[Shelf]:
        """The categories below one; the top ones for None."""
        return self._children.get(slug, [])

    def products_in(self, slug: str) -> Sequence[Article]:
        """What one category lists itself, in the shop's order."""
        return self._listed.get(slug, [])

    def product_slug(self, product: Article) -> str:
        """The product's address without /gb/ and .htm; ends with its number."""
        words = re.sub(r"[^a-z0-9]+", "_", f"{product.maker} {product.name}".lower()).strip("_")
        return f"{words}_{product.id}"

    def thumbnail_path(self, product: Article) -> str:
        """Where the product's JPEG thumbnail is; the double slash is the real shop's."""
        if not product.photo and product.id % 3 == 0:
            return pages.DEFAULT_IMAGE
        return f"/thumb//thumb150x150/pics/prod/{product.id}.jpg"

    def thumbnail(self, id: int) -> tuple[bytes, str]:
        """A product's thumbnail and its ETag. Raises KeyError for a number the shop does not have."""
        body = self.photos[id] if self._products[id].photo else self.default
        etag = self._etags.get(id)
        if etag is None:
            etag = self._etags[id] = _etag(body)
        return body, etag


def open_shop(
    *,
    images: Path | None = None,
    products: int = 8000,
    seed: int = 0,
    changed: float = 0.0,
    cache: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Shop:
    """The drawn shop, or the shop of a folder of label folders.

    Args:
        images: serve this folder instead of the drawn catalogue.
        products: thumbnails of guitars and basses to draw; the extras come on top.
        seed: of the drawn catalogue.
        changed: the drawn shop later on, with this share of its products gone, as many photographed anew and as many
            new ones; see `crawler.shop.restock.restocked`.
        cache: where drawn thumbnails are kept; see `crawler.shop.render.rendered`.
        on_progress: called with (drawn, total) while thumbnails are drawn.

    Raises:
        ConfigError: `images` holds no label folders.
    """
    if images is not None:
        return Shop(*folder_catalogue(images), default_thumbnail())
    drawn = catalogue(products, seed)
    photos: Mapping[int, bytes] = rendered(drawn, cache, on_progress=on_progress)
    if not changed:
        return Shop(drawn, photos, default_thumbnail())
    later = restocked(drawn, changed)
    newly = rendered(replace(drawn, products=later.to_draw), cache, on_progress=on_progress)
    return Shop(later.catalogue, {**photos, **newly}, default_thumbnail(), renewed=later.renewed)


def application(shop: Shop, faults: Faults | None = None) -> web.Application:
    """The shop as an aiohttp application, on a bad day if `faults` are given."""
    app = web.Application(middlewares=[trouble(faults)] if faults else ())
    webp = lru_cache(maxsize=512)(_webp)

    async def home(request: web.Request) -> web.StreamResponse:
        return _html(pages.category_page(shop, None, page=1, per_page=pages.PER_PAGE))

    def listing(request: web.Request, *, closed: bool) -> web.StreamResponse:
        try:
            category = shop.category(request.match_info["slug"])
            page = int(request.query.get("pg", "1"))
            per_page = int(request.query.get("ls", str(pages.PER_PAGE)))
        except (KeyError, ValueError):
            raise web.HTTPNotFound from None
        if page < 1 or per_page < 1:
            raise web.HTTPNotFound
        per_page = min(per_page, pages.MAX_PER_PAGE)
        return _html(pages.category_page(shop, category, page=page, per_page=per_page, closed=closed))

    async def category(request: web.Request) -> web.StreamResponse:
        return listing(request, closed=False)

    async def closed(request: web.Request) -> web.StreamResponse:
        return listing(request, closed=True)

    async def product(request: web.Request) -> web.StreamResponse:
        try:
            found = shop.product(int(request.match_info["id"]))
        except KeyError:
            raise web.HTTPNotFound from None
        return _html(pages.product_page(shop, found))

    async def thumbnail(request: web.Request) -> web.StreamResponse:
        id = int(request.match_info["id"])
        try:
            body, etag = shop.thumbnail(id)
        except (KeyError, OSError):
            raise web.HTTPNotFound from None
        taken = _RESTOCKED if id in shop.renewed else _OPENED
        return await picture(request, body, etag, taken + timedelta(minutes=id % 100_000))

    async def default(request: web.Request) -> web.StreamResponse:
        return await picture(request, shop.default, _etag(shop.default), _OPENED)

    async def picture(request: web.Request, body: bytes, etag: str, changed: datetime) -> web.StreamResponse:
        kind = sniff(body[:512])
        content_type = _KINDS.get(kind or "", f"image/{kind}" if kind else "application/octet-stream")
        if request.path.endswith(".webp"):
            etag, content_type = f'{etag[:-1]}-webp"', "image/webp"
        headers = {"ETag": etag, "Last-Modified": changed.strftime("%a, %d %b %Y %H:%M:%S GMT")}
        match, since = request.headers.get("If-None-Match"), request.if_modified_since
        # RFC 9110, section 13.2.2: If-Modified-Since counts only where there is no If-None-Match
        if match is not None:
            unchanged = match.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in match.split(",")]
        else:
            unchanged = since is not None and since >= changed
        if unchanged:
            return web.Response(status=304, headers=headers)
        if content_type == "image/webp" and kind != "webp":
            try:
                body = await asyncio.to_thread(webp, body)
            except OSError:
                raise web.HTTPNotFound from None
        return web.Response(body=body, content_type=content_type, headers=headers)

    async def robots(request: web.Request) -> web.StreamResponse:
        return web.Response(text=_ROBOTS)

    async def lazy(request: web.Request) -> web.StreamResponse:
        return web.Response(text=_PLACEHOLDER, content_type="image/svg+xml")

    app.router.add_get(r"/thumb//thumb150x150/pics/prod/{id:\d+}.{kind:jpg|webp}", thumbnail)
    app.router.add_get(r"/{default:thumb//thumb150x150/pics/images/misc/default\.(jpg|webp)}", default)
    app.router.add_get("/", home)
    app.router.add_get("/robots.txt", robots)
    app.router.add_get(pages.LAZY_IMAGE, lazy)
    app.router.add_get(pages.CLOSED + "{slug}.html", closed)
    app.router.add_get("/gb/{slug}.html", category)
    app.router.add_get(r"/gb/{name:.*_|}{id:\d+}.htm", product)
    return app


@asynccontextmanager
async def serve(
    shop: Shop, host: str = "127.0.0.1", port: int = 0, *, faults: Faults | None = None
) -> AsyncIterator[str]:
    """Serves `shop` in the running event loop; gives its address, such as "http://127.0.0.1:41234/"; port 0 is any."""
    runner = web.AppRunner(application(shop, faults), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=1024)
        await site.start()
        yield f"http://{host}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def _html(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html")


def _etag(body: bytes) -> str:
    return f'"{hashlib.blake2b(body, digest_size=10).hexdigest()}"'


def _webp(jpeg: bytes) -> bytes:
    """Raises OSError for what is no image."""
    with Image.open(io.BytesIO(jpeg)) as image, io.BytesIO() as out:
        image.save(out, "webp", quality=80)
        return out.getvalue()
