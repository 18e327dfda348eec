"""Where label rules of different labels met: reported, because the order of the rules or a policy decided there.

A function of the ledger and the site file: nothing is counted while the crawl runs.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

from crawler.report import Overlap
from crawler.site import Decision, Site

__all__ = ["overlaps"]

_CATEGORIES = """
SELECT category.path, category.url, category.label, count(product.id) FROM category
LEFT JOIN product ON product.category = category.id
WHERE category.label IS NOT NULL AND category.depth >= 0 GROUP BY category.id
"""
_PRODUCTS = """
SELECT category.path, category.url, trim(product.maker || ' ' || product.title), product.url
FROM product JOIN category ON category.id = product.category WHERE category.depth >= 0
"""
_SEVERAL = """
SELECT product.url, product.label, product.other_label, json_group_array(product_label.label)
FROM product_label JOIN product ON product.id = product_label.product
GROUP BY product.id HAVING count(*) > 1 ORDER BY product.url
"""


def overlaps(db: sqlite3.Connection, site: Site) -> list[Overlap]:
    """Categories and products that rules of several labels fit, and products found under several labels."""
    found: dict[tuple[str, str | None, tuple[str, ...]], Overlap] = {}
    for kind, label, others, example, products in (*_by_rules(db, site), *_by_place(db)):
        key = (kind, label, others)
        overlap = found.setdefault(key, Overlap(kind, label, others, 0, 0, example))
        overlap.products += products
        overlap.places += 1
    return sorted(found.values(), key=lambda one: (one.kind, -one.products, one.label or "", one.others))


_Met = tuple[str, str | None, tuple[str, ...], str, int]


def _by_rules(db: sqlite3.Connection, site: Site) -> Iterator[_Met]:
    if site.labels.by != "rules":
        return
    if not site.labels.by_title:
        for path, url, _, products in db.execute(_CATEGORIES):
            names = json.loads(path)
            yield from _met(site, site.decide(names, url), " / ".join(names) or url, products)
        return
    for path, url, title, product in db.execute(_PRODUCTS):
        yield from _met(site, site.decide(json.loads(path), url, title), title or product, 1)


def _met(site: Site, decision: Decision, example: str, products: int) -> Iterator[_Met]:
    if decision.also:
        others = tuple(dict.fromkeys(site.labels.rules[number].label for number in decision.also))
        yield "rules", decision.label, others, example, products


def _by_place(db: sqlite3.Connection) -> Iterator[_Met]:
    for url, label, other, labels in db.execute(_SEVERAL):
        names = sorted(json.loads(labels))
        given = None if other is not None else label
        yield "places", given, tuple(name for name in names if name != given), url, 1
