"""A set in a store, opened here: its manifest and index are fetched at once, its tars when they are wanted.

The reader stays what it is, over memory-mapped tars; only the tars come from the cache. `view` is a local folder that
stands for the set; `ShardSet.open` takes it (and the address). `whole` has every tar of it on this machine, for what
walks files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import overload
from uuid import uuid4

from shards.address import join, scrub
from shards.cache import Cache, remove_left
from shards.files import write_atomic
from shards.index import INDEX_NAME, load_index, map_file, write_dali_index
from shards.quarantine import QUARANTINE_NAME
from shards.recipe import part_names
from shards.remote_errors import CacheTooSmall, NotThere, StoreUnusable, TransferDamaged
from shards.shard_errors import ManifestDamaged, StaleIndex
from shards.shard_set import MANIFEST_NAME, ORIGIN_NAME, Manifest, read_manifest
from shards.store import Store, Transfer
from shards.writer import ShardInfo

__all__ = ["FetchProgress", "LazyTars", "fetched", "shown", "stand_in", "view", "whole"]

_SPLIT = "split.json"
_LONE_READS = 8  # of one shard, range by range; the next one fetches it whole


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How far a set is fetched, in bytes; `total` counts all its tars, those that were here included."""

    done: int
    total: int


Report = Callable[[FetchProgress], None]


def shown(folder: Path) -> str:
    """How to name a set to a person: its address, if the folder stands for one; else the folder."""
    try:
        return scrub(str(json.loads((folder / ORIGIN_NAME).read_bytes())["address"]))
    except (OSError, ValueError, KeyError):
        return str(folder)


def view(address: str, cache: Cache | None = None, transfer: Transfer | None = None) -> Path:
    """A local folder for the set at `address`: manifest and index are there, tars come when they are read.

    The folder is named by address and manifest: a set that was written anew gets another one.

    Raises:
        NotThere: no dataset.json at the address.
        ManifestDamaged, StaleIndex, ConfigError, RemoteError
    """
    cache = cache or Cache()
    store = Store(address, transfer)
    try:
        told = store.read(MANIFEST_NAME)
    except NotThere as error:
        if "bucket" in error.problem:
            raise
        raise NotThere(address, f"no {MANIFEST_NAME} there; give the address of a shard set") from None
    name = _name(address.encode(), told)
    folder = cache.folder / "views" / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (folder / ORIGIN_NAME).is_file():
        write_atomic(folder / MANIFEST_NAME, [told])
        write_atomic(folder / ORIGIN_NAME, [json.dumps({"address": store.address}).encode()])
    try:
        manifest = read_manifest(folder)
    except ManifestDamaged as error:
        shutil.rmtree(folder)
        raise ManifestDamaged(Path(scrub(store.at(MANIFEST_NAME))), error.problem) from None
    _index(store, cache, folder, manifest, _name(told, INDEX_NAME.encode()))
    _quarantine(store, folder)
    return folder


def stand_in(address: str, cache: Cache | None = None, transfer: Transfer | None = None) -> Path:
    """As `view`, for a set or a split; a split's folder has split.json and a view a part.

    Raises:
        As `view`; NotThere: neither a set nor a split.
    """
    cache = cache or Cache()
    store = Store(address, transfer)
    recipe = None if store.size(MANIFEST_NAME) is not None else _read_if_there(store, _SPLIT)
    if recipe is None:
        return view(address, cache, transfer)
    folder = cache.folder / "views" / _name(address.encode(), recipe)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(folder / _SPLIT, [recipe])
    for name in part_names(recipe, f"{store.address}/{_SPLIT}"):
        _link(folder / name, view(join(address, name), cache, transfer))
    write_atomic(folder / ORIGIN_NAME, [json.dumps({"address": store.address}).encode()])
    return folder


def _name(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _index(store: Store, cache: Cache, folder: Path, manifest: Manifest, name: str) -> None:
    """samples.idx into the cache, with a link in the view. It has its own checksum and names its tars."""
    link = folder / INDEX_NAME
    for attempt in (1, 2):  # it may lie there from before the tars were written anew
        if cache.get(name) is None:
            size = store.size(INDEX_NAME)
            if size is None:
                raise StaleIndex(Path(scrub(store.at(INDEX_NAME))), "the index is missing there")
            cache.fetch(name, size, lambda to, size=size: store.download(INDEX_NAME, to, size, None))  # type: ignore[misc]
        _link(link, cache.path(name))
        try:
            load_index(link, manifest.shards)
            return
        except StaleIndex as error:
            cache.remove(name)
            if attempt == 2:
                raise StaleIndex(Path(scrub(store.at(INDEX_NAME))), error.problem) from None


def _quarantine(store: Store, folder: Path) -> None:
    """The set's quarantine as it is now, which may be another than at the last look."""
    try:
        told = _read_if_there(store, QUARANTINE_NAME)
    except StoreUnusable:
        told = None  # who may not list is told "denied" of what is not there; the manifest could be read
    if told is not None:
        write_atomic(folder / QUARANTINE_NAME, [told])
    else:
        (folder / QUARANTINE_NAME).unlink(missing_ok=True)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    beside = link.with_name(f".{link.name}.{uuid4().hex}")
    beside.symlink_to(target)
    beside.replace(link)


def fetched(store: Store, cache: Cache, info: ShardInfo, on_bytes: Callable[[int], None] | None = None) -> Path:
    """A tar of a set, from the cache or into it, named by its digest."""
    return cache.fetch(
        info.sha256, info.bytes, lambda to: store.download(info.name, to, info.bytes, info.sha256, on_bytes)
    )


class LazyTars(Sequence[memoryview]):
    """The tars of a view, each mapped when it is first asked for; the least lately used are let go beyond the bound.

    Reading them in order fetches the next one meanwhile. A map outlives the cache's file: nothing is pinned.
    """

    def __init__(self, folder: Path, manifest: Manifest, cache: Cache | None = None) -> None:
        address = json.loads((folder / ORIGIN_NAME).read_bytes())["address"]
        self._store, self._cache, self._shards = Store(address), cache or Cache(), manifest.shards
        self._maps: OrderedDict[int, memoryview] = OrderedDict()
        self._lone: dict[int, int] = {}
        self._lock = threading.RLock()
        self._ahead: tuple[int, Future[Path]] | None = None
        self._last = -2
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self._shards)

    @overload
    def __getitem__(self, number: int) -> memoryview: ...

    @overload
    def __getitem__(self, number: slice) -> list[memoryview]: ...

    def __getitem__(self, number: int | slice) -> memoryview | list[memoryview]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        with self._lock:
            if number in self._maps:
                self._maps.move_to_end(number)
                return self._maps[number]
            info = self._shards[number]
            bound = self._cache.config.max_bytes
            while self._maps and info.bytes + sum(map(len, self._maps.values())) > bound:
                self._maps.popitem(last=False)
            data = self._map(number)
            self._maps[number] = data
            if number == self._last + 1 and number + 1 < len(self) and info.bytes * 3 <= bound:
                self._pool = self._pool or ThreadPoolExecutor(1, "shards-ahead")
                self._ahead = (
                    number + 1,
                    self._pool.submit(fetched, self._store, self._cache, self._shards[number + 1]),
                )
            self._last = number
            return data

    def piece(self, shard: int, start: int, size: int) -> memoryview:
        """Some bytes of a tar: of the mapped one, or by one ranged read while only few are asked of it."""
        with self._lock:
            info = self._shards[shard]
            few = self._lone.get(shard, 0) < _LONE_READS
            self._lone[shard] = self._lone.get(shard, 0) + 1
            if shard in self._maps or not few or self._cache.get(info.sha256, info.bytes):
                return self[shard][start : start + size]
        return memoryview(self._store.read(info.name, start, start + size))

    def close(self) -> None:
        """Lets go of the maps and stops fetching ahead."""
        with self._lock:
            self._maps.clear()
            if self._pool is not None:
                self._pool.shutdown(wait=True, cancel_futures=True)
                self._pool = None

    def _map(self, number: int) -> memoryview:
        if self._ahead is not None and self._ahead[0] == number:
            with suppress(Exception):  # told again, by the fetch below, if it lasts
                self._ahead[1].result()
        info = self._shards[number]
        for _ in range(3):
            path = fetched(self._store, self._cache, info)
            try:
                return map_file(path)
            except FileNotFoundError:  # another process needed the room in this very moment
                continue
        raise CacheTooSmall(self._cache.folder, info.bytes, self._cache.config.max_bytes)


@contextmanager
def whole(
    address: str,
    *,
    cache: Cache | None = None,
    transfer: Transfer | None = None,
    raw: bool = False,
    on_progress: Report | None = None,
) -> Iterator[Path]:
    """A local folder with all of the set, or split, at `address`; its tars stay here as long as the context is open.

    Args:
        address: of a set, or of a split (a folder with split.json and a set a part).
        raw: for verifying: what has other bytes than the manifest says comes as it is, what is missing stays missing.
        on_progress: called as bytes arrive.

    Raises:
        CacheTooSmall: before anything is fetched, if all of it cannot be here at once.
        NotThere, RemoteError, ManifestDamaged, StaleIndex, ConfigError
    """
    cache = cache or Cache()
    store = Store(address, transfer)
    with ExitStack() as stack:
        recipe = None if store.size(MANIFEST_NAME) is not None else _read_if_there(store, _SPLIT)
        folder = stack.enter_context(_passing_folder(cache))
        places = {"": folder}
        if recipe is not None:
            write_atomic(folder / _SPLIT, [recipe])
            places = {name: folder / name for name in part_names(recipe, f"{store.address}/{_SPLIT}")}
        at = {name: join(address, name) if name else address for name in places}
        views = {name: (_raw_view if raw else view)(at[name], cache, transfer) for name in places}
        manifests = {name: read_manifest(views[name]) for name in places}
        tars = [info for manifest in manifests.values() for info in manifest.shards]
        total = sum({info.sha256: info.bytes for info in tars}.values())
        if total > cache.config.max_bytes:
            raise CacheTooSmall(cache.folder, total, cache.config.max_bytes)
        stack.enter_context(cache.pinned({info.sha256 for info in tars}))
        count = _Count(total, on_progress)
        for name, place in places.items():
            place.mkdir(exist_ok=True)
            _fill(place, views[name], manifests[name], Store(at[name], transfer), cache, raw, count)
        yield folder


def _read_if_there(store: Store, name: str) -> bytes | None:
    try:
        return store.read(name)
    except NotThere as error:
        if "bucket" in error.problem:
            raise
        return None


@contextmanager
def _passing_folder(cache: Cache) -> Iterator[Path]:
    remove_left(cache.folder / "views", "*-*")
    folder = cache.folder / "views" / f"{os.getpid()}-{uuid4().hex}"
    folder.mkdir(parents=True, mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _raw_view(address: str, cache: Cache, transfer: Transfer | None) -> Path:
    """As `view`, but an index that is missing or stale is no error."""
    try:
        return view(address, cache, transfer)
    except StaleIndex:
        store = Store(address, transfer)
        told = store.read(MANIFEST_NAME)
        folder = cache.folder / "views" / _name(address.encode(), told)
        (folder / INDEX_NAME).unlink(missing_ok=True)
        return folder


class _Count:
    def __init__(self, total: int, report: Report | None) -> None:
        self._done, self._total, self._report = 0, total, report
        self._lock = threading.Lock()

    def __call__(self, count: int) -> None:
        with self._lock:
            self._done += count
            if self._report:
                self._report(FetchProgress(self._done, self._total))


def _fill(
    place: Path, seen: Path, manifest: Manifest, store: Store, cache: Cache, raw: bool, count: Callable[[int], None]
) -> None:
    """Links or files for everything of one set in `place`."""
    for name in (MANIFEST_NAME, ORIGIN_NAME, QUARANTINE_NAME):
        if (seen / name).exists():
            shutil.copyfile(seen / name, place / name)

    def one(info: ShardInfo) -> None:
        arrived = 0

        def told(size: int) -> None:
            nonlocal arrived
            arrived += size
            count(size)

        target = place / info.name
        if raw:  # the store's own bytes are asked about: the cache has what the manifest names, whatever became of it
            _as_it_is(store, info.name, target, info, told)
        else:
            target.symlink_to(fetched(store, cache, info, told))
            count(info.bytes - arrived)
        index = target.with_suffix(".idx")
        data = _read_if_there(store, index.name)
        if data is not None:
            index.write_bytes(data)
        elif not raw and target.exists():
            write_dali_index(target)

    with ThreadPoolExecutor(store.transfer.workers) as pool:
        for future in [pool.submit(one, info) for info in manifest.shards]:
            future.result()
    if (seen / INDEX_NAME).is_symlink():
        (place / INDEX_NAME).hardlink_to((seen / INDEX_NAME).resolve())
    elif raw:
        _as_it_is(store, INDEX_NAME, place / INDEX_NAME)
    if raw:
        known = {info.name for info in manifest.shards}
        for name in store.names() or ():
            if name.endswith(".tar") and name not in known:
                _as_it_is(store, name, place / name)


def _as_it_is(
    store: Store,
    name: str,
    target: Path,
    info: ShardInfo | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> None:
    """Fetches an object whatever it is, if it is there; a digest that is not `info`'s is looked at twice."""
    size = store.size(name)
    if size is None:
        return
    sha256 = info.sha256 if info is not None and info.bytes == size else None
    with suppress(TransferDamaged):
        store.download(name, target, size, sha256, on_bytes)
