"""Stage one of a crawl that has a list instead of pages: its rows into the ledger, batch by batch."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from crawler.crawl_errors import NothingFound
from crawler.extract import Item
from crawler.frontier import Frontier
from crawler.listing import Listed
from crawler.report import CrawlStats
from crawler.site import Decision, Site
from crawler.url_list import Row, Rows, digest, read

__all__ = ["load_list"]


async def load_list(site: Site, frontier: Frontier, stats: CrawlStats) -> list[str]:
    """Adds the rows of a list that the ledger does not know yet; returns the labels by number.

    Labels that were numbered before keep their numbers; new ones follow, in the order of their names, or of their
    values where all are integers.

    Raises:
        ConfigError: the list cannot be read.
        NothingFound: no row has an address.
    """
    assert site.url_list is not None
    path = Path(site.url_list.path)
    known = json.loads(await frontier.meta("labels") or "[]")
    content = await asyncio.to_thread(digest, path)
    if await frontier.meta("list_digest") == content:
        return known  # type: ignore[no-any-return]
    found = Rows()
    batches = read(site.url_list, found)
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        rows = [(_listed(site, row), json.dumps(row.other, ensure_ascii=False) if row.other else None) for row in batch]
        products, images = await frontier.add_rows(rows, path.name)
        stats.products += products
        stats.images += images
    labels = [*known, *_in_order(found.labels - set(known))]
    if not labels:
        raise NothingFound(site.site.name, f"{path}: no row has an address{_said(found)}")
    await frontier.set_labels(labels)
    problems = {f"{path.name}, {where}": problem for where, problem in found.examples.items()}
    if found.bad:
        problems[path.name] = f"{found.bad:,} of {found.rows:,} rows passed over{_said(found)}"
    # last: a list that was not read to its end is read again
    await frontier.set_meta({"list_problems": json.dumps(problems), "list_digest": content})
    await frontier.flush()
    return labels


def _listed(site: Site, row: Row) -> Listed:
    title = row.other.get("title") or row.other.get("caption")
    item = Item(row.url, row.url, "", " ".join(title.split())[:500] if isinstance(title, str) else "", "")
    dropped = site.drop.rule(image=item.image, title=item.title, product="", price="")
    return Listed(item, Decision(row.label), dropped)


def _in_order(labels: set[str]) -> list[str]:
    if all(label.isascii() and label.removeprefix("-").isdigit() for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)


def _said(found: Rows) -> str:
    return "".join(f"; {where}: {problem}" for where, problem in list(found.examples.items())[:1])
