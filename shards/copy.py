"""A set, or a split, carried whole to another place: sealed shards first, the manifest last, every byte checked.

A place without its manifest is no set, so a copy that stopped half way is never taken for one; the same copy again
sends only what is not there yet.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from shards.address import join, local_or_address
from shards.cache import CacheConfig, remove_left
from shards.errors import ConfigError
from shards.files import fsync_folder, sha256_of, write_atomic
from shards.index import INDEX_NAME
from shards.quarantine import QUARANTINE_NAME
from shards.recipe import part_names
from shards.remote_errors import NotThere, PlaceTaken, StoreUnusable, TransferDamaged
from shards.shard_errors import ManifestMissing
from shards.shard_set import MANIFEST_NAME, Manifest, parse_manifest
from shards.store import Store, Transfer

__all__ = ["Copied", "CopyProgress", "check_target", "copy"]

_SPLIT = "split.json"
_BESIDE = (INDEX_NAME, "drops.jsonl", "report.json", QUARANTINE_NAME)  # asked for where a store cannot list


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """How far a copy is: bytes of the shards, sent or found there already, and the shards done."""

    done: int
    total: int
    shards: int


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did: sets (one, or a split's parts), files and bytes sent, shards that were there already."""

    sets: int
    samples: int
    files: int
    bytes: int
    there: int


def copy(
    source: str | Path,
    target: str | Path,
    *,
    transfer: Transfer | None = None,
    on_progress: Callable[[CopyProgress], None] | None = None,
) -> Copied:
    """Copies the set or split at `source` to `target`; each a folder or an address. Run again, it goes on.

    Tars are checked against the manifest's digests on their way. Indexes and sidecar files go along; a crawl's ledger
    (crawl.sqlite), parts and hidden files do not.

    Raises:
        ManifestMissing, NotThere: `source` is neither a set nor a split.
        PlaceTaken: `target` holds something else.
        TransferDamaged: a tar's bytes are not those of the manifest.
        StoreUnusable, TransferFailed, ConfigError
    """
    transfer = transfer or Transfer()
    place, goal = _place(source, transfer), _place(target, transfer)
    if isinstance(goal, Store) and not goal.writable:
        raise StoreUnusable(goal.address, f"{goal.protocol}:// is read only; copy to s3:// or a local folder")
    told = _read(place, MANIFEST_NAME)
    recipe = _read(place, _SPLIT) if told is None else None
    if told is None and recipe is None:
        if isinstance(place, Path):
            raise ManifestMissing(place)
        raise NotThere(place.address, f"no {MANIFEST_NAME} and no {_SPLIT} there; give the address of a shard set")
    names = [""] if recipe is None else part_names(recipe, f"{_shown(place)}/{_SPLIT}")
    jobs = []
    for name in names:
        inner, outer = _below(place, name, transfer), _below(goal, name, transfer)
        text = _read(inner, MANIFEST_NAME)
        if text is None:
            raise ManifestMissing(Path(str(_shown(inner))))
        jobs.append(_Job(inner, outer, text, parse_manifest(text, Path(_shown(inner)) / MANIFEST_NAME)))
    for job in jobs:
        _refuse_others(job)
    if recipe is not None and _read(goal, _SPLIT) not in (None, recipe):
        raise PlaceTaken(_shown(goal), f"another {_SPLIT}")
    count = _Count(sum(info.bytes for job in jobs for info in job.manifest.shards), on_progress)
    for job in jobs:
        _send(job, count, transfer)
    if recipe is not None:
        _write(goal, _SPLIT, recipe)
    samples = sum(job.manifest.samples for job in jobs)
    return Copied(len(jobs), samples, count.files, count.bytes, count.there)


def check_target(address: str) -> None:
    """Says at once whether a set could be written to `address` later.

    Raises:
        PlaceTaken: there is a set or split already. StoreUnusable, NotThere, ConfigError: it cannot be written to.
    """
    store = Store(address)
    if not store.writable:
        raise StoreUnusable(store.address, f"{store.protocol}:// is read only; write to s3:// or a local folder")
    found = store.names()
    if found:
        raise PlaceTaken(store.address, ", ".join(found[:3]) + (", ..." if len(found) > 3 else ""))


@dataclass(frozen=True, slots=True)
class _Job:
    place: Path | Store
    goal: Path | Store
    text: bytes
    manifest: Manifest


class _Count:
    def __init__(self, total: int, report: Callable[[CopyProgress], None] | None) -> None:
        self.files = self.bytes = self.there = 0
        self._done, self._shards, self._total, self._report = 0, 0, total, report
        self._lock = threading.Lock()

    def moved(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._tell()

    def shard(self, size: int, moved: int, there: bool) -> None:
        with self._lock:
            self._done += size - moved
            self._shards += 1
            if there:
                self.there += 1
            else:
                self.files, self.bytes = self.files + 1, self.bytes + size
            self._tell()

    def beside(self, size: int) -> None:
        with self._lock:
            self.files, self.bytes = self.files + 1, self.bytes + size

    def _tell(self) -> None:
        if self._report:
            self._report(CopyProgress(self._done, self._total, self._shards))


def _place(where: str | Path, transfer: Transfer) -> Path | Store:
    found = local_or_address(where) if isinstance(where, str) else where
    return found if isinstance(found, Path) else Store(found, transfer)


def _below(place: Path | Store, name: str, transfer: Transfer) -> Path | Store:
    if not name:
        return place
    return place / name if isinstance(place, Path) else Store(join(place.address, name), transfer)


def _shown(place: Path | Store) -> str:
    return str(place) if isinstance(place, Path) else place.address


def _read(place: Path | Store, name: str) -> bytes | None:
    if isinstance(place, Path):
        with suppress(FileNotFoundError, NotADirectoryError):
            return (place / name).read_bytes()
        return None
    try:
        return place.read(name)
    except NotThere as error:
        if "bucket" in error.problem:
            raise
        return None


def _names(place: Path | Store) -> list[str] | None:
    if isinstance(place, Store):
        return place.names()
    if not place.exists():
        return []
    if not place.is_dir():
        raise ConfigError(str(place), "", "is a file; give a folder")
    return sorted(path.name for path in place.iterdir())


def _beside(job: _Job) -> list[str]:
    """Files of the set that are neither its tars nor its manifest."""
    names = _names(job.place)
    if names is None:
        found = [Path(info.name).with_suffix(".idx").name for info in job.manifest.shards]
        return [*found, *_BESIDE]
    tars = {info.name for info in job.manifest.shards}
    return [
        name
        for name in names
        if name not in tars
        and name != MANIFEST_NAME
        and not name.startswith((".", "crawl.sqlite"))
        and not name.endswith((".part", ".tar", ".lock", ".next"))
        and (isinstance(job.place, Store) or (job.place / name).is_file())
    ]


def _refuse_others(job: _Job) -> None:
    """A place that holds part of this very set is gone on with; anything else is left alone."""
    there = _read(job.goal, MANIFEST_NAME)
    if there is not None:
        if there != job.text:
            raise PlaceTaken(_shown(job.goal), "another shard set")
        return
    ours = {info.name for info in job.manifest.shards} | set(_beside(job))
    passing = (".part", ".passing")
    strange = [name for name in _names(job.goal) or () if name not in ours and not name.endswith(passing)]
    if strange:
        raise PlaceTaken(_shown(job.goal), ", ".join(strange[:3]))


def _send(job: _Job, count: _Count, transfer: Transfer) -> None:
    passing = job.goal if isinstance(job.goal, Path) else _copies()
    passing.mkdir(parents=True, exist_ok=True)
    remove_left(passing, ".*.passing")

    def shard(number: int) -> None:
        info = job.manifest.shards[number]
        moved = 0

        def told(size: int) -> None:
            nonlocal moved
            moved += size
            count.moved(size)

        there = _holds(job.goal, info.name, info.bytes, info.sha256)
        if not there:
            _carry(job, info.name, info.bytes, info.sha256, told)
        count.shard(info.bytes, moved, there)

    with ThreadPoolExecutor(transfer.workers) as pool:
        futures = [pool.submit(shard, number) for number in range(len(job.manifest.shards))]
        try:
            for future in futures:
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise
    for name in _beside(job):
        size = (job.place / name).stat().st_size if isinstance(job.place, Path) else job.place.size(name)
        if size is not None:
            _carry(job, name, size, None, lambda _: None)
            count.beside(size)
    _write(job.goal, MANIFEST_NAME, job.text)
    count.beside(len(job.text))


def _holds(goal: Path | Store, name: str, size: int, sha256: str) -> bool:
    if isinstance(goal, Store):
        return goal.holds(name, size, sha256)
    path = goal / name
    return path.is_file() and path.stat().st_size == size and sha256_of(path) == sha256


def _carry(job: _Job, name: str, size: int, sha256: str | None, told: Callable[[int], None]) -> None:
    with _here(job, name, size, sha256, told) as path:
        if isinstance(job.goal, Store):
            job.goal.upload(name, path, told if isinstance(job.place, Path) else None)
        else:
            path.replace(job.goal / name)
            fsync_folder(job.goal)


def _copies() -> Path:
    """Where what goes from one store to another passes through."""
    return CacheConfig.from_environment().folder / "copies"


@contextmanager
def _here(job: _Job, name: str, size: int, sha256: str | None, told: Callable[[int], None]) -> Iterator[Path]:
    """The file on this machine, checked; one that may be renamed away if the goal is a folder."""
    if isinstance(job.place, Path) and isinstance(job.goal, Store):
        path = job.place / name
        if sha256 is not None and (found := sha256_of(path)) != sha256:
            raise TransferDamaged(str(path), sha256, found)
        yield path
        return
    folder = job.goal if isinstance(job.goal, Path) else _copies()
    passing = folder / f".{os.getpid()}-{threading.get_ident()}-{name}.passing"
    try:
        if isinstance(job.place, Store):
            job.place.download(name, passing, size, sha256, told)
        else:
            _copy_file(job.place / name, passing, sha256, told)
        yield passing
    finally:
        passing.unlink(missing_ok=True)


def _copy_file(source: Path, target: Path, sha256: str | None, told: Callable[[int], None]) -> None:
    hashed = hashlib.sha256()
    with source.open("rb") as file, target.open("wb") as out:
        while block := file.read(1 << 20):
            out.write(block)
            hashed.update(block)
            told(len(block))
        out.flush()
        os.fsync(out.fileno())
    if sha256 not in (None, hashed.hexdigest()):
        raise TransferDamaged(str(source), str(sha256), hashed.hexdigest())


def _write(goal: Path | Store, name: str, data: bytes) -> None:
    if isinstance(goal, Store):
        goal.upload(name, data)
    else:
        write_atomic(goal / name, [data])
