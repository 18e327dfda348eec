"""A finished crawl once more: everything is walked anew, and of what is known it is only asked whether it still holds.

A refresh is a crawl with a memory. Categories and products are seen as for the first time, so their outcomes come about
as they always do; the products of the crawl before are put aside, to be compared with in the end. Images keep what is
known of them, and are asked for conditionally.
"""

from __future__ import annotations

import sqlite3
from typing import Literal

__all__ = ["Vanished", "begin_refresh", "carry_over", "changes", "explore_again", "reopen", "to_reopen"]

Vanished = Literal["keep", "drop"]

_SET_ASIDE = """
INSERT INTO before
SELECT product.url, product.label, image.url, image.sha256, product.listing_url, product.maker, product.title,
       product.outcome = 'kept', product.vanished
FROM product LEFT JOIN image ON image.id = product.image
"""
_CARRY_OVER = """
INSERT INTO product (url, label, image, category, page, position, depth, listing_url, maker, title, unseen, vanished)
SELECT before.url, before.label, image.id, 0, 0, row_number() OVER (ORDER BY before.url), 0, before.listing_url,
       before.maker, before.title, 1, iif(:declared, coalesce(before.vanished, :today), before.vanished)
FROM before JOIN image ON image.url = before.image_url
WHERE before.kept AND NOT EXISTS (SELECT 1 FROM product WHERE product.url = before.url)
"""
_VANISHED = """
INSERT OR REPLACE INTO vanished
SELECT url, coalesce(vanished, :today), label, maker, title, image_url, kept AND :keep FROM before
WHERE NOT EXISTS (SELECT 1 FROM product WHERE product.url = before.url AND NOT product.unseen)
"""
_UNEXPLORED = "explored = 2 AND failed"
_UNWALKED = "(explored = 1 AND label IS NOT NULL AND next_page IS NOT NULL AND NOT held)"
_FAILED = "failed = 1 AND EXISTS (SELECT 1 FROM product WHERE product.image = image.id)"  # one that is still shown
_UNSETTLE = """
UPDATE product SET outcome = NULL, detail = NULL WHERE image IN (SELECT id FROM image WHERE failed = 1)
"""
_CHANGED = """
SELECT count(*) FILTER (WHERE before.url IS NULL),
       count(*) FILTER (WHERE image.sha256 IS NOT before.sha256),
       count(*) FILTER (WHERE product.label <> before.label),
       count(*) FILTER (WHERE (product.maker, product.title) <> (before.maker, before.title)),
       count(*) FILTER (WHERE image.sha256 IS NOT before.sha256 OR product.label <> before.label
                        OR (product.maker, product.title) <> (before.maker, before.title)),
       count(*) FILTER (WHERE image.failed AND image.sha256 IS NOT NULL),
       count(*)
FROM product LEFT JOIN before ON before.url = product.url LEFT JOIN image ON image.id = product.image
WHERE NOT product.unseen AND (before.url IS NOT NULL OR :new)
"""


def begin_refresh(db: sqlite3.Connection, vanished: Vanished) -> None:
    """Sets aside what is known of products; from here on the crawl is unfinished."""
    db.execute("DELETE FROM before")
    db.execute(_SET_ASIDE)
    db.execute("DELETE FROM product")
    db.execute("DELETE FROM product_label")
    db.execute("DELETE FROM category")
    db.execute("INSERT INTO meta VALUES ('generation', '1') ON CONFLICT DO UPDATE SET value = value + 1")
    db.execute("INSERT OR REPLACE INTO meta VALUES ('vanished', ?)", (vanished,))
    if not db.execute("DELETE FROM meta WHERE key = 'list_digest'").rowcount:  # a list's labels are added to
        _number_labels_anew(db)
    db.execute("DELETE FROM meta WHERE key IN ('stage', 'first_cut', 'spent')")


def to_reopen(db: sqlite3.Connection) -> tuple[int, int]:
    """Of a crawl that has come to its end: images, and category and result pages, that failed."""
    images = db.execute(f"SELECT count(*) FROM image WHERE {_FAILED}").fetchone()[0]  # noqa: S608
    pages = db.execute(f"SELECT count(*) FROM category WHERE {_UNEXPLORED} OR {_UNWALKED}").fetchone()[0]  # noqa: S608
    return images, pages


def explore_again(db: sqlite3.Connection) -> int:
    """Puts category pages that failed back among those to explore; returns how many."""
    again = f"UPDATE category SET explored = 0, problem = NULL, failed = 0 WHERE {_UNEXPLORED}"  # noqa: S608
    return db.execute(again).rowcount


def reopen(db: sqlite3.Connection) -> None:
    """Puts what failed back into the queue."""
    if explore_again(db):  # what they lead to may have labels of its own
        _number_labels_anew(db)
    db.execute("DELETE FROM product WHERE unseen")
    db.execute(_UNSETTLE)
    db.execute(f"UPDATE image SET done = 0, reason = NULL, detail = NULL, failed = 0 WHERE {_FAILED}")  # noqa: S608
    db.execute("DELETE FROM meta WHERE key = 'stage'")


def _number_labels_anew(db: sqlite3.Connection) -> None:
    """Has the categories explored, and labels numbered: those known keep their numbers, for the shards have them."""
    db.execute("INSERT OR REPLACE INTO meta SELECT 'labels_before', value FROM meta WHERE key = 'labels'")
    db.execute("DELETE FROM meta WHERE key = 'labels'")


def carry_over(db: sqlite3.Connection, today: str) -> None:
    """Takes over from the crawl before what this one did not meet, as the policy is; may be repeated.

    Where pages could not be read, what stood on them may still be there: nothing is declared vanished, or dropped.
    """
    meta = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('generation', 'vanished')"))
    db.execute("DELETE FROM product WHERE unseen")
    if not int(meta.get("generation", 0)):
        return
    blind = db.execute("SELECT count(*) FROM category WHERE failed AND problem IS NOT NULL").fetchone()[0]
    keep = bool(blind) or meta["vanished"] == "keep"
    if keep:
        db.execute(_CARRY_OVER, {"declared": not blind, "today": today})
    if not blind:
        db.execute(_VANISHED, {"keep": keep, "today": today})
    db.execute("DELETE FROM vanished WHERE url IN (SELECT url FROM product WHERE NOT unseen)")


def changes(db: sqlite3.Connection) -> dict[str, int] | None:
    """What a refresh found, in products: new, changed (and in what), unchanged, vanished; None for a first crawl.

    `unasked` are those whose image could not be asked for: the old one is kept, and counted as unchanged.
    """
    if db.execute("SELECT count(*) FROM meta WHERE key = 'generation'").fetchone()[0] == 0:
        return None
    _, image, label, title, changed, unasked, known = db.execute(_CHANGED, {"new": False}).fetchone()
    new = db.execute(_CHANGED, {"new": True}).fetchone()[0]
    blind = db.execute("SELECT count(*) FROM category WHERE failed AND problem IS NOT NULL").fetchone()[0]
    gone = (
        "SELECT count(*) FROM before WHERE NOT EXISTS"
        " (SELECT 1 FROM product WHERE product.url = before.url AND NOT product.unseen)"
        " AND vanished IS NULL"
    )
    missed = db.execute(gone).fetchone()[0]
    return {
        "new": new,
        "changed": changed,
        "changed_image": image,
        "changed_label": label,
        "changed_title": title,
        "unchanged": known - changed,
        "unasked": unasked,
        "vanished": 0 if blind else missed,
        "not_met": missed if blind else 0,
    }
