"""The run: explore the categories, collect their thumbnails, settle the set. Run it again to go on where it ended."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from crawler.collect import Collection
from crawler.crawl_errors import NothingFound, OtherSite
from crawler.explore import explore
from crawler.fetch import Fetcher
from crawler.frontier import Frontier
from crawler.garbage import seldom_searched
from crawler.guard import Guard
from crawler.limits import Limits
from crawler.list_source import load_list
from crawler.outcomes import outcomes, write_drops
from crawler.overlaps import overlaps
from crawler.quota import release
from crawler.refresh import Vanished, carry_over, changes, to_reopen
from crawler.report import COSTS, DROPS_NAME, CrawlReport, CrawlStats
from crawler.site import Site
from crawler.traffic import OnEvent, Traffic
from crawler.url_list import digest
from crawler.verdicts import decide
from crawler.watch import Watch
from shards.writer import MAX_SAMPLES

if TYPE_CHECKING:
    from crawler.grouping import Begun

__all__ = ["OnProgress", "crawl", "run"]

OnProgress = Callable[[CrawlStats], None]


async def crawl(
    site: Site,
    out: Path,
    *,
    limits: Limits | None = None,
    on_progress: OnProgress | None = None,
    on_event: OnEvent | None = None,
    stop: asyncio.Event | None = None,
    shard_samples: int = MAX_SAMPLES,
    refresh: bool = False,
    vanished: Vanished = "keep",
) -> CrawlReport:
    """Crawls a site into a shard set in `out`, or goes on with the crawl that is there.

    Args:
        site: the site file.
        out: a new or empty folder, or that of an unfinished or finished crawl by the same site file.
        limits: instead of the site file's own.
        on_progress: called five times a second and once at the end.
        on_event: told of every request, retry, park, and refused page or image.
        stop: set it to end early; what is in flight is given up, everything done is kept.
        shard_samples: samples a shard.
        refresh: of a finished crawl, walk the site anew: new and changed products are taken in, of known images it is
            asked whether they have changed. One that was interrupted goes on, with or without this.
        vanished: what a refresh does with samples of products that the site lists no more.

    Raises:
        FolderUnusable: `out` cannot be made or written to.
        NotACrawl, OtherSite, CrawlBusy: `out` is not this crawl's folder.
        NothingFound: the site gave no category with a label, or no image.
        LedgerFailed: the disk is full or failing.
    """
    settings = (limits or site.limits, on_progress or (lambda stats: None), on_event, shard_samples)
    return await _Crawl(site, out, *settings, vanished if refresh else None).run(stop)


def run(
    site: Site,
    out: Path,
    *,
    limits: Limits | None = None,
    on_progress: OnProgress | None = None,
    on_event: OnEvent | None = None,
    on_signal: Callable[[int], None] | None = None,
    shard_samples: int = MAX_SAMPLES,
    refresh: bool = False,
    vanished: Vanished = "keep",
) -> CrawlReport:
    """`crawl` for callers without an event loop. SIGINT and SIGTERM end it early: `finished` is then False.

    Args:
        on_signal: told of each such signal, with how many there have been.
    """

    async def interruptible() -> CrawlReport:
        stop = asyncio.Event()
        signals = 0

        def signalled() -> None:
            nonlocal signals
            signals += 1
            stop.set()
            if on_signal is not None:
                on_signal(signals)

        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, signalled)
        return await crawl(
            site,
            out,
            limits=limits,
            on_progress=on_progress,
            on_event=on_event,
            stop=stop,
            shard_samples=shard_samples,
            refresh=refresh,
            vanished=vanished,
        )

    with seldom_searched():
        return asyncio.run(interruptible())


class _Crawl:
    def __init__(
        self,
        site: Site,
        out: Path,
        limits: Limits,
        on_progress: OnProgress,
        on_event: OnEvent | None,
        shard_samples: int,
        refresh: Vanished | None,
    ) -> None:
        self._shard_samples, self._refresh = shard_samples, refresh
        self._site, self._out, self._limits, self._on_progress = site, out, limits, on_progress
        self._stats = CrawlStats()
        self._traffic = Traffic(on_event)
        self._time_s: dict[str, float] = {}
        self._done_before = 0
        self._spent_before: dict[str, float] | None = None
        self._started = monotonic()
        self._work: asyncio.Task[None] | None = None
        self._begun: Begun | None = None

    async def run(self, stop: asyncio.Event | None) -> CrawlReport:
        self._frontier = Frontier(
            self._out,
            shard_samples=self._shard_samples,
            on_failure=self._cancel,
            on_refused=lambda url, refused: self._traffic.refused("image", url, refused),
            quota=self._site.labels.quota_of,
        )
        try:
            await self._refuse_other_site()
            more = await self._list_has_changed()
            if await self._frontier.meta("stage") == "done":
                if self._refresh:
                    await self._frontier.begin_refresh(self._refresh)
                elif not await self._frontier.reopen_failed() and not more:
                    return await self._report(already_finished=True)
            else:
                await self._frontier.reopen_failed()
            await self._count()
            self._watch = Watch(self._stats, self._traffic, self._frontier, self._done_before, self._on_progress)
            ticker = asyncio.create_task(self._watch.run())
            self._work = asyncio.create_task(self._stages())
            try:
                await self._until_done_or(stop)
            finally:
                ticker.cancel()
            if self._frontier.failure:
                raise self._frontier.failure
            report = await self._report()
            self._watch.tell()
            return report
        finally:
            await self._frontier.close()

    async def _until_done_or(self, stop: asyncio.Event | None) -> None:
        assert self._work
        stopped = asyncio.create_task((stop or asyncio.Event()).wait())
        try:
            await asyncio.wait({self._work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            self._work.cancel()
        with suppress(asyncio.CancelledError):
            try:
                await self._work
            except BaseExceptionGroup as group:  # of the collecting tasks; the first tells what happened
                raise _first(group) from None

    async def _stages(self) -> None:
        fetcher = Fetcher(
            self._limits,
            Guard(self._site.site.allow_private, self._site.ports),
            agent=self._site.site.agent,
            user_agent=self._site.site.user_agent,
            allowed=self._site.allows,
            parked=await self._frontier.parked(),
            on_park=lambda host, seconds: self._frontier.park(host, time() + seconds),
            robots=await self._frontier.robots(),
            on_robots=lambda origin, text, seconds: self._frontier.keep_robots(origin, text, time() + seconds),
            traffic=self._traffic,
        )
        self._watch.fetcher = fetcher
        async with fetcher:
            labels_text = await self._frontier.meta("labels")
            if self._site.url_list is not None:
                labels = await self._timed("load", load_list(self._site, self._frontier, self._stats))
            elif labels_text is None:
                found = await self._timed("explore", explore(self._site, fetcher, self._frontier, self._stats))
                known = json.loads(await self._frontier.meta("labels_before") or "[]")
                labels = list(dict.fromkeys((*known, *found)))
                await self._frontier.set_labels(labels)
            else:
                labels = json.loads(labels_text)
            await self._timed("collect", self._collect(fetcher))
        await self._timed("settle", self._settle(labels))

    async def _collect(self, fetcher: Fetcher) -> None:
        """In rounds: what quotas held back is fetched once it is known to be needed; mostly there is one."""
        today = datetime.now(UTC).date().isoformat()

        def outstanding(db: sqlite3.Connection) -> int:
            carry_over(db, today)
            return decide(db, self._site) + release(db, self._site.labels.quota_of)

        while True:
            collection = Collection(self._site, self._limits, fetcher, self._frontier, self._stats)
            self._watch.collection = collection
            await collection.run()
            from crawler.grouping import begin  # numpy, which `collection` has brought by now

            if not self._site.drop.near_duplicates:  # those are groups too, and change which samples there are
                self._begun = await self._frontier.call(begin)
            more = await self._frontier.call(outstanding)
            await self._frontier.flush()
            if not more:
                return
            self._stats.images = (await self._frontier.counts())["images"]

    async def _settle(self, labels: list[str]) -> None:
        await self._frontier.seal()
        if not await self._frontier.call(_kept):
            await self._frontier.call(lambda db: write_drops(db, self._out))
            raise NothingFound(self._site.site.name, f"not one image was kept; {DROPS_NAME} says why")
        spent = await self._spent()
        self._stats.refresh = await self._frontier.call(changes)

        from crawler.settle import settle

        def on_step(step: str) -> None:
            self._stats.step = step

        await self._frontier.in_thread(
            lambda db, shelf: settle(db, shelf, self._site, labels, spent, on_step, self._begun)
        )
        self._stats.stage = "done"

    async def _timed(self, stage: str, work: Any) -> Any:
        self._stats.stage = stage
        self._traffic.event("stage", stage=stage)
        began = monotonic()
        try:
            return await work
        finally:
            self._time_s[stage] = monotonic() - began

    def _cancel(self) -> None:
        if self._work is not None:
            self._work.cancel()

    async def _refuse_other_site(self) -> None:
        site = self._site.identity()
        known = await self._frontier.meta("site")
        if known is None:
            await self._frontier.set_meta({"site": json.dumps(site), "site_digest": self._site.digest})
            await self._frontier.flush()
        elif (before := json.loads(known)) != site:
            raise OtherSite(self._out, ", ".join(f"[{table}]" for table in site if site[table] != before.get(table)))

    async def _list_has_changed(self) -> bool:
        table, frontier = self._site.url_list, self._frontier
        if table is None or await frontier.meta("list_digest") == await asyncio.to_thread(digest, Path(table.path)):
            return False
        await frontier.call(lambda db: db.execute("DELETE FROM meta WHERE key = 'stage'"))
        return True

    async def _count(self) -> None:
        """Of a crawl that goes on: what earlier runs did."""
        counts = await self._frontier.counts()
        stats = self._stats
        stats.categories, stats.products = counts["explored"], counts["products"]
        stats.images, stats.images_done = counts["images"], counts["images_done"]
        self._done_before, self._frontier.kept = counts["images_done"], counts["samples"]

    async def _spent(self) -> dict[str, Any]:
        """This run's cost and that of the runs before it."""
        if self._spent_before is None:  # once: settling writes down what was spent until then
            self._spent_before = json.loads(await self._frontier.meta("spent") or "{}")
        before = self._spent_before
        own = {
            "pages": self._stats.pages,
            "requests": self._traffic.requests,
            "bytes": self._traffic.bytes,
            "seconds": round(monotonic() - self._started, 3),
        }
        return {key: before.get(key, 0) + value for key, value in own.items()}

    async def _report(self, *, already_finished: bool = False) -> CrawlReport:
        frontier = self._frontier
        finished = await frontier.meta("stage") == "done"
        if already_finished:
            spent = dict.fromkeys(COSTS, 0) | json.loads(await frontier.meta("spent") or "{}")
        else:
            spent = await self._spent()
        if not already_finished:
            await frontier.set_meta({"spent": json.dumps(spent)})
        counted = await frontier.call(outcomes)
        counts = await frontier.counts()
        labels = await frontier.call(
            lambda db: dict(
                db.execute(
                    "SELECT product.label, count(*) FROM product WHERE outcome = 'kept' GROUP BY 1 ORDER BY 2 DESC, 1"
                ).fetchall()
            )
        )
        return CrawlReport(
            folder=self._out,
            site=self._site.site.name,
            finished=finished,
            already_finished=already_finished,
            products=counts["products"],
            kept=counts["samples"],
            dropped=counted["dropped"],
            failed=counted["failed"],
            labels=labels,
            groups=int(await frontier.meta("groups") or 0),
            categories=counts["explored"],
            pages=spent["pages"],
            images=counts["images"],
            answered=counts["images_done"] - self._done_before,
            requests=spent["requests"],
            bytes=spent["bytes"],
            seconds=spent["seconds"],
            time_s={stage: round(seconds, 3) for stage, seconds in self._time_s.items()},
            problems=await frontier.problems(),
            failed_pages=(await frontier.call(to_reopen))[1] if finished else 0,
            label_conflicts=await frontier.call(lambda db: overlaps(db, self._site)) if finished else [],
            problem_classes=dict(self._traffic.problems),
            by_host=self._traffic.by_host(),
            unchanged=frontier.unchanged,
            refresh=await frontier.call(changes) if finished else None,
        )


def _kept(db: sqlite3.Connection) -> int:
    count: int = db.execute("SELECT count(*) FROM product WHERE outcome = 'kept'").fetchone()[0]
    return count


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
