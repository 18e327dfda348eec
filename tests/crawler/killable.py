"""A crawl that kills itself: run as a script it forks a process for each crawl it is told of on its standard input.

Nothing of this is in the product: the places where a kill hurts are the calls by which it changes the disk (fsync,
rename, unlink, COMMIT) or learns something (a page, an image, a write to the shard), and those are wrapped here, in the
child. A kill "with power cut" also takes back what was never made durable: bytes after a file's last fsync, names and
removals after the folder's last fsync. That is the worst a disk may do; a plain SIGKILL is the best.
"""

from __future__ import annotations

# what pathlib calls is wrapped here
# ruff: noqa: PTH110, PTH112, PTH115, PTH118, PTH120, PTH202, PTH208
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import crawler.frontier
from crawler.crawl import run
from crawler.fetch import Fetcher
from crawler.limits import Limits
from crawler.site import load_site
from shards.writer import ShardWriter

_rename, _unlink = os.rename, os.unlink  # as they are before they are wrapped
_KINDS = (
    (r"\.tar\.part$", "part"),
    (r"^\.?shard-\d+\.tar(\.tmp)?$", "shard"),
    (r"\.idx(\.next)?(\.tmp)?$", "index"),
    (r"dataset\.json", "manifest"),
    (r"drops", "drops"),
)


def kind_of(path: str) -> str:
    """What a file is in a set's folder."""
    name = Path(path).name
    return next((kind for pattern, kind in _KINDS if re.search(pattern, name)), "folder")


class Disk:
    """What a power cut would leave of the files below a folder (SQLite's own excepted: it knows how to fsync)."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self._synced: dict[str, int] = {}  # bytes that are durable, of files written to
        self._undo: list[tuple[str, Callable[[], None]]] = []  # by folder: names that are not durable yet
        self._safe = tempfile.mkdtemp(dir=folder.parent)  # a hard link of what is replaced or removed

    def mine(self, path: str) -> bool:
        """Whether it is a file that our own code writes."""
        return path.startswith(f"{self.folder}/") and "crawl.sqlite" not in path

    def opened(self, path: str, flags: int) -> None:
        """A file is about to be opened."""
        if not flags & (os.O_WRONLY | os.O_RDWR) or not self.mine(path):
            return
        if os.path.exists(path):
            self._synced.setdefault(path, 0 if flags & os.O_TRUNC else os.path.getsize(path))
        else:
            self._synced[path] = 0
            self._undo.append((os.path.dirname(path), lambda: os.path.exists(path) and _unlink(path)))

    def fsynced(self, path: str) -> None:
        """A file or folder is durable now."""
        if os.path.isdir(path):
            self._undo = [entry for entry in self._undo if entry[0] != path]
        elif self.mine(path):
            self._synced[path] = os.path.getsize(path)

    def renaming(self, source: str, target: str) -> Callable[[], None]:
        """A file is about to be renamed; call what is returned once it is."""
        kept = self._keep(target)

        def undo() -> None:
            _rename(target, source)
            if kept:
                os.link(kept, target)
            if target in self._synced:
                self._synced[source] = self._synced.pop(target)

        def renamed() -> None:
            self._undo.append((os.path.dirname(target), undo))
            if source in self._synced:
                self._synced[target] = self._synced.pop(source)

        return renamed

    def removed(self, path: str) -> None:
        """A file is about to be removed."""
        kept = self._keep(path)
        if kept:
            self._undo.append((os.path.dirname(path), lambda: os.path.exists(path) or os.link(kept, path)))

    def cut(self) -> None:
        """The power is gone."""
        for _, undo in reversed(list(self._undo)):
            with suppress(FileNotFoundError):  # another thread was about to remove or rename it, and does
                undo()
        for path, size in list(self._synced.items()):
            with suppress(FileNotFoundError):
                if os.path.getsize(path) > size:
                    os.truncate(path, size)

    def _keep(self, path: str) -> str | None:
        if not self.mine(path) or not os.path.exists(path):
            return None
        kept = os.path.join(self._safe, str(len(os.listdir(self._safe))))
        os.link(path, kept)
        return kept

    def forget(self) -> None:
        shutil.rmtree(self._safe, ignore_errors=True)


class Killer:
    """Kills this process at the nth event whose name fits a pattern, or after some time.

    Args:
        plan: "match" and "nth", or "after_s" (of a stage, by "match"); "guard", an event that may not be passed; and
            "power".
        disk: of the set's folder.
        note: descriptor that the name of the fatal event is written to.
    """

    def __init__(self, plan: dict[str, Any], disk: Disk, note: int) -> None:
        self._plan, self._disk, self._note = plan, disk, note
        self._left = int(plan.get("nth", 0))
        self._stage = "start"
        self._lock = threading.RLock()
        self._dying = False

    def stage(self, event: Any) -> None:
        """The crawl tells its stage."""
        if event["event"] == "stage":
            self._stage = event["stage"]
            if "after_s" in self._plan and re.search(self._plan["match"], self._stage):
                timer = threading.Timer(self._plan["after_s"], self.die, (f"{self._stage}: at random",))
                timer.daemon = True
                timer.start()

    def at(self, what: str) -> None:
        """Something happened."""
        name = f"{self._stage}: {what}"
        with self._lock:
            if self._dying:
                return
            if re.search(self._plan.get("guard") or "$.", name):
                self.die(name)
            if self._left and re.search(self._plan["match"], name):
                self._left -= 1
                if not self._left:
                    self.die(name)

    def die(self, name: str) -> None:
        """Says where, and is gone."""
        self._lock.acquire()  # whoever else does something now does it no more
        self._dying = True
        try:
            if self._plan.get("power"):
                self._disk.cut()
                name += ", power cut"
            self._disk.forget()
            os.write(self._note, name.encode())
        except BaseException:
            traceback.print_exc()  # a kill without its note fails the test, which shows this
            sys.stderr.flush()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)


def install(killer: Killer, disk: Disk) -> None:
    """Wraps what changes the disk or learns something."""
    fsync, rename, replace, unlink, connect = os.fsync, os.rename, os.replace, os.unlink, sqlite3.connect

    def our_fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        killer.at(f"before fsync of {kind_of(path)}")
        fsync(descriptor)
        disk.fsynced(path)
        killer.at(f"after fsync of {kind_of(path)}")

    def renaming(plain: Any) -> Any:
        def our_rename(source: Any, target: Any, **options: Any) -> None:
            if not disk.mine(str(target)):
                return plain(source, target, **options)
            renamed = disk.renaming(str(source), str(target))
            killer.at(f"before naming {kind_of(str(target))}")
            plain(source, target, **options)
            renamed()
            killer.at(f"after naming {kind_of(str(target))}")

        return our_rename

    def our_unlink(path: Any, **options: Any) -> None:
        if disk.mine(str(path)):
            disk.removed(str(path))
            killer.at(f"before removing {kind_of(str(path))}")
        unlink(path, **options)

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql != "COMMIT":
                return super().execute(sql, *parameters)
            killer.at("before COMMIT")
            done = super().execute(sql)
            killer.at("after COMMIT")
            return done

    os.fsync, os.unlink = our_fsync, our_unlink
    os.rename, os.replace = renaming(rename), renaming(replace)
    crawler.frontier.sqlite3.connect = lambda *a, **k: connect(*a, factory=Connection, **k)
    sys.addaudithook(
        lambda event, args: (
            disk.opened(str(args[0]), args[2]) if event == "open" and isinstance(args[0], (str, os.PathLike)) else None
        )
    )
    for owner, name, told in ((Fetcher, "page", "page"), (Fetcher, "image", "image")):
        setattr(owner, name, _after(getattr(owner, name), lambda told=told: killer.at(told)))
    add = ShardWriter.add

    def our_add(self: ShardWriter, sample: Any) -> Any:
        placed = add(self, sample)
        killer.at("write to part")
        return placed

    ShardWriter.add = our_add  # type: ignore[method-assign]


def _after(plain: Any, told: Callable[[], None]) -> Any:
    async def wrapped(*args: Any, **options: Any) -> Any:
        answer = await plain(*args, **options)
        told()
        return answer

    return wrapped


def crawl(job: dict[str, Any], note: int) -> None:
    """One crawl, with its end perhaps."""
    out = Path(job["out"])
    out.parent.mkdir(parents=True, exist_ok=True)
    disk = Disk(out)
    killer = Killer(job["plan"], disk, note)
    install(killer, disk)
    site = load_site(job["site"], **job["tables"])
    limits = Limits(**job["limits"])
    run(site, out, limits=limits, shard_samples=job["shard_samples"], on_event=killer.stage, **job["options"])
    disk.forget()


def main() -> None:
    """A job a line; answers with a line: the exit status, and the event that the process died at."""
    for line in sys.stdin:
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.close(ours)
                crawl(json.loads(line), theirs)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        os.close(theirs)
        with os.fdopen(ours, "rb") as told:
            died_at = told.read().decode()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps([os.waitstatus_to_exitcode(status), died_at]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
