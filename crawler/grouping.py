"""The groups of near-duplicates of a crawl's samples, found while something else is done with the ledger.

When the last image is examined a core has nothing more to do; verdicts, amended shards and index rows are the other's.
Of many samples the groups wait for that to be over: finding them takes memory that should be free again by then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crawler.thumbnails import KEY_HEX_DIGITS
from crawler.verdicts import as_rows
from shards import duplicates
from shards.files import give_back_memory
from shards.index import KeyGroups

__all__ = ["KEY_TYPE", "Begun", "begin", "groups_of_samples"]

KEY_TYPE = f"S{KEY_HEX_DIGITS}"
_FEW = 20_000


class Begun(NamedTuple):
    """Groups that are being found in a thread: the samples' keys in order, and the group of each."""

    keys: NDArray[np.bytes_]
    numbers: Future[NDArray[np.int64]]

    def wait(self) -> KeyGroups:
        """The groups, once they are there."""
        return KeyGroups(self.keys, self.numbers.result())


def begin(db: sqlite3.Connection) -> Begun | None:
    """Begins to find the groups of the samples that the ledger has now; None where they are many."""
    if _count(db) > _FEW:
        return None
    keys = _keys(db)
    given = [_hashes(db, len(keys))]
    with_it = ThreadPoolExecutor(1, "group")
    numbers = with_it.submit(duplicates.groups, given.pop())
    with_it.shutdown(wait=False)
    return Begun(keys, numbers)


def groups_of_samples(db: sqlite3.Connection, begun: Begun | None) -> Callable[[], KeyGroups]:
    """The groups of the samples that the ledger has now, to be called when they are needed.

    Args:
        begun: what `begin` gave, of use if the samples are still the same.
    """
    if begun is not None and np.array_equal(_keys(db), begun.keys):
        return begun.wait
    if (begun := begin(db)) is not None:
        return begun.wait
    db.execute("PRAGMA shrink_memory")
    give_back_memory()  # and what fetching took
    keys = _keys(db)
    given = [_hashes(db, len(keys))]
    found = KeyGroups(keys, duplicates.groups(given.pop()))
    give_back_memory()
    return lambda: found


def _count(db: sqlite3.Connection) -> int:
    count: int = db.execute("SELECT count(*) FROM sample").fetchone()[0]
    return count


def _keys(db: sqlite3.Connection) -> NDArray[np.bytes_]:
    return np.fromiter((row[0] for row in db.execute("SELECT key FROM sample ORDER BY key")), KEY_TYPE, _count(db))


def _hashes(db: sqlite3.Connection, count: int) -> NDArray[np.uint8]:
    return as_rows((row[0] for row in db.execute("SELECT dhash FROM sample ORDER BY key")), count)
