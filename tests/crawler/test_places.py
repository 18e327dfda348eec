"""A page put into the ledger at once says what its products say one by one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib import resources
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.extract import Item
from crawler.labels import Decision
from crawler.listing import Listed
from crawler.many_rows import in_chunks
from crawler.places import Place, put, put_page

_SCHEMA = (resources.files("crawler") / "ledger.sql").read_text(encoding="utf-8")
_TOLD = """
SELECT product.url, product.label, category, page, position, depth, listing_url, maker, title, row, outcome,
       product.detail, image.url, image.done, image.generation
FROM product LEFT JOIN image ON image.id = product.image ORDER BY 1
"""
_IMAGES = "SELECT url, host, done, reason, generation FROM image ORDER BY 1"
_LABELS = "SELECT product.url, product_label.label, product_label.depth FROM product_label JOIN product ON id = product"

_entries = st.builds(
    lambda product, image, label, dropped, place, hold, row: (
        Listed(
            Item(
                f"http://shop.example/{product}",
                None if image is None else f"http://shop.example/i/{image}",
                f"maker {product}",
                "title",
                "",
            ),
            Decision(label, 0),
            dropped,
        ),
        Place(place, place, 1, product, f"http://shop.example/c/{place}"),
        hold,
        row,
    ),
    st.integers(0, 90),
    st.none() | st.integers(0, 60),
    st.sampled_from(["bass", "guitar", None]),
    st.sampled_from([None, None, None, "a rule"]),
    st.integers(1, 2),
    st.booleans(),
    st.sampled_from([None, '{"a": 1}']),
)


def _ledger() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(_SCHEMA)
    return db


def _state(db: sqlite3.Connection) -> list[Any]:
    return [db.execute(query).fetchall() for query in (_TOLD, _IMAGES)] + [sorted(db.execute(_LABELS).fetchall())]


@settings(max_examples=60)
@given(st.lists(st.lists(_entries, max_size=90), max_size=3), st.integers(0, 1))
def test_a_page_at_once_is_its_products_one_by_one(pages, generation):
    with closing(_ledger()) as at_once, closing(_ledger()) as one_by_one:
        for page in pages:
            added = put_page(at_once, page, generation=generation)
            each = [
                put(one_by_one, listed, place, row, generation=generation, hold=hold)
                for listed, place, hold, row in page
            ]
            assert added == (sum(new for new, _ in each), sum(image for _, image in each))
        assert _state(at_once) == _state(one_by_one)


@given(st.integers(0, 200))
def test_rows_come_back_whatever_their_number(count):
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.execute("CREATE TABLE number (n INTEGER PRIMARY KEY)")
        sql = "INSERT INTO number VALUES {rows} RETURNING n"
        assert [n for (n,) in in_chunks(db, sql, [(n,) for n in range(count)])] == list(range(count))
