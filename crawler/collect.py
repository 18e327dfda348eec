"""Stages two and three together: result pages are walked while the thumbnails they show are fetched.

A host has a lane of its own with its own workers, so a slow host waits alone. What a worker fetches goes one way: to
the examiners, and from them to the ledger; nothing comes back to the event loop, which only fetches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module

from crawler import extract
from crawler.crawl_errors import Refused
from crawler.examiners import Examiners
from crawler.fetch import Fetcher, Reply
from crawler.frontier import Category, Frontier, Job, Result, Unchanged
from crawler.limits import Limits
from crawler.listing import judged
from crawler.provenance import Told
from crawler.report import CrawlStats
from crawler.robots import page_refuses_images, refuses_images
from crawler.site import Site
from crawler.thumbnails import Outcome, Picture
from crawler.urls import netloc_of

__all__ = ["Collection"]

_WALKERS = 8
_LEASED, _LEASED_IN_ALL = 256, 32_768  # jobs held in memory, of one host and of all
_WORKERS = 256  # over all hosts; where there are more hosts, each has one, and more as it answers
_OPENING_S = 1.0  # that a host not heard of yet may keep the next one from being begun on
_ON_THE_WAY, _ON_THE_WAY_BYTES = 1024, 64 << 20  # fetched and not yet in the ledger, at most
_HANDED, _HANDED_BYTES, _HANDED_S = 32, 1 << 20, 0.02  # handed to the examiners at a time, or after so long
_MANY, _MANY_LISTINGS = 256, 8  # images, or categories to be walked, that are worth a process to examine them


class Collection:
    """The collecting part of one crawl.

    Args:
        site, limits, fetcher, frontier: of the crawl.
        stats: updated in place.
    """

    def __init__(self, site: Site, limits: Limits, fetcher: Fetcher, frontier: Frontier, stats: CrawlStats) -> None:
        self._site, self._limits, self._fetcher, self._frontier, self._stats = site, limits, fetcher, frontier, stats
        self._lanes: dict[str, _Lane] = {}
        self._paths: dict[int, tuple[str, ...]] = {}
        self._examiners: Examiners[tuple[Job, Told]] = Examiners(site.drop, self._examined)
        self._posted = self._posted_bytes = 0
        self._fetched: list[tuple[tuple[Job, Told], Picture]] = []
        self._fetched_bytes = 0
        self._handing: asyncio.TimerHandle | None = None
        self._group = asyncio.TaskGroup()
        self._unopened: asyncio.Queue[_Lane | None] = asyncio.Queue()
        self._opening = asyncio.Semaphore(limits.concurrency)
        self._workers = 0
        self.listings_left = 0

    @property
    def on_the_way(self) -> int:
        """Answers that are fetched and not in the ledger yet."""
        return self._posted - self._frontier.taken

    async def run(self) -> None:
        """Walks and fetches until nothing is left; everything is durable when it returns."""
        categories = [category for category in await self._frontier.categories() if category.label is not None]
        self._paths = {category.id: category.path for category in categories}
        waiting: dict[str, deque[Category]] = {}  # by host: one that hangs keeps its own walkers only
        for category in categories:
            if category.next_page is not None:
                waiting.setdefault(netloc_of(category.next_page), deque()).append(category)
        self.listings_left = sum(map(len, waiting.values()))
        if self.listings_left >= _MANY_LISTINGS:
            self._examiners.expect_many()
        try:
            async with self._group:
                self._group.create_task(self._open())
                for host in await self._frontier.hosts():
                    self._lane(host)
                async with asyncio.TaskGroup() as walkers:
                    for queue in waiting.values():
                        for _ in range(min(_WALKERS, len(queue))):
                            walkers.create_task(self._walk(queue))
                for lane in self._lanes.values():
                    lane.complete()
                self._unopened.put_nowait(None)
        except BaseException:
            if self._handing is not None:
                self._handing.cancel()
            await asyncio.to_thread(self._examiners.close, cancel=True)
            raise
        # what was fetched last is still being examined: wait for it, and only then is everything in the ledger
        self._hand_over()
        examined = asyncio.create_task(asyncio.to_thread(self._examiners.close))
        await asyncio.to_thread(import_module, "crawler.settle")  # numpy's 0.1 s, which are free here
        await examined
        await self._frontier.flush()

    # -- result pages --

    async def _walk(self, waiting: deque[Category]) -> None:
        while waiting:
            category: Category | None = waiting.popleft()
            seen: set[int] = set()
            while category is not None:
                category = await self._page(category, seen)
            self.listings_left -= 1

    async def _page(self, category: Category, seen: set[int]) -> Category | None:
        """Reads one result page; returns the category with its next one.

        Args:
            seen: hashes of the addresses of this category's pages, and of what they showed; this page's are added.
        """
        assert category.next_page is not None
        listing, url = self._site.listing, category.next_page
        # a title may give a product another label than its category's: then every page is needed
        if not self._site.labels.by_title and await self._frontier.enough(category):
            return None
        try:
            reply = await self._fetcher.page(url)
        except Refused as refused:
            # what failed is tried again by the next run; what was refused is not
            again = url if refused.failed else None
            await self._frontier.add_page(
                category, (), listing_url=url, next_page=again, problem=f"{url}: {refused}", failed=refused.failed
            )
            return None
        self._stats.pages += 1
        tree = extract.parse(reply.body, reply.url, reply.headers.get("Content-Type", ""))
        items = extract.items(tree, listing)
        if category.page == 1 and (path := extract.breadcrumb(tree, listing)):
            category = replace(category, path=path)
            self._paths[category.id] = path
        # False where only a breadcrumb might have told a label, and has not
        labelled = self._site.labels.by_title or self._site.label_of(category.path, category.url) is not None
        shown = hash(frozenset(item.url for item in items))
        following, problem = None, None
        # Past the end some shops show nothing, some a page that was there before; both end the walk.
        if items and shown not in seen and labelled:
            if category.page >= listing.max_pages:
                problem = f"{url}: stopped after {category.page} pages ([listing] max_pages)"
            elif listing.page:
                following = extract.page_number(category.url, listing.page, category.page + 1)
            elif listing.next:
                following = extract.next_page(tree, listing.next)
                if following is not None and hash(following) in seen | {hash(url), hash(reply.url)}:
                    following = None  # in a circle
        seen |= {shown, hash(url), hash(reply.url)}
        products = judged(self._site, items, category.path, category.url) if labelled else []
        tags = reply.headers.getall("X-Robots-Tag", ())
        if word := page_refuses_images(tree.root, tags, self._site.site.agent):
            products = [listed._replace(dropped=listed.dropped or f"the page {url} says {word}") for listed in products]
        added, images = await self._frontier.add_page(
            category, products, listing_url=url, next_page=following, problem=problem
        )
        self._stats.products += added
        self._stats.images += images
        if self._stats.images - self._stats.images_done >= _MANY:
            self._examiners.expect_many()
        for host in {netloc_of(shown.item.image) for shown in products if shown.usable and shown.item.image}:
            self._lane(host).wake.set()
        return None if following is None else category.turned_to(following)

    # -- thumbnails --

    def _lane(self, host: str) -> _Lane:
        lane = self._lanes.get(host)
        if lane is None:
            lane = self._lanes[host] = _Lane(host, self._frontier)
            self._unopened.put_nowait(lane)
        return lane

    async def _open(self) -> None:
        """Begins on hosts, as many at a time as may be asked at a time: of 10,000 most need not wait in memory."""
        loop = asyncio.get_running_loop()
        while (lane := await self._unopened.get()) is not None:
            await self._opening.acquire()
            lane.opening = loop.call_later(_OPENING_S, self._opened, lane)
            self._begin_work(lane)

    def _opened(self, lane: _Lane) -> None:
        """A host has been heard of, or has had its time: the next may be begun on."""
        if lane.opening is not None:
            lane.opening.cancel()
            lane.opening = None
            self._opening.release()

    def _begin_work(self, lane: _Lane) -> None:
        lane.workers += 1
        self._workers += 1
        self._group.create_task(self._work(lane))

    def _needs_more(self, lane: _Lane) -> bool:
        if not lane.waiting or lane.workers >= min(self._limits.per_host, self._limits.concurrency):
            return False
        return self._workers < _WORKERS or lane.workers <= self._fetcher.budget(lane.host).window

    async def _work(self, lane: _Lane) -> None:
        while (job := await lane.next(max(1, min(_LEASED, _LEASED_IN_ALL // len(self._lanes))))) is not None:
            if self._needs_more(lane):
                self._begin_work(lane)
            await self._fetch(job)
            if lane.opening is not None:
                self._opened(lane)
        lane.workers -= 1
        self._workers -= 1
        self._opened(lane)

    async def _fetch(self, job: Job) -> None:
        try:
            reply = await self._fetcher.image(job.url, etag=job.etag, last_modified=job.last_modified)
            tags = reply.headers.getall("X-Robots-Tag", ())
            if tags and (word := refuses_images(tags, self._site.site.agent)):
                raise Refused("x-robots-tag", word)
        except Refused as refused:
            self._post(Result(job, refused, None, 0))
            return
        if reply.unchanged:
            self._post(Result(job, Unchanged(), None, 0))
            return
        size = len(reply.body)
        self._posted += 1
        self._posted_bytes += size
        told = self._told(job, reply)
        self._fetched.append(((job, told), (reply.body, reply.headers.get("Content-Type", ""), told)))
        self._fetched_bytes += size
        if len(self._fetched) >= _HANDED or self._fetched_bytes >= _HANDED_BYTES:
            self._hand_over()
        elif self._handing is None:
            self._handing = asyncio.get_running_loop().call_later(_HANDED_S, self._hand_over)
        # Polled, because nothing may come back from the threads for each image; it is the exception, not the rule
        while self._crowded():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def _hand_over(self) -> None:
        if self._handing is not None:
            self._handing.cancel()
            self._handing = None
        if self._fetched:
            self._examiners.submit(self._fetched)
            self._fetched, self._fetched_bytes = [], 0

    def _crowded(self) -> bool:
        frontier = self._frontier
        return (
            self._posted - frontier.taken > _ON_THE_WAY or self._posted_bytes - frontier.taken_bytes > _ON_THE_WAY_BYTES
        )

    def _post(self, result: Result) -> None:
        self._posted += 1
        self._frontier.post([result])

    def _told(self, job: Job, reply: Reply) -> Told:
        headers = reply.headers
        return Told(
            number=self._frontier.label_number(job.label),
            label=job.label,
            label_path=self._paths[job.category],
            image_url=job.url,
            final_url=reply.url,
            listing_url=job.listing_url,
            product_url=job.product_url,
            maker=job.maker,
            title=job.title,
            row=job.row,
            fetched_at=datetime.now(UTC).isoformat(timespec="seconds"),
            etag=headers.get("ETag"),
            last_modified=headers.get("Last-Modified"),
            site=self._site.site.name,
            site_version=self._site.site.version,
        )

    def _examined(self, found: list[tuple[tuple[Job, Told], Picture, Outcome]]) -> None:
        """In an examiner's thread: from what was found to what the ledger takes."""
        self._frontier.post(
            [
                Result(job, outcome, told, len(body), picture=body if isinstance(outcome, Refused) else None)
                for (job, told), (body, *_), outcome in found
            ]
        )


class _Lane:
    """One host's queue: a few hundred jobs in memory, the rest in the ledger."""

    def __init__(self, host: str, frontier: Frontier) -> None:
        self.host = host
        self.wake = asyncio.Event()
        self.workers = 0
        self.opening: asyncio.TimerHandle | None = None
        self._frontier = frontier
        self._jobs: deque[Job] = deque()
        self._after = 0
        self._complete = False
        self._refill = asyncio.Lock()

    def complete(self) -> None:
        """No more jobs will be added to the ledger: what is there is all there is."""
        self._complete = True
        self.wake.set()

    @property
    def waiting(self) -> int:
        """Jobs held in memory that no worker has."""
        return len(self._jobs)

    async def next(self, most: int) -> Job | None:
        """The next job, once there is one; None when there are no more. Holds `most` in memory."""
        while not self._jobs:
            async with self._refill:
                if self._jobs:
                    break
                complete = self._complete  # read before the ledger is asked, or a late job could be missed
                self.wake.clear()
                found = await self._frontier.lease(self.host, self._after, most)
                if found:
                    self._after = found[-1].image
                    self._jobs.extend(found)
                elif complete:
                    return None
                elif not self._complete:
                    await self.wake.wait()
        return self._jobs.popleft()
