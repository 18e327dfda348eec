"""The end of a crawl: every product gets its one outcome, from the whole of what was seen and so from no order of it.

An image that stands for many products stands for none of them; one that stands under two labels tells nothing. The
first of such images may be in a shard already, so shards are rewritten without them, before the set is indexed.
"""

from __future__ import annotations

import json
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crawler.places import TOLD
from crawler.report import DROPS_NAME
from crawler.site import Site
from shards import duplicates
from shards.duplicates import HASH_BITS
from shards.files import write_atomic
from shards.shard_set import finish
from shards.writer import Edit, rewrite, shard_name

__all__ = ["outcomes", "settle"]

_SAME = """
CREATE TEMP TABLE same AS
SELECT image.sha256 AS sha256, lower(hex(substr(image.sha256, 1, 10))) AS key, count(*) AS products,
       min(product.label) <> max(product.label) OR max(product.other_label IS NOT NULL) AS torn
FROM product JOIN image ON image.id = product.image
WHERE image.sha256 IS NOT NULL GROUP BY image.sha256
"""
_FIRSTS = """
CREATE TEMP TABLE firsts AS
SELECT id, key FROM (
    SELECT product.id AS id, sample.key AS key, row_number() OVER (
        PARTITION BY sample.key
        ORDER BY product.image <> sample.image, product.category, product.page, product.position, product.url) AS nth
    FROM sample JOIN same ON same.key = sample.key JOIN image ON image.sha256 = same.sha256
    JOIN product ON product.image = image.id)
WHERE nth = 1
"""
_OUTCOMES = """
UPDATE product SET (outcome, detail) = (
    SELECT CASE WHEN image.sha256 IS NULL THEN image.reason
                WHEN same.products >= :placeholder_at THEN 'placeholder'
                WHEN same.torn THEN 'label-conflict'
                WHEN product.id IN (SELECT id FROM firsts) THEN 'kept'
                ELSE 'duplicate' END,
           CASE WHEN image.sha256 IS NULL THEN image.detail
                WHEN same.products >= :placeholder_at THEN 'one image for ' || same.products || ' products'
                WHEN same.torn THEN coalesce('also listed as ' || product.other_label, 'its image has two labels')
                WHEN product.id IN (SELECT id FROM firsts) THEN NULL
                ELSE 'same bytes as ' || substr(lower(hex(image.sha256)), 1, 20) END
    FROM image LEFT JOIN same ON same.sha256 = image.sha256 WHERE image.id = product.image
) WHERE image IS NOT NULL
"""
_DOOMED = """
SELECT sample.shard, sample.key
FROM sample LEFT JOIN same ON same.key = sample.key
WHERE same.key IS NULL OR same.torn OR same.products >= :placeholder_at
"""
_TOLD_OTHERWISE = f"""
SELECT sample.shard, sample.key, {TOLD}, product.label, category.path, product.listing_url, product.url, product.maker,
       product.title, image.url, product.row
FROM sample JOIN firsts ON firsts.key = sample.key JOIN product ON product.id = firsts.id
JOIN image ON image.id = product.image JOIN category ON category.id = product.category
WHERE sample.told <> {TOLD}
"""  # noqa: S608  (a constant)


def settle(db: sqlite3.Connection, folder: Path, site: Site, labels: list[str], spent: dict[str, Any]) -> int:
    """Settles a crawl whose shards are sealed: outcomes, rewritten shards, indexes, manifest and drop report.

    Every step can be repeated. Runs in the frontier's thread, inside its transaction. Returns the number of groups.

    Args:
        spent: what the crawl cost, for the manifest's source.
    """
    limit = {"placeholder_at": site.drop.placeholder_at}
    for table in ("same", "firsts"):
        db.execute(f"DROP TABLE IF EXISTS temp.{table}")
    _resolve_labels(db, site)
    db.execute(_SAME)
    db.execute("CREATE INDEX temp.same_sha256 ON same (sha256)")
    db.execute("CREATE INDEX temp.same_key ON same (key)")
    db.execute(_FIRSTS)
    db.execute(_OUTCOMES, limit)
    lost = db.execute("SELECT count(*) FROM product WHERE outcome IS NULL").fetchone()[0]
    if lost:
        raise AssertionError(f"{lost} products without an outcome: a fault in the crawler, not in the site")
    doomed: dict[int, list[str]] = {}
    for shard, key in db.execute(_DOOMED, limit):
        doomed.setdefault(shard, []).append(key)
    amended, told = _told_otherwise(db, labels)
    for shard in sorted(doomed.keys() | amended.keys()):
        edits = {**amended.get(shard, {}), **dict.fromkeys(doomed.get(shard, ()))}
        rewrite(folder / shard_name(shard), edits)
    # only after the shards: a kill between the two finds the same samples doomed again
    for keys in doomed.values():
        db.executemany("DELETE FROM sample WHERE key = ?", [(key,) for key in keys])
    db.executemany("UPDATE sample SET told = ? WHERE key = ?", told)
    groups = _groups(db)
    source = {
        "kind": "crawl",
        "site": site.site.name,
        "site_version": site.site.version,
        "site_digest": site.digest,
        "start": list(site.site.start),
        "outcomes": outcomes(db),
        **spent,
    }
    finish(folder, labels, source=source, groups=groups).close()
    _write_drops(db, folder / DROPS_NAME)
    return len(set(groups.values()))


def outcomes(db: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """Settled products by outcome: {"kept": {"kept": n}, "dropped": {reason: n}, "failed": {reason: n}}."""
    counted: dict[str, dict[str, int]] = {"kept": {}, "dropped": {}, "failed": {}}
    query = (
        "SELECT coalesce(image.failed, 0), outcome, count(*) FROM product LEFT JOIN image ON image.id = product.image"
        " WHERE outcome IS NOT NULL GROUP BY 1, 2 ORDER BY 3 DESC, 2"
    )
    for failed, outcome, count in db.execute(query):
        counted["kept" if outcome == "kept" else "failed" if failed else "dropped"][outcome] = count
    return counted


def _resolve_labels(db: sqlite3.Connection, site: Site) -> None:
    """Decides the products found under several labels by the site file's policy."""
    found: dict[int, dict[str, int]] = {}
    for product, label, depth in db.execute("SELECT product, label, depth FROM product_label"):
        found.setdefault(product, {})[label] = depth
    rows = [(*site.labels.resolve(labels), product) for product, labels in found.items()]
    db.executemany("UPDATE product SET label = ?, other_label = ? WHERE id = ?", rows)


def _told_otherwise(
    db: sqlite3.Connection, labels: list[str]
) -> tuple[dict[int, dict[str, Edit]], list[tuple[str, str]]]:
    """Samples whose shard tells another product, place or label than the whole crawl does: the edits by shard and key,
    and what will then be told."""
    numbers = {name: number for number, name in enumerate(labels)}
    amended: dict[int, dict[str, Edit]] = {}
    told: list[tuple[str, str]] = []
    for shard, key, now, label, path, listing_url, url, maker, title, image_url, row in db.execute(_TOLD_OTHERWISE):
        now_known = {
            "label": label,
            "label_path": json.loads(path),
            "listing_url": listing_url,
            "product_url": url,
            "maker": maker,
            "title": title,
            "image_url": image_url,
            **({"row": json.loads(row)} if row else {}),
        }
        amended.setdefault(shard, {})[key] = Edit(numbers[label], partial(_with, now_known))
        told.append((now, key))
    return amended, told


def _with(now_known: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    return {**meta, **now_known}


def _groups(db: sqlite3.Connection) -> dict[str, int]:
    """Group number by key; the same for the same samples in whatever order they came."""
    count = db.execute("SELECT count(*) FROM sample").fetchone()[0]
    hashes = np.empty((count, HASH_BITS // 8), np.uint8)
    keys = []
    for number, (key, dhash) in enumerate(db.execute("SELECT key, dhash FROM sample ORDER BY key")):
        hashes[number] = np.frombuffer(dhash, np.uint8)  # not all rows at once: each costs 300 bytes
        keys.append(key)
    return dict(zip(keys, duplicates.groups(hashes).tolist(), strict=True))


def _write_drops(db: sqlite3.Connection, path: Path) -> None:
    query = (
        "SELECT image.url, product.url, product.label, product.outcome, product.detail, product.title FROM product"
        " LEFT JOIN image ON image.id = product.image WHERE product.outcome <> 'kept' ORDER BY product.url"
    )
    names = ("url", "product_url", "label", "reason", "detail", "title")
    lines = (
        json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False).encode() + b"\n" for row in db.execute(query)
    )
    write_atomic(path, lines)
