"""Where a product stands in the ledger: one place of the several where it is listed, whichever was read first."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from crawler.listing import Listed
from crawler.urls import netloc_of

__all__ = ["TOLD", "Place", "put"]

# what a sample tells of itself; where it is not what the crawl knows in the end, the shard is written anew
TOLD = "product.id || ' ' || product.category || ' ' || product.page || ' ' || product.position || ' ' || product.label"

_KNOWN = "SELECT id, label, depth, image IS NULL, category, page, position, image FROM product WHERE url = ?"
_NEW = """
INSERT INTO product
    (label, image, category, page, position, depth, listing_url, maker, title, row, outcome, detail, url)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_MOVED = """
UPDATE product SET (label, image, category, page, position, depth, listing_url, maker, title, row, outcome, detail)
    = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE url = ?
"""
_FIRST_LABEL = """
INSERT INTO product_label SELECT :product, :label, :depth
WHERE NOT EXISTS (SELECT 1 FROM product_label WHERE product = :product)
"""
_LABEL = "INSERT INTO product_label VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET depth = max(depth, excluded.depth)"
# an image that no product has any more is not fetched; one that is wanted again gets a number that no lane has passed
_SUPERSEDED = """
UPDATE image SET done = 1, reason = 'superseded'
WHERE id = ? AND done = 0 AND NOT EXISTS (SELECT 1 FROM product WHERE product.image = image.id)
"""
_WANTED_AGAIN = """
UPDATE image SET done = 0, reason = NULL, id = (SELECT max(id) + 1 FROM image) WHERE id = ? RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a product is listed: the category and its depth, the result page and its address, the place on it."""

    category: int
    depth: int
    page: int
    position: int
    listing_url: str


def put(db: sqlite3.Connection, listed: Listed, place: Place, row: str | None = None) -> tuple[bool, bool]:
    """Records a product at a place; returns whether the product and whether its image are new.

    A known product moves if this place comes before its own: one with an image to take before one without, then by
    category, page and position. Every label it is found under is kept.

    Args:
        row: JSON of what else a list says of it.
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
    image, new_image = _image(db, listed)
    outcome, detail = (None, None) if image else _no_image(listed)
    values = (label, image, *rank[1:], place.depth, place.listing_url, item.maker, item.title, row, outcome, detail)
    db.execute(_MOVED if known else _NEW, (*values, item.url))
    if known and known[-1] not in (None, image):
        db.execute(_SUPERSEDED, (known[-1],))
    return known is None, new_image


def _image(db: sqlite3.Connection, listed: Listed) -> tuple[int | None, bool]:
    """The number of the image to take, and whether it is new."""
    url = listed.item.image
    if not listed.usable or url is None:
        return None, False
    found = db.execute("SELECT id, reason, sha256 FROM image WHERE url = ?", (url,)).fetchone()
    if found is None:
        return db.execute("INSERT INTO image (url, host) VALUES (?, ?)", (url, netloc_of(url))).lastrowid, True
    if found[1] == "superseded" and found[2] is None:
        return db.execute(_WANTED_AGAIN, found[:1]).fetchone()[0], False
    return found[0], False


def _no_image(listed: Listed) -> tuple[str, str | None]:
    """Outcome and detail of a product of which no image is taken."""
    if listed.dropped is not None:
        return "rule", listed.dropped
    return ("no-image", None) if listed.label else ("no-label", "no label rule fits")
