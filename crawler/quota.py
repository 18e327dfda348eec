"""Per-label quotas: the first so many good samples in the shop's own order, and little more than those is fetched.

Images of a label with a quota are held back when a result page shows them. Once the pages are walked, as many are
released as the quota needs, and a few to spare; if more than that turn out to be no good, the next round releases more.
What is kept in the end is a matter of the shop's order alone: a product waits only while enough before it may be good.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

__all__ = ["ORDER", "PROMISING", "promising_before", "release", "with_surplus"]

# before what is first in the shop: what is in the set already, so that a refresh does not turn it over
ORDER = """product.unseen, NOT coalesce(before.kept, 0), coalesce(before.sha256 <> image.sha256, 0),
product.category, product.page, product.position, product.url"""
# not known to be no good
PROMISING = "(image.done <> 1 OR image.sha256 IS NOT NULL) AND coalesce(product.outcome, 'kept') IN ('kept', 'quota')"
_BEFORE = f"""
SELECT count(*) FROM product JOIN image ON image.id = product.image
WHERE product.label = ? AND (product.category, product.page) < (?, ?) AND {PROMISING}
"""  # noqa: S608  (constants)
_RANKED = f"""
SELECT image.id, image.done FROM product JOIN image ON image.id = product.image
LEFT JOIN before ON before.url = product.url
WHERE product.label = ? AND {PROMISING} ORDER BY {ORDER} LIMIT ?
"""  # noqa: S608  (constants)


def with_surplus(quota: int) -> int:
    """What is fetched for a quota at first: a fiftieth more, for what turns out to be no good."""
    return quota + max(8, quota // 50)


def promising_before(db: sqlite3.Connection, label: str, place: tuple[int, int]) -> int:
    """How many products of a label that may be good stand before a result page (category, page)."""
    count: int = db.execute(_BEFORE, (label, *place)).fetchone()[0]
    return count


def release(db: sqlite3.Connection, quota: Callable[[str], int | None]) -> int:
    """Puts images and result pages into the queue that were held back and are needed after all; returns how many."""
    released = 0
    for (label,) in db.execute("SELECT DISTINCT label FROM product WHERE label <> ''").fetchall():
        limit = quota(label)
        if limit is None:
            continue
        ranked = db.execute(_RANKED, (label, with_surplus(limit))).fetchall()
        if any(done == 2 for _, done in ranked[:limit]):
            held = [(image,) for image, done in ranked if done == 2]
            db.executemany("UPDATE image SET done = 0 WHERE id = ?", held)
            released += len(held)
        query = "SELECT id, page FROM category WHERE held AND label = ? ORDER BY id"
        for category, page in db.execute(query, (label,)).fetchall():
            if promising_before(db, label, (category, page)) < limit:
                db.execute("UPDATE category SET held = 0 WHERE id = ?", (category,))
                released += 1
    return released
