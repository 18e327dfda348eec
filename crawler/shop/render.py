"""Every photograph of the shop in one memory-mapped file, drawn once and kept.

The cache is keyed by the drawing code itself: whoever changes a brush gets new pictures, nobody gets stale ones.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import mmap
import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageDraw

from crawler.shop.catalogue import Catalogue, Product
from crawler.shop.draw.scene import SIZE, picture
from crawler.shop.draw.spec import Spec

__all__ = ["Photographs", "default_cache", "default_thumbnail", "render", "rendered"]

_MAGIC = b"BASSSHOP"
_HEAD = struct.Struct("<8sQ")
_KEPT_SHOPS = 4  # about 40 MB each at 8,000 products
_ROW = np.dtype([("id", "<u8"), ("offset", "<u8"), ("size", "<u8")])


def render(product: Product) -> bytes:
    """The product's photograph, a 150x150 JPEG; the same product gives the same bytes."""
    return picture(product.spec)


@functools.cache
def default_thumbnail() -> bytes:
    """The picture that stands for "no photo": one and the same for every product that lacks one."""
    image = Image.new("RGB", (SIZE * 4, SIZE * 4), (250, 250, 250))
    draw = ImageDraw.Draw(image)
    grey = (206, 208, 212)
    draw.rounded_rectangle((150, 200, 450, 420), 24, outline=grey, width=14)
    draw.rounded_rectangle((245, 168, 355, 214), 14, fill=grey)
    draw.ellipse((228, 238, 372, 382), outline=grey, width=14)
    draw.ellipse((268, 278, 332, 342), fill=grey)
    draw.line((130, 450, 470, 150), fill=(250, 250, 250), width=40)
    draw.line((130, 450, 470, 150), fill=grey, width=14)
    buffer = io.BytesIO()
    image.reduce(4).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def default_cache() -> Path:
    """Where rendered shops are kept unless told otherwise: `bassline/shop` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "bassline" / "shop"


class Photographs(Mapping[int, bytes]):
    """Product id to JPEG bytes, read from one memory-mapped file; close it or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        magic, count = _HEAD.unpack_from(self._map)
        if magic != _MAGIC or len(self._map) < _HEAD.size + count * _ROW.itemsize:
            raise ValueError(f"{path}: not a rendered shop; delete it and it is drawn again")
        rows = np.frombuffer(self._map[_HEAD.size : _HEAD.size + count * _ROW.itemsize], _ROW)
        self._places = {int(row["id"]): (int(row["offset"]), int(row["size"])) for row in rows}

    def __getitem__(self, product_id: int) -> bytes:
        offset, size = self._places[product_id]
        return self._map[offset : offset + size]

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def close(self) -> None:
        """Let the file go; pictures already read stay valid."""
        self._map.close()

    def __enter__(self) -> Photographs:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def rendered(
    catalogue: Catalogue,
    cache: Path | None = None,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Photographs:
    """Photographs of all products that have one, drawn now or found in the cache.

    Args:
        catalogue: the shop.
        cache: folder of rendered shops; None is `default_cache()`.
        workers: processes to draw with; None is one a core, 1 draws in this process. They are spawned, so a script
            that calls this needs the usual `if __name__ == "__main__"`.
        on_progress: called with (drawn, total) as work goes on; not called when the cache has it all.
    """
    products = [product for product in catalogue.products if product.photo]
    path = (cache or default_cache()) / f"{_digest(products)}.shop"
    if not path.exists():
        _draw_all(products, path, workers or os.cpu_count() or 1, on_progress or (lambda drawn, total: None))
    path.touch()  # the folder keeps the shops used last
    for stale in sorted(path.parent.glob("*.shop"), key=lambda shop: shop.stat().st_mtime)[:-_KEPT_SHOPS]:
        stale.unlink(missing_ok=True)
    return Photographs(path)


def _digest(products: list[Product]) -> str:
    """Names a rendered shop by the drawing code, the libraries under it and what is to be drawn."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for source in sorted((*(here / "draw").glob("*.py"), here / "render.py")):
        digest.update(source.read_bytes())
    digest.update(json.dumps([PIL.__version__, np.__version__, str(products)]).encode())
    return digest.hexdigest()[:24]


def _pictures(specs: list[Spec]) -> list[bytes]:
    return [picture(spec) for spec in specs]


def _draw_all(products: list[Product], path: Path, workers: int, on_progress: Callable[[int, int], None]) -> None:
    specs = [product.spec for product in products]
    # small enough to show progress, large enough that a hop to a worker costs nothing beside drawing
    chunks = [specs[start : start + 64] for start in range(0, len(specs), 64)]
    pictures: list[bytes] = []
    path.parent.mkdir(parents=True, exist_ok=True)
    if workers == 1 or len(chunks) == 1:
        for chunk in chunks:
            pictures += _pictures(chunk)
            on_progress(len(pictures), len(specs))
    else:
        # spawn: the caller may hold threads (a server, torch), which a fork would copy in the middle of their work
        with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=get_context("spawn")) as pool:
            for drawn in pool.map(_pictures, chunks):
                pictures += drawn
                on_progress(len(pictures), len(specs))
    _write(path, [product.id for product in products], pictures)


def _write(path: Path, ids: list[int], pictures: list[bytes]) -> None:
    """One file, complete or absent: written beside, then renamed."""
    rows = np.zeros(len(ids), _ROW)
    sizes = np.array([len(image) for image in pictures], dtype=np.uint64)
    rows["id"], rows["size"] = ids, sizes
    rows["offset"] = np.cumsum(sizes) - sizes + np.uint64(_HEAD.size + rows.nbytes)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(_HEAD.pack(_MAGIC, len(ids)))
            file.write(rows.tobytes())
            file.writelines(pictures)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
