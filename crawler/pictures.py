"""Images that were left out, kept to be looked at: some of each reason, in the ledger, as durable as the reason is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from shards.sample import sniff

__all__ = ["MOST_BYTES", "MOST_OF_A_REASON", "Picture", "Pictures", "pictures"]

MOST_OF_A_REASON = 500
MOST_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that was left out, whatever is wrong with it; `sha256` in hex is what drops.jsonl names it by."""

    sha256: str
    reason: str
    body: bytes


class Pictures:
    """Takes in what is to be looked at, up to so many of a reason and so many bytes in all.

    Args:
        db: the ledger; used in its thread only.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        rows = db.execute("SELECT reason, count(*), sum(length(body)) FROM picture GROUP BY reason").fetchall()
        self._count = {reason: count for reason, count, _ in rows}
        self._bytes = sum(size for *_, size in rows)

    def keep(self, body: bytes, reason: str) -> bytes | None:
        """The picture's sha256 if it is kept, or was already; None if it is no image, or there are enough."""
        digest = sha256(body).digest()
        if self._db.execute("SELECT 1 FROM picture WHERE sha256 = ?", (digest,)).fetchone():
            return digest
        full = self._count.get(reason, 0) >= MOST_OF_A_REASON or self._bytes + len(body) > MOST_BYTES
        if full or sniff(body[:512]) is None:
            return None
        self._db.execute("INSERT INTO picture VALUES (?, ?, ?)", (digest, reason, body))
        self._count[reason] = self._count.get(reason, 0) + 1
        self._bytes += len(body)
        return digest


def pictures(ledger: Path) -> Iterator[Picture]:
    """The pictures in a crawl's ledger, by reason, then by sha256.

    Args:
        ledger: crawl.sqlite of a crawl that is not running.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    # a ledger that was closed is whole, and read without leaving files beside it; after a kill there are some to read
    killed = ledger.with_name(f"{ledger.name}-wal").exists()
    db = sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro{'' if killed else '&immutable=1'}", uri=True)
    try:
        for digest, reason, body in db.execute("SELECT sha256, reason, body FROM picture ORDER BY reason, sha256"):
            yield Picture(digest.hex(), reason, body)
    finally:
        db.close()
