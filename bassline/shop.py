"""`bassline shop`: the embedded shop, for a browser, a crawler or a bench."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bassline import console
from shards.errors import ConfigError

if TYPE_CHECKING:
    from crawler.shop.faults import Faults
    from crawler.shop.server import Shop

__all__ = ["Images", "Products", "draw", "shop"]

_BAD_DAY = "A bad day, for testing crawlers"

Images = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Sell the images of these label folders instead of drawn ones.")
]
Products = Annotated[int, typer.Option(min=1, help="Thumbnails of guitars and basses to draw; extras come on top.")]


def draw(images: Path | None, products: int, seed: int = 0, changed: float = 0.0) -> Shop:
    """Opens the shop with a progress line; drawn thumbnails come from the cache the second time."""
    if images is not None and not images.is_dir():
        raise ConfigError("--images", "", f"{images} is not a folder; give one that holds a folder of images per label")
    from crawler.shop.server import open_shop

    with console.stage("shop") as stage:
        opened = open_shop(
            images=images,
            products=products,
            seed=seed,
            changed=changed,
            on_progress=lambda done, total: stage.update(done, total, f"{done:,} of {total:,} thumbnails drawn"),
        )
        pictures = sum(product.photo for product in opened.stock.products)
        stage.summary = (
            f"{pictures:,} photographs, {len(opened.stock.products) - pictures:,} products without one, "
            f"{len(opened.stock.categories)} categories"
        )
    return opened


async def _serve(opened: Shop, host: str, port: int, faults: Faults, json: bool) -> None:
    from crawler.shop.server import serve

    async with serve(opened, host, port, faults=faults) as url:
        if json:
            console.emit({"url": url, "products": len(opened.stock.products)})
        console.note(f"open [bold]{url}[/] in a browser, or crawl it: bassline crawl embedded --start {url} --out set")
        console.note("[dim]Ctrl-C ends it[/]")
        await asyncio.Event().wait()


def shop(
    images: Images = None,
    products: Products = 8000,
    seed: Annotated[int, typer.Option(help="Of the drawn shop: another seed is another shop.")] = 0,
    changed: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.5,
            metavar="SHARE",
            help="The drawn shop some months later: this share of its products gone, as many photographed anew, as many"
            " new ones. For trying `bassline crawl --refresh`.",
        ),
    ] = 0.0,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0 takes a free one.")] = 8977,
    slow: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", rich_help_panel=_BAD_DAY, help="Every answer takes longer.")
    ] = 0.0,
    fail: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="SHARE",
            rich_help_panel=_BAD_DAY,
            help="So many of the requests fail: 500, 503, or the connection is cut. A second try may do.",
        ),
    ] = 0.0,
    limit_rate: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="PER_SECOND",
            rich_help_panel=_BAD_DAY,
            help="Requests answered; those beyond get 429 with Retry-After.",
        ),
    ] = 0.0,
    json: console.JsonFlag = False,
) -> None:
    """Serve the embedded shop until Ctrl-C.

    Example: bassline shop --products 500

    Example: bassline shop --products 500 --slow 0.2 --fail 0.02 --limit-rate 50
    """
    if images is not None and (changed or seed):
        raise ConfigError("--images", "", "its shop is those files: --seed and --changed are of the drawn one")
    opened = draw(images, products, seed, changed)
    from crawler.shop.faults import Faults

    try:
        asyncio.run(_serve(opened, host, port, Faults(slow, fail, limit_rate, seed), json))
    except KeyboardInterrupt:
        console.note("closed")
