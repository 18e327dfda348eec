"""The ledger as a file: another version's is told from ours, and looking into it leaves nothing behind."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from crawler.crawl import crawl
from crawler.crawl_errors import OtherLedger
from crawler.frontier import LEDGER_NAME, Frontier
from crawler.pictures import pictures
from crawler.site import load_site

SITE = load_site("embedded")


@pytest.mark.parametrize("version", [0, 1, 2, 2**31 - 1])
async def test_a_ledger_of_another_version_is_refused_in_one_line_and_left_alone(tmp_path, version):
    await Frontier(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / LEDGER_NAME)) as db:
        db.execute("ALTER TABLE image DROP COLUMN fetched_at")
        db.execute(f"PRAGMA user_version = {version}")
        before = db.execute("SELECT sql FROM sqlite_master").fetchall()
    with pytest.raises(OtherLedger, match=r"^[^\n]*written by another version of Bassline; crawl into a new folder$"):
        await crawl(SITE, tmp_path)
    with closing(sqlite3.connect(tmp_path / LEDGER_NAME)) as db:
        assert db.execute("SELECT sql FROM sqlite_master").fetchall() == before


async def test_one_with_the_index_of_before_is_read(tmp_path):
    await Frontier(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / LEDGER_NAME)) as db:
        db.execute("CREATE INDEX image_same ON image (sha256) WHERE sha256 IS NOT NULL")
        db.execute("PRAGMA user_version = 1223636207")
        db.commit()
    await Frontier(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / LEDGER_NAME)) as db:
        assert db.execute("SELECT 1 FROM sqlite_master WHERE name = 'image_same'").fetchall() == []


async def test_our_own_is_opened_again(tmp_path):
    for _ in range(2):
        await Frontier(tmp_path).close()


async def test_looking_at_the_pictures_of_a_closed_ledger_leaves_no_files(tmp_path):
    await Frontier(tmp_path).close()
    before = sorted(path.name for path in tmp_path.iterdir())
    assert list(pictures(tmp_path / LEDGER_NAME)) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_what_a_kill_left_beside_the_ledger_is_read_too(tmp_path):
    ledger = tmp_path / LEDGER_NAME
    with closing(sqlite3.connect(ledger, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = wal")
        db.execute("CREATE TABLE picture (sha256 BLOB PRIMARY KEY, reason TEXT NOT NULL, body BLOB NOT NULL)")
        db.execute("INSERT INTO picture VALUES (?, 'broken', ?)", (bytes(32), b"x"))
        assert [(found.reason, found.body) for found in pictures(ledger)] == [("broken", b"x")]
