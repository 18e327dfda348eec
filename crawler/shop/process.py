"""The shop in a process of its own, so that server and crawler each have a core.

It ends with its parent however that ends: the child reads its standard input and leaves when it closes.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crawler.shop.server import open_shop, serve
from shards.errors import BasslineError

__all__ = ["ShopDied", "shop_process"]


class ShopDied(BasslineError):
    """The shop's process ended before it served anything."""

    def __init__(self, said: str) -> None:
        self.said = said
        super().__init__(f"the embedded shop did not start: {said or 'it said nothing'}")


@contextmanager
def shop_process(
    *,
    images: Path | None = None,
    products: int = 8000,
    seed: int = 0,
    cache: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[str]:
    """Runs `open_shop(...)` in a child process; gives its address, such as "http://127.0.0.1:41234/".

    Thumbnails not in `cache` are drawn first, without progress: call `open_shop` before to see it.

    Raises:
        ShopDied: the child ended instead of serving; carries the last line it said.
    """
    wish = {
        "images": str(images) if images else None,
        "products": products,
        "seed": seed,
        "cache": str(cache) if cache else None,
        "host": host,
        "port": port,
    }
    said = tempfile.TemporaryFile("w+")  # noqa: SIM115  a pipe nobody reads would fill up and stop the shop
    child = subprocess.Popen(
        [sys.executable, "-m", "crawler.shop.process", json.dumps(wish)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        text=True,
        start_new_session=True,  # Ctrl-C is for the crawler: the shop must still answer while it keeps its state
    )
    with said, child:
        assert child.stdin
        assert child.stdout
        url = child.stdout.readline().strip()
        if not url:
            child.wait()
            said.seek(0)
            raise ShopDied(said.read().strip().rpartition("\n")[2])
        try:
            yield url
        finally:
            child.stdin.close()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()


async def _serve_until_parent_ends(wish: dict[str, str | int | None]) -> None:
    images, cache = wish["images"], wish["cache"]
    shop = open_shop(
        images=Path(str(images)) if images else None,
        products=int(wish["products"] or 0),
        seed=int(wish["seed"] or 0),
        cache=Path(str(cache)) if cache else None,
    )
    async with serve(shop, str(wish["host"]), int(wish["port"] or 0)) as url:
        sys.stdout.write(url + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve_until_parent_ends(json.loads(sys.argv[1])))
