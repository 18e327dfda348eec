"""What became of the products: counted, and of those not kept listed in drops.jsonl."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from crawler.report import DROPS_NAME
from shards.files import write_atomic

__all__ = ["outcomes", "write_drops"]


def outcomes(db: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """Settled products by outcome: {"kept": {"kept": n}, "dropped": {reason: n}, "failed": {reason: n}}."""
    counted: dict[str, dict[str, int]] = {"kept": {}, "dropped": {}, "failed": {}}
    query = (
        "SELECT coalesce(image.failed AND image.sha256 IS NULL, 0), outcome, count(*)"
        " FROM product LEFT JOIN image ON image.id = product.image"
        " WHERE outcome IS NOT NULL GROUP BY 1, 2 ORDER BY 3 DESC, 2"
    )
    for failed, outcome, count in db.execute(query):
        counted["kept" if outcome == "kept" else "failed" if failed else "dropped"][outcome] = count
    return counted


def write_drops(db: sqlite3.Connection, folder: Path) -> None:
    """Writes drops.jsonl: a line for each product that is not kept, with the address of its image and the reason.

    `sha256` names the image where its bytes are had: in the ledger (`crawler.pictures`) or, of a duplicate, in the set.
    """
    query = (
        "SELECT image.url, product.url, product.label, product.outcome, product.detail, product.title,"
        " lower(hex(coalesce(image.sha256, image.picture))) FROM product"
        " LEFT JOIN image ON image.id = product.image WHERE product.outcome <> 'kept' ORDER BY product.url"
    )
    names = ("url", "product_url", "label", "reason", "detail", "title", "sha256")
    rows = ((*row[:6], row[6] or None) for row in db.execute(query))
    write_atomic(
        folder / DROPS_NAME,
        (json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False).encode() + b"\n" for row in rows),
    )
