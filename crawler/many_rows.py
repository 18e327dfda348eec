"""Many rows in one statement of SQLite, in a few shapes.

Each statement of Python's sqlite3 gives up the interpreter and has to win it back from the event loop, which costs more
than the statement; `executemany` does so for every row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

__all__ = ["in_chunks"]

# few shapes, so that their statements stay compiled; SQLite takes 32,766 parameters, before 3.32 999
_SHAPES = (256, 64, 16, 4, 1)


def in_chunks(
    db: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Any]], *, row: str = ""
) -> Iterator[tuple[Any, ...]]:
    """Runs `sql` over all rows, and gives what it returns.

    Args:
        db: inside a transaction.
        sql: with `{rows}` where the rows' values stand.
        rows: of equal length.
        row: how one row is written, by default "(?, ?)" with as many marks as it has values.
    """
    row = row or f"({', '.join('?' * len(rows[0]))})" if rows else ""
    at = 0
    for shape in _SHAPES:
        if len(rows) - at < shape:
            continue
        statement = sql.format(rows=", ".join([row] * shape))
        while len(rows) - at >= shape:
            yield from db.execute(statement, tuple(chain.from_iterable(rows[at : at + shape]))).fetchall()
            at += shape
