"""Groups that were begun early are those of the samples that are there at the end, or are found anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import numpy as np
import pytest

from crawler import grouping
from shards import duplicates


@pytest.fixture
def ledger() -> Iterator[sqlite3.Connection]:
    """Sixty samples, each third one with the hash of the one before it."""
    hashes = np.random.default_rng(0).integers(0, 256, (60, duplicates.HASH_BITS // 8), np.uint8)
    hashes[2::3] = hashes[1::3]
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE sample (key TEXT PRIMARY KEY, dhash BLOB)")
    db.executemany("INSERT INTO sample VALUES (?, ?)", [(f"{n:020x}", row.tobytes()) for n, row in enumerate(hashes)])
    yield db
    db.close()


def _pairs(found: object) -> int:
    numbers = found.numbers.tolist()  # type: ignore[attr-defined]
    return len(numbers) - len(set(numbers))


def test_what_was_begun_is_used_while_the_samples_are_the_same(ledger: sqlite3.Connection) -> None:
    begun = grouping.begin(ledger)
    assert begun is not None
    assert grouping.groups_of_samples(ledger, begun) == begun.wait
    assert _pairs(begun.wait()) == 20


def test_other_samples_are_grouped_anew(ledger: sqlite3.Connection) -> None:
    begun = grouping.begin(ledger)
    ledger.execute("DELETE FROM sample WHERE key = ?", (f"{2:020x}",))
    found = grouping.groups_of_samples(ledger, begun)()
    assert len(found.keys) == len(found.numbers) == 59
    assert _pairs(found) == 19
    assert (found.of(np.array([f"{2:020x}"], grouping.KEY_TYPE)) == -1).all()


def test_many_are_grouped_when_they_are_asked_for(ledger: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    few = grouping.groups_of_samples(ledger, None)()
    monkeypatch.setattr(grouping, "_FEW", 59)
    assert grouping.begin(ledger) is None
    many = grouping.groups_of_samples(ledger, None)()
    assert (many.keys == few.keys).all()
    assert (many.numbers == few.numbers).all()
