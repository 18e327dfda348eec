"""Stage one: from the start pages down the category tree, a level at a time, so that paths do not depend on timing."""

from __future__ import annotations

import asyncio

from crawler import extract
from crawler.crawl_errors import NothingFound, Refused
from crawler.extract import Link
from crawler.fetch import Fetcher
from crawler.frontier import Category, Frontier
from crawler.refresh import explore_again
from crawler.report import CrawlStats
from crawler.site import Site
from crawler.urls import absolute

__all__ = ["explore", "first_page"]

_BEGUN = "SELECT 1 FROM category WHERE depth = 0 AND explored = 1 LIMIT 1"
_CHUNK = 64  # category pages between two commits: what a kill costs at most


async def explore(site: Site, fetcher: Fetcher, frontier: Frontier, stats: CrawlStats) -> list[str]:
    """Explores every category that the site file's [follow] leads to; returns the labels by number.

    A category reached by two paths has the one found first: the shorter, then the one that stands higher.

    Raises:
        NothingFound: no start page could be read, or no category has a label.
    """
    await frontier.call(explore_again)  # where an earlier run found nothing, pages that failed may be why
    starts = [(url, 0, (), site.listed_as((), url), first_page(site, url)) for url in _starts(site)]
    await frontier.add_categories(starts, ())
    while chunk := (await frontier.categories(unexplored=True, limit=_CHUNK)):
        chunk = [category for category in chunk if category.depth == chunk[0].depth]
        answers = await asyncio.gather(*(_links(site, fetcher, category) for category in chunk))
        found: dict[str, tuple[str, int, tuple[str, ...], str | None, str]] = {}
        for category, answer in zip(chunk, answers, strict=True):
            for link in answer if isinstance(answer, list) else ():
                path = (*category.path, link.text)
                if link.url not in found and category.depth < site.follow.depth and site.follows(link.text, link.url):
                    label = site.listed_as(path, link.url)
                    found[link.url] = (link.url, category.depth + 1, path, label, first_page(site, link.url))
        explored = [
            (category.id, *(("", False) if isinstance(answer, list) else (str(answer), answer.failed)))
            for category, answer in zip(chunk, answers, strict=True)
        ]
        await frontier.add_categories(found.values(), explored, at_most=site.follow.max_categories)
        stats.categories += len(chunk)
    return await _labels(site, frontier)


def first_page(site: Site, category: str) -> str:
    """The address of a category's first result page."""
    return extract.page_number(category, site.listing.page, 1) if site.listing.page else category


async def _links(site: Site, fetcher: Fetcher, category: Category) -> list[Link] | Refused:
    try:
        reply = await fetcher.page(category.url)
    except Refused as refused:
        return refused
    tree = extract.parse(reply.body, reply.url, reply.headers.get("Content-Type", ""))
    return extract.links(tree, site.follow.links, site.follow.text)


async def _labels(site: Site, frontier: Frontier) -> list[str]:
    known = await frontier.categories()
    if not await frontier.call(lambda db: db.execute(_BEGUN).fetchone()):
        problems = await frontier.problems()
        # The ledger forgets them: a shop that was down is asked again by the next run.
        await frontier.call(lambda db: db.execute("DELETE FROM category"))
        await frontier.flush()
        url, problem = next(iter(problems.items()))
        raise NothingFound(
            site.site.name, f"no start page could be read: {url}: {problem}; run it again once it answers"
        )
    labels = {category.label for category in known if category.label is not None}
    if not labels:
        raise NothingFound(
            site.site.name,
            f"none of {len(known)} categories has a label; look at [follow] links and [labels]"
            + "".join(f"; found {' / '.join(category.path)!r}" for category in known[1:4]),
        )
    return site.labels.names or sorted(label for label in labels if label)


def _starts(site: Site) -> list[str]:
    return [url for url in (absolute("http://none/", start) for start in site.site.start) if url]
