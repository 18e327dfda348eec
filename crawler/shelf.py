"""Where a crawl's shards lie. Those of a set that is in use stay as they are until another manifest names others.

Until there is a manifest, shards are written beside the ledger and rewritten in place. From then on new ones, and new
versions of old ones, have numbers of their own and wait in a folder beside; they are moved in just before the manifest
is replaced, and what it named before is removed after.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from shards import tar
from shards.files import fsync_folder, map_file
from shards.manifest import read_manifest
from shards.shard_errors import ShardError
from shards.writer import shard_name

__all__ = ["Shelf", "forget_lost", "look_for_doomed", "remove_leftovers"]

_SHARD = re.compile(r"shard-(\d+)\.tar")


@dataclass(frozen=True, slots=True)
class Shelf:
    """The shards, for one who rewrites them in the frontier's thread.

    Attributes:
        folder: of the set.
        staging: where new shards are written; `folder` itself until there is a manifest.
        new_shard: takes the next number.
        commit: makes everything durable that was done in the ledger so far.
    """

    folder: Path
    staging: Path
    new_shard: Callable[[], int]
    commit: Callable[[], None]

    def path_of(self, shard: int) -> Path:
        """Where a sealed shard is."""
        return _path_of(shard, self.folder, self.staging)

    def in_use(self, shard: int) -> bool:
        """Whether a manifest names it, so that it may not be rewritten in place."""
        return self.staging != self.folder and not (self.staging / shard_name(shard)).exists()

    def move_in(self, shards: Iterable[int]) -> list[Path]:
        """Moves what is staged to the set's folder; returns the paths of all `shards` there."""
        paths = [self.folder / shard_name(shard) for shard in shards]
        staged = [path for path in paths if self.in_staging(path)]
        for path in staged:
            self.in_staging(path).rename(path)  # type: ignore[union-attr]
        if staged:
            fsync_folder(self.folder)
            fsync_folder(self.staging)
        return paths

    def in_staging(self, path: Path) -> Path | None:
        """The staged file of that name, if there is one apart from the set's own."""
        staged = self.staging / path.name
        return staged if self.staging != self.folder and staged.exists() else None


def _path_of(shard: int, folder: Path, staging: Path) -> Path:
    staged = staging / shard_name(shard)
    return staged if staged.exists() else folder / shard_name(shard)


def forget_lost(db: sqlite3.Connection, folder: Path) -> int:
    """Forgets samples that the set in `folder` has no more, as a repair leaves out what is damaged; returns how many.

    What is kept and not in the shards is fetched again (`crawler.verdicts.decide`).
    """
    from shards.shard_set import load_set_index  # numpy: 0.2 s

    try:
        manifest = read_manifest(folder)
        keys = {key.decode() for key in load_set_index(folder, manifest).keys.tolist()}
    except ShardError:
        return 0  # not published yet, or not repaired
    named = {info.name for info in manifest.shards}
    numbers = ((int(match[1]), info) for info in manifest.shards if (match := _SHARD.fullmatch(info.name)))
    repaired = [(number, info.sha256) for number, info in numbers]
    db.executemany("DELETE FROM sealed WHERE shard = ? AND sha256 <> ?", repaired)
    found = db.execute("SELECT shard, key FROM sample").fetchall()
    lost = [(key,) for shard, key in found if key not in keys and shard_name(shard) in named]
    db.executemany("DELETE FROM sample WHERE key = ?", lost)
    return len(lost)


def look_for_doomed(db: sqlite3.Connection, folder: Path, staging: Path) -> None:
    """After a kill while shards were written anew: forgets samples that were to go and are gone, keeps the others.

    What is kept after all and not in the shards is fetched again.
    """
    doomed: dict[int, list[str]] = {}
    for shard, key in db.execute("SELECT shard, key FROM sample WHERE generation < 0"):
        doomed.setdefault(shard, []).append(key)
    if not doomed:
        return
    gone = []
    for shard, keys in doomed.items():
        path = _path_of(shard, folder, staging)
        there = {tar.split_name(member.name)[0] for member in tar.walk(map_file(path), path)} if path.exists() else ()
        gone += [(key,) for key in keys if key not in there]
    db.execute("BEGIN")
    db.executemany("DELETE FROM sample WHERE key = ?", gone)
    db.execute("UPDATE sample SET generation = -1 - generation WHERE generation < 0")
    db.execute("COMMIT")


def remove_leftovers(db: sqlite3.Connection, folder: Path, staging: Path) -> None:
    """Removes what a kill left: shards that no commit knows, shards that no manifest and no sample names any more,
    and files written beside."""
    position = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('shard', 'committed_bytes')"))
    shard, committed = int(position.get("shard", 0)), int(position.get("committed_bytes", 0))
    needed = {row[0] for row in db.execute("SELECT DISTINCT shard FROM sample")}
    try:
        named = {info.name for info in read_manifest(folder).shards}
    except ShardError:
        named = set()
    for place in {folder, staging}:
        if not place.is_dir():
            continue
        for path in place.glob(".*.tmp"):
            path.unlink()
        for path in place.glob("shard-*.tar"):
            match = _SHARD.fullmatch(path.name)
            number = int(match[1]) if match else shard
            # the shard being written may be sealed without the ledger knowing; then it holds something committed
            unknown = number > shard or (number == shard and not committed)
            if path.name not in named and match and (unknown or (number < shard and number not in needed)):
                path.unlink()
        for path in place.glob("shard-*.idx"):
            if not path.with_suffix(".tar").exists():
                path.unlink()
