"""Every product's one outcome, from the whole of what is known and so from no order in which it came.

An image that stands for many products of a host stands for none of them; one that stands under two labels tells
nothing; of many products with one image, and on request of many images that are nearly one, the first is kept. Outcomes
can be decided at any time: what is not answered for yet has none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from crawler.quota import ORDER
from crawler.site import Site

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KEY", "as_rows", "decide", "groups_of"]

KEY = "lower(hex(substr(image.sha256, 1, 10)))"  # a sample's key is 20 hex digits of its image's sha256

_TOGETHER = 4096  # hashes

# Mostly a product has its image for itself; what follows is about those that have not, and few rows cost little.
_SHARED = """
INSERT INTO temp.shared
SELECT image.sha256 FROM product JOIN image ON image.id = product.image
WHERE image.sha256 IS NOT NULL AND image.done = 1
GROUP BY image.sha256 HAVING count(*) > 1 OR max(product.other_label IS NOT NULL)
"""
# counted by host: a maker's photograph may be shown by many shops, each of which has it once
_SAME = """
CREATE TEMP TABLE same AS
SELECT sha256, max(products) AS products, min(low) <> max(high) OR max(other) AS torn FROM (
    SELECT image.sha256 AS sha256, count(*) AS products, min(product.label) AS low, max(product.label) AS high,
           max(product.other_label IS NOT NULL) AS other
    FROM product JOIN image ON image.id = product.image
    WHERE image.sha256 IN (SELECT sha256 FROM shared) AND image.done = 1 AND NOT product.unseen
    GROUP BY image.sha256, image.host)
GROUP BY sha256
"""
_FIRSTS = f"""
CREATE TEMP TABLE firsts AS
SELECT product.id AS id, {KEY} AS key FROM product JOIN image ON image.id = product.image
WHERE image.sha256 IS NOT NULL AND image.done = 1 AND image.sha256 NOT IN (SELECT sha256 FROM shared)
UNION ALL SELECT id, key FROM (
    SELECT product.id AS id, {KEY} AS key, row_number() OVER (PARTITION BY image.sha256 ORDER BY {ORDER}) AS nth
    FROM product JOIN image ON image.id = product.image LEFT JOIN before ON before.url = product.url
    WHERE image.sha256 IN (SELECT sha256 FROM shared) AND image.done = 1)
WHERE nth = 1
"""  # noqa: S608  (constants)
_OUTCOMES = f"""
UPDATE product SET (outcome, detail) = (
    SELECT CASE WHEN image.done = 0 THEN NULL
                WHEN image.done = 2 THEN 'quota'
                WHEN image.sha256 IS NULL THEN image.reason
                WHEN same.products >= :placeholder_at THEN 'placeholder'
                WHEN same.torn THEN 'label-conflict'
                WHEN product.id NOT IN (SELECT id FROM firsts) THEN 'duplicate'
                WHEN product.unseen AND {KEY} NOT IN (SELECT key FROM sample) THEN 'vanished'
                ELSE 'kept' END,
           CASE WHEN image.done <> 1 THEN NULL
                WHEN image.sha256 IS NULL THEN image.detail
                WHEN same.products >= :placeholder_at THEN 'one image for ' || same.products || ' products'
                WHEN same.torn THEN coalesce('also listed as ' || product.other_label, 'its image has two labels')
                WHEN product.id NOT IN (SELECT id FROM firsts) THEN 'same bytes as ' || {KEY}
                ELSE NULL END
    FROM image LEFT JOIN same ON same.sha256 = image.sha256 WHERE image.id = product.image
) WHERE image IS NOT NULL
"""  # noqa: S608  (constants)
_KEPT = f"""
SELECT product.id, product.label, sample.key, sample.dhash
FROM firsts JOIN product ON product.id = firsts.id JOIN image ON image.id = product.image
LEFT JOIN sample ON sample.key = firsts.key LEFT JOIN before ON before.url = product.url
WHERE product.outcome = 'kept' ORDER BY {ORDER}
"""  # noqa: S608  (constants)


def decide(db: sqlite3.Connection, site: Site) -> int:
    """Gives every product its outcome, NULL where its image is not answered for yet.

    Returns:
        how many images are to be fetched after all: they are kept now, but the shards do not have them, as an earlier
        crawl left them out.
    """
    for table in ("shared", "same", "firsts"):
        db.execute(f"DROP TABLE IF EXISTS temp.{table}")
    _resolve_labels(db, site)
    db.execute("CREATE TABLE temp.shared (sha256 BLOB PRIMARY KEY) WITHOUT ROWID")
    db.execute(_SHARED)
    db.execute(_SAME)
    db.execute("CREATE INDEX temp.same_sha256 ON same (sha256)")
    db.execute(_FIRSTS)
    db.execute("CREATE INDEX temp.firsts_id ON firsts (id)")
    db.execute(_OUTCOMES, {"placeholder_at": site.drop.placeholder_at})
    if site.drop.near_duplicates:
        _drop_near_duplicates(db)
    _apply_quotas(db, site)
    missing = (
        "SELECT product.image FROM firsts JOIN product ON product.id = firsts.id"
        " WHERE product.outcome = 'kept' AND firsts.key NOT IN (SELECT key FROM sample)"
    )
    asked = "UPDATE image SET done = 0, etag = NULL, last_modified = NULL WHERE id IN"
    return db.execute(f"{asked} ({missing})").rowcount


def _resolve_labels(db: sqlite3.Connection, site: Site) -> None:
    """Decides the products found under several labels by the site file's policy."""
    found: dict[int, dict[str, int]] = {}
    for product, label, depth in db.execute("SELECT product, label, depth FROM product_label"):
        found.setdefault(product, {})[label] = depth
    rows = [(*site.labels.resolve(labels), product) for product, labels in found.items()]
    db.executemany("UPDATE product SET label = ?, other_label = ? WHERE id = ?", rows)


def _drop_near_duplicates(db: sqlite3.Connection) -> None:
    kept = [row for row in db.execute(_KEPT) if row[2] is not None]
    first: dict[int, str] = {}
    dropped = []
    found = groups_of((row[3] for row in kept), len(kept)).tolist()
    for (id, _, key, _), group in zip(kept, found, strict=True):
        if first.setdefault(group, key) != key:
            dropped.append((f"near to {first[group]}", id))
    db.executemany("UPDATE product SET outcome = 'near-duplicate', detail = ? WHERE id = ?", dropped)


def _apply_quotas(db: sqlite3.Connection, site: Site) -> None:
    if site.labels.quota is None:
        return
    counts: dict[str, int] = {}
    over = []
    for id, label, *_ in db.execute(_KEPT):
        counts[label] = counts.get(label, 0) + 1
        quota = site.labels.quota_of(label)
        if quota is not None and counts[label] > quota:
            over.append((id,))
    db.executemany("UPDATE product SET outcome = 'quota' WHERE id = ?", over)
    db.executemany(
        "UPDATE product SET detail = ? WHERE outcome = 'quota' AND label = ?",
        [
            (f"{label} has its {site.labels.quota_of(label):,}", label)
            for label in counts
            if site.labels.quota_of(label)
        ],
    )


def groups_of(hashes: Iterable[bytes], count: int) -> NDArray[np.int64]:
    """The group of near-duplicates that each of `count` hashes is in, int64 (N,), counted from 0."""
    from shards import duplicates

    given = [as_rows(hashes, count)]
    return duplicates.groups(given.pop())  # the hashes are gone before what is made of them takes more


def as_rows(hashes: Iterable[bytes], count: int) -> NDArray[np.uint8]:
    """`count` hashes as uint8 (N, bytes)."""
    import numpy as np  # 0.2 s with what it groups by: not at the start of a crawl

    from shards.duplicates import HASH_BITS

    rows = np.empty((count, HASH_BITS // 8), np.uint8)
    remaining = iter(hashes)
    for at in range(0, count, _TOGETHER):  # not all hashes at once: each costs 200 bytes
        some = b"".join(islice(remaining, _TOGETHER))
        rows[at : at + _TOGETHER] = np.frombuffer(some, np.uint8).reshape(-1, rows.shape[1])
    return rows
