"""The durable queue and ledger: one SQLite file and the growing shard, both in the hands of one thread.

The thread takes calls and results in the order they come. What they change becomes durable together, every 256
samples or second: the part is fsynced first, then one transaction commits sample rows, finished addresses and the
part's length. Whatever the moment of a kill, the next start cuts the part to that length and finds in the queue what
was not committed.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic, time
from typing import Any, NamedTuple, TypeVar
from zlib import crc32

from crawler.crawl_errors import CrawlBusy, FolderUnusable, LedgerFailed, NotACrawl, OtherLedger, Refused
from crawler.listing import Listed
from crawler.many_rows import in_chunks
from crawler.pictures import Pictures
from crawler.places import NOW_TOLD, PLACE, Entry, Place, put_page, told
from crawler.provenance import Told
from crawler.quota import promising_before, with_surplus
from crawler.refresh import Vanished, begin_refresh, reopen, to_reopen
from crawler.robots import KeptRobots
from crawler.shelf import Shelf, forget_lost, look_for_doomed, remove_leftovers
from crawler.thumbnails import Thumbnail
from shards.files import fsync_folder
from shards.known_rows import PACKED
from shards.writer import MAX_SAMPLES, ShardWriter

__all__ = ["LEDGER_NAME", "Category", "Frontier", "Job", "Result", "Unchanged"]

LEDGER_NAME = "crawl.sqlite"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
STAGING_NAME = ".next"  # where shards lie that the manifest does not name yet, once there is a manifest
BATCH_SAMPLES, BATCH_S = 256, 1.0
TAKEN = 256  # results at a time
_WRITTEN = 64  # samples at a time: half a megabyte of thumbnails
_BESIDE_AN_IMAGE = 8192  # bytes in a tar: headers, JSON, blocks that are not full

T = TypeVar("T")
_Call = tuple[Callable[[], Any], "asyncio.Future[Any] | None"]


@dataclass(frozen=True, slots=True)
class Category:
    """A category page; `path` are the names from the start page down, `label` None if it is not to be listed and "" if
    only its products can tell theirs."""

    id: int
    url: str
    depth: int
    path: tuple[str, ...]
    label: str | None
    next_page: str | None
    page: int

    def turned_to(self, next_page: str) -> Category:
        """The category one result page on."""
        return replace(self, next_page=next_page, page=self.page + 1)


class Job(NamedTuple):
    """A thumbnail to fetch, with the first product that shows it.

    A named tuple, as all that is made for each image: a frozen dataclass sets each attribute by a call.

    Attributes:
        told, place: what a sample made of it says it is.
        row: the JSON of what a list says of it.
        etag, last_modified: of the answer that is known, if one is.
    """

    image: int
    url: str
    product_url: str
    label: str
    category: int
    listing_url: str
    maker: str
    title: str
    told: int
    place: str
    row: str | None = None
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The address still has what it had."""


class Result(NamedTuple):
    """What a thumbnail's address gave.

    Attributes:
        job: what was asked for.
        outcome: the image, or why not.
        told: what is known of an image beside its bytes; None if nothing was had.
        size: bytes of the answer.
        picture: the bytes that were refused, where they are an image of some kind.
    """

    job: Job
    outcome: Thumbnail | Refused | Unchanged
    told: Told | None
    size: int
    picture: bytes | None = None


class Frontier:
    """The ledger of one crawl; made inside an event loop, to be closed.

    Its coroutines are done when the thread has done it, which is not yet durable; `flush` makes it so. Results are
    posted by any thread, and are not waited for.

    Args:
        folder: a new or empty one, or that of a crawl to go on with.
        shard_samples: when a shard is full.
        on_failure: called in the event loop when nothing can be written any more; `failure` then says why.
        on_refused: told of each image that will not be had, in the ledger's thread.
        quota: how many samples a label may have; None is no limit.

    Raises:
        FolderUnusable, NotACrawl, OtherLedger, CrawlBusy, LedgerFailed: the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        *,
        shard_samples: int = MAX_SAMPLES,
        on_failure: Callable[[], None] | None = None,
        on_refused: Callable[[str, Refused], None] | None = None,
        quota: Callable[[str], int | None] = lambda label: None,
    ) -> None:
        self.folder = folder
        self._quota = quota
        self._shard_samples = shard_samples
        self.failure: LedgerFailed | None = None
        self.taken = self.taken_bytes = 0  # results handled so far; with those posted, what is still on its way
        self.kept = self.unchanged = 0
        self.dropped: dict[str, int] = {}
        self._on_failure = on_failure or (lambda: None)
        self._on_refused = on_refused or (lambda url, refused: None)
        self._queue: SimpleQueue[list[Result] | _Call | None] = SimpleQueue()
        self._labels: dict[str, int] = {}
        self._samples_in_batch = 0
        self._thread = threading.Thread(target=self._run, name="frontier", daemon=True)
        self._db = self._connect()
        try:
            self._generation = int(self._meta("generation") or 0)
            self._published = self._meta("published") is not None
            self._pictures = Pictures(self._db)
            remove_leftovers(self._db, self.folder, self._staging)
            look_for_doomed(self._db, self.folder, self._staging)
            self._writer = self._reopen_part()
        except (OSError, sqlite3.Error) as error:
            self._db.close()
            raise LedgerFailed(folder, _words(error)) from None
        except BaseException:
            self._db.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def _connect(self) -> sqlite3.Connection:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            usable = os.access(self.folder, os.W_OK | os.X_OK)
        except FileExistsError:
            raise FolderUnusable(self.folder, "it is a file") from None
        except OSError as error:
            raise (LedgerFailed if error.errno in _FULL else FolderUnusable)(self.folder, _words(error)) from None
        if not usable:
            raise FolderUnusable(self.folder, "it may not be written to")
        path = self.folder / LEDGER_NAME
        new = not path.exists()
        if new and any(self.folder.iterdir()):
            raise NotACrawl(self.folder)
        try:
            db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.2)
        except sqlite3.OperationalError as error:
            raise LedgerFailed(self.folder, str(error)) from None
        try:
            # exclusive: one process a crawl, and the WAL's index in memory instead of a shared file
            db.execute("PRAGMA locking_mode = exclusive")
            db.execute("PRAGMA journal_mode = wal")
            db.execute("PRAGMA synchronous = full")
            db.execute("BEGIN IMMEDIATE")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            known = version in (_LEDGER_VERSION, _WITH_AN_INDEX_MORE)
            if not known and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise OtherLedger(self.folder)
            db.execute("DROP INDEX IF EXISTS image_same")
            for statement in _SCHEMA.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_LEDGER_VERSION}")
            db.execute("COMMIT")
            if new:
                fsync_folder(self.folder)
        except sqlite3.OperationalError as error:
            db.close()
            if "locked" in str(error):
                raise CrawlBusy(self.folder) from None
            raise LedgerFailed(self.folder, str(error)) from None
        except sqlite3.DatabaseError:
            db.close()
            raise NotACrawl(self.folder) from None
        except OtherLedger:
            db.close()
            raise
        db.create_function("told", 6, told, deterministic=True)
        return db

    @property
    def _staging(self) -> Path:
        """Where new shards are written: apart from those of a set that is in use."""
        return self.folder / STAGING_NAME if self._published else self.folder

    def _reopen_part(self) -> ShardWriter:
        if not self._staging.exists():
            self._staging.mkdir()
            fsync_folder(self.folder)
        writer = ShardWriter(
            self._staging,
            shard=int(self._meta("shard") or 0),
            committed_bytes=int(self._meta("committed_bytes") or 0),
            samples=int(self._meta("shard_samples") or 0),
            max_samples=self._shard_samples,
        )
        self._labels = {name: number for number, name in enumerate(json.loads(self._meta("labels") or "[]"))}
        self._db.execute("BEGIN")
        self._commit_position(writer)
        self._db.execute("COMMIT")
        return writer

    # -- what the crawl calls --

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` in the thread, inside the open transaction.

        Raises:
            LedgerFailed: the ledger cannot be written any more.
        """
        if self.failure:
            raise self.failure
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put((lambda: work(self._db), future))
        return await future

    def post(self, results: list[Result]) -> None:
        """Hands over what images' addresses gave; from any thread, without waiting. Many at once cost one hand-over."""
        self._queue.put(results)

    async def flush(self) -> None:
        """Makes durable whatever was called and posted before."""
        await self.call(lambda db: self._commit())

    async def meta(self, key: str) -> str | None:
        """A value of the crawl's own, None if it was never set."""
        return await self.call(lambda db: self._meta(key))

    async def set_meta(self, values: Mapping[str, str]) -> None:
        """Sets values of the crawl's own."""
        rows = list(values.items())
        await self.call(lambda db: db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows))

    async def set_labels(self, labels: Sequence[str]) -> None:
        """Numbers the labels; only once, before the first image is posted."""
        await self.set_meta({"labels": json.dumps(list(labels))})
        self._labels = {name: number for number, name in enumerate(labels)}

    def label_number(self, label: str) -> int:
        """The number of a label that `set_labels` was given."""
        return self._labels[label]

    async def categories(self, *, unexplored: bool = False, limit: int = -1) -> list[Category]:
        """Categories by depth, then in the order they were found."""
        query = (
            "SELECT id, url, depth, path, label, iif(held OR explored = 2, NULL, next_page), page FROM category"
            " WHERE explored <= ? ORDER BY depth, id LIMIT ?"
        )
        rows = await self.call(lambda db: db.execute(query, (0 if unexplored else 2, limit)).fetchall())
        return [Category(r[0], r[1], r[2], tuple(json.loads(r[3])), *r[4:]) for r in rows]

    async def add_categories(
        self,
        found: Iterable[tuple[str, int, Sequence[str], str | None, str | None]],
        explored: Sequence[tuple[int, str, bool]],
        *,
        at_most: int | None = None,
    ) -> None:
        """Adds categories not known yet, and marks others as explored: both or neither.

        Args:
            found: url, depth, path, label, address of the first result page.
            explored: id, what went wrong or "", and whether that is the network's or the server's failing.
            at_most: categories that may be known; of those beyond, the first is remembered as a problem.
        """
        new = [(url, depth, json.dumps(list(path)), label, page) for url, depth, path, label, page in found]
        read = [entry for entry in explored if not entry[1]]
        unread = [(problem, failed, id) for id, problem, failed in explored if problem]

        def work(db: sqlite3.Connection) -> None:
            known = db.execute("SELECT count(*) FROM category").fetchone()[0] if at_most is not None else 0
            for row in new:
                if at_most is None or known < at_most:
                    known += db.execute(_NEW_CATEGORY, row).rowcount
                elif db.execute("SELECT 1 FROM category WHERE url = ?", row[:1]).fetchone() is None:
                    db.execute("INSERT OR IGNORE INTO meta VALUES ('first_cut', ?)", (json.dumps([row[0], at_most]),))
                    break
            # what could not be explored is not walked either
            db.executemany("UPDATE category SET explored = 1 WHERE id = ?", [(id,) for id, *_ in read])
            db.executemany("UPDATE category SET explored = 2, problem = ?, failed = ? WHERE id = ?", unread)

        await self.call(work)

    async def add_page(
        self,
        category: Category,
        products: Sequence[Listed],
        *,
        listing_url: str,
        next_page: str | None,
        problem: str | None = None,
        failed: bool = False,
    ) -> tuple[int, int]:
        """Records a result page: its products, and the category's path and next page.

        A product already known stands where it is listed first, by category, page and position, whichever page was read
        first; every label it is found under is kept. Returns how many products and images were new.
        """

        def work(db: sqlite3.Connection) -> tuple[int, int]:
            page = [
                self._entry(listed, Place(category.id, len(category.path), category.page, position, listing_url), None)
                for position, listed in enumerate(products)
            ]
            added = put_page(db, page, generation=self._generation)
            db.execute(
                "UPDATE category SET next_page = ?, page = ?, problem = ?, failed = ?, path = ? WHERE id = ?",
                (
                    next_page,
                    category.page + (next_page != category.next_page),
                    problem,
                    failed,
                    json.dumps(list(category.path)),
                    category.id,
                ),
            )
            return added

        return await self.call(work)

    async def add_rows(self, rows: Sequence[tuple[Listed, str | None]], name: str) -> tuple[int, int]:
        """Records rows of a list, with the JSON of their other columns; returns how many products and images are new.

        The first row of an address counts, wherever it stands in the list: no row comes before another.

        Args:
            name: of the list, for provenance.
        """

        def work(db: sqlite3.Connection) -> tuple[int, int]:
            db.execute(_LIST_CATEGORY, (name,))
            category = db.execute("SELECT id FROM category WHERE depth = -1").fetchone()[0]
            place = Place(category, 0, 1, 0, name)
            entries = [self._entry(listed, place, row) for listed, row in rows]
            return put_page(db, entries, generation=self._generation)

        return await self.call(work)

    def _entry(self, listed: Listed, place: Place, row: str | None) -> Entry:
        return listed, place, self._quota(listed.label) is not None, row

    async def reopen_failed(self) -> int:
        """Puts back images and pages that the network or the server kept from us and, of a finished crawl, samples that
        a repair of the set left out; returns how many."""

        def work(db: sqlite3.Connection) -> int:
            lost = forget_lost(db, self.folder) if self._meta("stage") == "done" else 0
            count = sum(to_reopen(db)) + lost
            if count:
                reopen(db)
            return count

        return await self.call(work)

    async def begin_refresh(self, vanished: Vanished) -> None:
        """Turns a finished crawl into one that has everything still to see, and knows what was seen before."""

        def work(db: sqlite3.Connection) -> None:
            forget_lost(db, self.folder)
            begin_refresh(db, vanished)
            self._generation += 1
            self._commit()

        await self.call(work)

    async def enough(self, category: Category) -> bool:
        """Whether the label of a category has enough without its next page, by its quota; notes it if so.

        A refresh walks everything: it has to know what is gone.
        """
        quota = self._quota(category.label or "")
        if quota is None or self._generation:
            return False

        def work(db: sqlite3.Connection) -> bool:
            enough = promising_before(db, category.label or "", (category.id, category.page)) >= with_surplus(quota)
            if enough:
                db.execute("UPDATE category SET held = 1 WHERE id = ?", (category.id,))
            return enough

        return await self.call(work)

    async def problems(self) -> dict[str, str]:
        """Category pages that could not be explored or walked to the end, with the reason."""
        query = "SELECT url, problem FROM category WHERE problem IS NOT NULL ORDER BY id"
        found = dict(await self.call(lambda db: db.execute(query).fetchall()))
        if cut := await self.meta("first_cut"):
            url, most = json.loads(cut)
            found[url] = f"{most:,} categories are known: this one and further ones left out ([follow] max_categories)"
        found.update(json.loads(await self.meta("list_problems") or "{}"))
        return found

    async def hosts(self) -> list[str]:
        """Hosts that have images waiting."""
        return await self.call(
            lambda db: [row[0] for row in db.execute("SELECT DISTINCT host FROM image WHERE done = 0 ORDER BY host")]
        )

    async def pending(self) -> tuple[dict[str, int], float]:
        """Images waiting by host, and the seconds it took to count them."""

        def work(db: sqlite3.Connection) -> tuple[dict[str, int], float]:
            began = monotonic()
            rows = db.execute("SELECT host, count(*) FROM image WHERE done = 0 GROUP BY host").fetchall()
            return dict(rows), monotonic() - began

        return await self.call(work)

    @property
    def queued(self) -> int:
        """Results and calls that the thread has not come to yet."""
        return self._queue.qsize()

    async def lease(self, host: str, after: int, count: int) -> list[Job]:
        """The next images of a host, by number, above `after`: the caller's cursor is the lease, and dies with it."""
        rows = await self.call(lambda db: db.execute(_LEASE, (host, after, count)).fetchall())
        return list(map(Job._make, rows))

    def park(self, host: str, until: float) -> None:
        """Remembers over a restart that a host wants to be left alone until a time (epoch seconds)."""
        self._queue.put((lambda: self._db.execute("INSERT OR REPLACE INTO host VALUES (?, ?)", (host, until)), None))

    def keep_robots(self, origin: str, text: str | None, until: float) -> None:
        """Remembers over a restart an origin's robots.txt (None: it has none) until a time (epoch seconds)."""
        row = (origin, text, until)
        self._queue.put((lambda: self._db.execute("INSERT OR REPLACE INTO robots VALUES (?, ?, ?)", row), None))

    async def robots(self) -> dict[str, KeptRobots]:
        """What is remembered of robots.txt and not too old, by origin."""
        now = time()
        rows = await self.call(
            lambda db: db.execute("SELECT origin, text, until FROM robots WHERE until > ?", (now,)).fetchall()
        )
        return {origin: KeptRobots(text, until - now) for origin, text, until in rows}

    async def parked(self) -> dict[str, float]:
        """Seconds from now for which hosts are still parked."""
        now = time()
        rows = await self.call(
            lambda db: db.execute("SELECT host, parked_until FROM host WHERE parked_until > ?", (now,)).fetchall()
        )
        return {host: until - now for host, until in rows}

    async def counts(self) -> dict[str, int]:
        """How far the crawl is: categories explored, products, images known and done, samples."""
        return await self.call(
            lambda db: dict(
                zip(_COUNTED, db.execute(_COUNTS, {"generation": self._generation}).fetchone(), strict=True)
            )
        )

    async def seal(self) -> None:
        """Seals the shard being written; with an empty one, leaves nothing."""

        def work(db: sqlite3.Connection) -> None:
            self._commit()
            if self._writer.samples:
                self._seal()
            else:
                self._writer.close()

        await self.call(work)

    async def in_thread(self, work: Callable[[sqlite3.Connection, Shelf], T]) -> T:
        """`call`, with the shards too: `work` may commit, and write shards of its own after `seal`."""
        return await self.call(
            lambda db: work(db, Shelf(self.folder, self._staging, self._new_shard, self._commit_now))
        )

    def _new_shard(self) -> int:
        number = self._writer.shard
        self._writer.shard += 1
        self._commit_position(self._writer)
        return number

    def _commit_now(self) -> None:
        self._commit()
        self._db.execute("BEGIN")

    async def close(self) -> None:
        """Makes durable what there is and ends the thread; the part is kept. Does not raise what `failure` says."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        with suppress(OSError):  # a full disk fails once more here; `failure` has said so
            self._writer.close()
        with suppress(OSError):
            (self.folder / STAGING_NAME).rmdir()
        with suppress(sqlite3.Error):
            self._db.close()

    # -- the thread --

    def _run(self) -> None:
        deadline = 0.0
        while True:
            timeout = max(0.0, deadline - monotonic()) if self._db.in_transaction else None
            try:
                message = self._queue.get(timeout=timeout)
            except Empty:
                self._guarded(self._commit)
                continue
            if message is None:
                self._guarded(self._commit)
                return
            if not self._db.in_transaction and self.failure is None:
                deadline = monotonic() + BATCH_S
                self._guarded(lambda: self._db.execute("BEGIN"))
            if isinstance(message, list):
                while message:
                    some, message = message[:TAKEN], message[TAKEN:]
                    if not self._db.in_transaction and self.failure is None:
                        deadline = monotonic() + BATCH_S
                        self._guarded(lambda: self._db.execute("BEGIN"))
                    self._guarded(lambda: self._take(some))  # noqa: B023  (called before the next turn)
                    self.taken += len(some)
                    self.taken_bytes += sum(result.size for result in some)
                    if self._samples_in_batch >= BATCH_SAMPLES or monotonic() >= deadline:
                        self._guarded(self._commit)
            else:
                self._answer(*message)

    def _guarded(self, work: Callable[[], Any]) -> None:
        """After a failure nothing more is written: what was committed stays true."""
        if self.failure is not None:
            return
        try:
            work()
        except Exception as error:  # the thread must live to say so
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failure = LedgerFailed(self.folder, _words(error))
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")
        self._loop.call_soon_threadsafe(self._on_failure)

    def _answer(self, work: Callable[[], Any], future: asyncio.Future[Any] | None) -> None:
        value: Any = None
        error: Exception | None = None
        if self.failure is not None:
            error = self.failure
        else:
            try:
                value = work()
            except (OSError, sqlite3.Error) as problem:
                self._fail(problem)
                error = self.failure
            except Exception as problem:
                error = problem
        if future is not None:
            self._loop.call_soon_threadsafe(_resolve, future, value, error)

    def _take(self, results: Sequence[Result]) -> None:
        images: list[tuple[Result, Thumbnail]] = []
        for result in results:
            outcome = result.outcome
            if isinstance(outcome, Thumbnail):
                images.append((result, outcome))
            elif isinstance(outcome, Refused):
                self._refuse(result, outcome)
            else:
                self._db.execute("UPDATE image SET done = 1, failed = 0 WHERE id = ?", (result.job.image,))
                self.unchanged += 1
        answered = [
            (result.job.image, image.sha256, *_answer(told), image.content_type)
            for result, image in images
            if (told := result.told)
        ]
        deque(in_chunks(self._db, _ANSWERED, answered), maxlen=0)
        while images:
            size = sum(len(image.body) for _, image in images) + len(images) * _BESIDE_AN_IMAGE
            room = self._writer.room(size)
            self._keep(images[:room])
            images = images[room:]
            if self._writer.full:
                self._commit()
                self._seal()

    def _keep(self, images: Sequence[tuple[Result, Thumbnail]]) -> None:
        """Writes to the part what has never been seen; for no more images than it has room for."""
        known = {key for (key,) in in_chunks(self._db, _SAMPLES, [(image.key,) for _, image in images], row="?")}
        rows: list[tuple[Any, ...]] = []
        pieces: list[tuple[bytes, bytes, bytes]] = []
        position = self._writer.position
        for result, image in images:
            if image.key in known:
                self.dropped["duplicate"] = self.dropped.get("duplicate", 0) + 1
                continue
            known.add(image.key)  # of two with the same bytes the first is written
            assert image.members
            before, after, packed = image.members
            where = (self._writer.shard, image.dhash, position, packed)
            rows.append((image.key, *where, result.job.told, self._generation, result.job.place))
            pieces.append((before, image.body, after))
            position += len(before) + len(image.body) + len(after)
        deque(in_chunks(self._db, _NEW_SAMPLES, rows), maxlen=0)
        for start in range(0, len(pieces), _WRITTEN):
            self._writer.append_all(pieces[start : start + _WRITTEN])
        self.kept += len(pieces)
        self._samples_in_batch += len(pieces)

    def _refuse(self, result: Result, refused: Refused) -> None:
        self.dropped[refused.reason] = self.dropped.get(refused.reason, 0) + 1
        self._on_refused(result.job.url, refused)
        why = (refused.reason, refused.detail, refused.failed)
        # what was had before is not lost because it cannot be asked for now
        if refused.failed and self._db.execute(_STILL_HAD, (*why, result.job.image)).rowcount:
            return
        picture = self._pictures.keep(result.picture, refused.reason) if result.picture else None
        said = (result.told.etag, result.told.last_modified) if result.told else (None, None)
        self._db.execute(_REFUSED, (*why, picture, *said, result.job.image))

    def _commit(self) -> None:
        if not self._db.in_transaction:
            return
        if self._samples_in_batch:
            self._writer.sync()
            self._commit_position(self._writer)
        self._db.execute("COMMIT")
        self._samples_in_batch = 0

    def _seal(self) -> None:
        """After a commit: the ledger knows all the part holds, so a kill on either side of the rename is the same."""
        shard = self._writer.shard
        info = self._writer.seal()
        self._db.execute("BEGIN")
        self._commit_position(self._writer)
        self._db.execute("INSERT OR REPLACE INTO sealed VALUES (?, ?, ?)", (shard, info.bytes, info.sha256))
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")

    def _commit_position(self, writer: ShardWriter) -> None:
        position = {"shard": writer.shard, "committed_bytes": writer.position, "shard_samples": writer.samples}
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", [(k, str(v)) for k, v in position.items()])

    def _meta(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None


_SCHEMA = (resources.files("crawler") / "ledger.sql").read_text(encoding="utf-8").strip().removesuffix(";")
# of the tables themselves, so that nobody has to remember to count on: a ledger with others is not read
_LEDGER_VERSION = crc32((re.sub(r"--.*|\s+", "", _SCHEMA) + PACKED.format).encode()) & 0x7FFFFFFF
_WITH_AN_INDEX_MORE = 1223636207  # until 29 November 2026, with the same tables: goes with the first that changes
_LIST_CATEGORY = """
INSERT INTO category (url, depth, path, label, explored)
SELECT ?, -1, '[]', '', 1 WHERE NOT EXISTS (SELECT 1 FROM category WHERE depth = -1)
"""
_NEW_CATEGORY = "INSERT OR IGNORE INTO category (url, depth, path, label, next_page) VALUES (?, ?, ?, ?, ?)"
_ANSWERED = """
WITH answer (id, sha256, etag, last_modified, final_url, fetched_at, content_type) AS (VALUES {rows})
UPDATE image
SET (done, reason, detail, failed, picture, sha256, etag, last_modified, final_url, fetched_at, content_type)
    = (1, NULL, NULL, 0, NULL, answer.sha256, answer.etag, answer.last_modified, answer.final_url, answer.fetched_at,
       answer.content_type) FROM answer WHERE image.id = answer.id
"""
_SAMPLES = "SELECT key FROM sample WHERE key IN ({rows})"
_NEW_SAMPLES = "INSERT INTO sample VALUES {rows}"
_REFUSED = """
UPDATE image SET (done, reason, detail, failed, sha256, picture, etag, last_modified) = (1, ?, ?, ?, NULL, ?, ?, ?)
WHERE id = ?
"""
_STILL_HAD = """
UPDATE image SET (done, reason, detail, failed) = (1, ?, ?, ?) WHERE id = ? AND sha256 IS NOT NULL
"""
# the product listed first, so that a sample's provenance does not depend on which worker was first
_LEASE = f"""
SELECT image.id, image.url, product.url, product.label, product.category, product.listing_url, product.maker,
       product.title, {NOW_TOLD}, {PLACE}, product.row, image.etag, image.last_modified
FROM image JOIN product ON product.id = (
    SELECT id FROM product WHERE product.image = image.id ORDER BY category, page, position LIMIT 1)
WHERE image.done = 0 AND image.host = ? AND image.id > ? ORDER BY image.id LIMIT ?
"""  # noqa: S608  (a constant)
_COUNTED = ("explored", "products", "images", "images_done", "samples")
_COUNTS = """
SELECT (SELECT count(*) FROM category WHERE explored AND depth >= 0), (SELECT count(*) FROM product),
       (SELECT count(*) FROM image WHERE done < 2 AND generation = :generation),
       (SELECT count(*) FROM image WHERE done = 1 AND generation = :generation), (SELECT count(*) FROM sample)
"""


def _answer(told: Told) -> tuple[str | None, ...]:
    return told.etag, told.last_modified, told.final_url, told.fetched_at


def _words(error: Exception) -> str:
    """What went wrong, without the number and the brackets; of a fault of ours, its kind too."""
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror or error}"
    return str(error) if isinstance(error, sqlite3.Error) else repr(error)


def _resolve(future: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
    if future.done():  # the caller was cancelled
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)
