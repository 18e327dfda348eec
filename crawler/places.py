"""Where a product stands in the ledger: one place of the several where it is listed, whichever was read first."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Sequence
from hashlib import blake2b
from itertools import count
from typing import Any, NamedTuple

from crawler.listing import Listed
from crawler.many_rows import in_chunks
from crawler.urls import netloc_of

__all__ = ["NOW_TOLD", "PLACE", "Entry", "Place", "put", "put_page", "told"]

# what a sample tells of its product and of its place; where it is not what the crawl knows in the end, the shard is
# written anew
NOW_TOLD = "told(product.label, product.url, image.url, product.maker, product.title, product.row)"
PLACE = "product.category || ' ' || product.page || ' ' || product.position"

_WANTED, _HELD = 0, 2  # of image.done
_KNOWN = "SELECT id, label, depth, image IS NULL, category, page, position, image FROM product WHERE url = ?"
_NEW_PRODUCTS = """
INSERT INTO product
    (label, image, category, page, position, depth, listing_url, maker, title, row, outcome, detail, url)
VALUES {rows}
"""
_NEW = _NEW_PRODUCTS.format(rows="(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
_MOVED = """
UPDATE product SET (label, image, category, page, position, depth, listing_url, maker, title, row, outcome, detail)
    = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE url = ?
"""
_FIRST_LABEL = """
INSERT INTO product_label SELECT :product, :label, :depth
WHERE NOT EXISTS (SELECT 1 FROM product_label WHERE product = :product)
"""
_LABEL = "INSERT INTO product_label VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET depth = max(depth, excluded.depth)"
_NEW_IMAGE = "INSERT INTO image (url, host, done, generation) VALUES (?, ?, ?, ?)"
_NUMBERED_IMAGES = "INSERT INTO image (id, url, host, done, generation) VALUES {rows}"
# an image that no product has any more is not fetched; one that is wanted again gets a number that no lane has passed
_SUPERSEDED = """
UPDATE image SET done = 1, reason = 'superseded'
WHERE id = ? AND done = 0 AND NOT EXISTS (SELECT 1 FROM product WHERE product.image = image.id)
"""
_WANTED_AGAIN = """
UPDATE image SET done = ?, reason = ?, generation = ?, failed = 0, id = (SELECT max(id) + 1 FROM image) WHERE id = ?
RETURNING id
"""


class Place(NamedTuple):
    """Where a product is listed: the category and its depth, the result page and its address, the place on it."""

    category: int
    depth: int
    page: int
    position: int
    listing_url: str


Entry = tuple[Listed, Place, bool, str | None]
"""A product, its place, whether to hold its image, and the JSON of what else a list says of it."""


def told(label: str, product_url: str, image_url: str, maker: str, title: str, row: str | None) -> int:
    """64 bits of what a sample's JSON says of its product; in the ledger's SQL too."""
    text = "\0".join((label, product_url, image_url, maker, title, row or ""))
    return int.from_bytes(blake2b(text.encode(errors="replace"), digest_size=8).digest(), "big", signed=True)


def put_page(db: sqlite3.Connection, page: Sequence[Entry], *, generation: int = 0) -> tuple[int, int]:
    """`put` for all products of a page, or for some rows of a list.

    Those that are all new, as on most pages of a first crawl, cost four statements and not four each.

    Returns:
        How many products and images are new.
    """
    alone: list[Entry] = []
    together: list[Entry] = []
    met = _known(db, "product", [listed.item.url for listed, *_ in page])
    met |= _known(db, "image", [listed.item.image for listed, *_ in page if listed.item.image])
    for entry in page:
        item = entry[0].item
        own = [item.url, item.image] if item.image else [item.url]
        (together if met.isdisjoint(own) else alone).append(entry)
        met.update(own)
    images = [
        (listed.item.image or "", netloc_of(listed.item.image or ""), _HELD if hold else _WANTED, generation)
        for listed, _, hold, _ in together
        if listed.usable
    ]
    # ids as one row after the other would get them; what RETURNING gives is in no promised order
    following = db.execute("SELECT coalesce(max(id), 0) + 1 FROM image").fetchone()[0] if images else 0
    numbers = dict(zip((url for url, *_ in images), count(following), strict=False))
    numbered = [(numbers[url], url, *rest) for url, *rest in images]
    deque(in_chunks(db, _NUMBERED_IMAGES, numbered), maxlen=0)
    products = [
        _values(listed, place, numbers[listed.item.image or ""] if listed.usable else None, row)
        for listed, place, _, row in together
    ]
    deque(in_chunks(db, _NEW_PRODUCTS, products), maxlen=0)
    new, new_images = len(products), len(images)
    for listed, place, hold, row in alone:
        more = put(db, listed, place, row, generation=generation, hold=hold)
        new, new_images = new + more[0], new_images + more[1]
    return new, new_images


def _known(db: sqlite3.Connection, table: str, urls: Sequence[str]) -> set[str]:
    sql = f"SELECT url FROM {table} WHERE url IN ({{rows}})"  # noqa: S608  (one of two names)
    return {url for (url,) in in_chunks(db, sql, [(url,) for url in urls], row="?")}


def put(
    db: sqlite3.Connection,
    listed: Listed,
    place: Place,
    row: str | None = None,
    *,
    generation: int = 0,
    hold: bool = False,
) -> tuple[bool, bool]:
    """Records a product at a place; returns whether the product and whether its image are new to this generation.

    A known product moves if this place comes before its own: one with an image to take before one without, then by
    category, page and position. Every label it is found under is kept.

    Args:
        row: JSON of what else a list says of it.
        generation: 0 for a first crawl, then one more a refresh; an image known from before is asked for anew.
        hold: its label has a quota, so the image waits until it is known to be needed.
    """
    item, label = listed.item, listed.label
    rank = (not listed.usable, place.category, place.page, place.position)
    known = db.execute(_KNOWN, (item.url,)).fetchone()
    if known is not None:
        id, known_label, known_depth = known[:3]
        if label and known_label and (label, place.depth) != (known_label, known_depth):
            db.execute(_FIRST_LABEL, {"product": id, "label": known_label, "depth": known_depth})
            db.execute(_LABEL, (id, label, place.depth))
        if rank >= known[3:7]:
            return False, False
    image, new_image = _image(db, listed, generation, _HELD if hold else _WANTED)
    db.execute(_MOVED if known else _NEW, _values(listed, place, image, row))
    if known and known[-1] not in (None, image):
        db.execute(_SUPERSEDED, (known[-1],))
    return known is None, new_image


def _image(db: sqlite3.Connection, listed: Listed, generation: int, fetch: int) -> tuple[int | None, bool]:
    """The number of the image to take, and whether it is new to this generation."""
    url = listed.item.image
    if not listed.usable or url is None:
        return None, False
    found = db.execute("SELECT id, reason, sha256, generation, done FROM image WHERE url = ?", (url,)).fetchone()
    if found is None:
        return db.execute(_NEW_IMAGE, (url, netloc_of(url), fetch, generation)).lastrowid, True
    id, reason, sha256, seen_in, done = found
    superseded = reason == "superseded" and sha256 is None
    if seen_in == generation and not superseded and not (done == _HELD and fetch == _WANTED):
        return id, False
    again = (fetch, None if superseded else reason, generation, id)
    return db.execute(_WANTED_AGAIN, again).fetchone()[0], seen_in < generation


def _values(listed: Listed, place: Place, image: int | None, row: str | None) -> tuple[Any, ...]:
    item = listed.item
    outcome, detail = (None, None) if image else _no_image(listed)
    where = (place.category, place.page, place.position, place.depth, place.listing_url)
    return listed.label, image, *where, item.maker, item.title, row, outcome, detail, item.url


def _no_image(listed: Listed) -> tuple[str, str | None]:
    """Outcome and detail of a product of which no image is taken."""
    if listed.dropped is not None:
        return "rule", listed.dropped
    return ("no-image", None) if listed.label else ("no-label", "no label rule fits")
