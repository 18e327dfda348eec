"""A folder of whole objects, each named by its digest, that never grows beyond its bound: the oldest unused go first.

A name stands for bytes, so a changed object has another name and is never mixed with an old one. An object appears by
rename, after its digest was checked. Several processes may use one cache: a lock keeps two from fetching one object
twice, what a running command needs is pinned, and a kill leaves nothing that the next one takes for whole.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from shards.errors import ConfigError
from shards.remote_errors import CacheTooSmall

__all__ = ["Cache", "CacheConfig", "bytes_of", "remove_left"]

_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(?:([kmgt]?)(i?)b?)?\s*", re.IGNORECASE)
_DEFAULT = "20GB"


def bytes_of(text: str, where: str) -> int:
    """A size such as "20GB", "512MiB" or "1000" in bytes.

    Raises:
        ConfigError: it is none; names `where`.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ConfigError(where, "", f"{text!r}: expected a size such as 20GB or 512MiB")
    number, prefix, binary = match.groups(default="")
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(prefix.lower() or " "))


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """Where the cache is and how large it may grow.

    Args:
        folder: created when something is first kept; 0700, as what is read may be private.
        max_bytes: of all objects together, those being fetched included.
    """

    folder: Path
    max_bytes: int

    @classmethod
    def from_environment(cls) -> CacheConfig:
        """BASSLINE_CACHE (else `bassline/sets` in the user's cache folder) and BASSLINE_CACHE_SIZE (else 20GB).

        Raises:
            ConfigError: the size is none.
        """
        named = os.environ.get("BASSLINE_CACHE", "")
        base = os.environ.get("XDG_CACHE_HOME", "")
        folder = Path(named) if named else (Path(base) if base else Path.home() / ".cache") / "bassline" / "sets"
        size = bytes_of(os.environ.get("BASSLINE_CACHE_SIZE", "") or _DEFAULT, "BASSLINE_CACHE_SIZE")
        return cls(folder.absolute(), size)


class Cache:
    """Objects by name (64 hex digits, of their bytes or of what they were made from)."""

    def __init__(self, config: CacheConfig | None = None) -> None:
        self.config = config or CacheConfig.from_environment()
        self.folder = self.config.folder
        self._objects, self._passing = self.folder / "objects", self.folder / "passing"
        self._pins, self._locks = self.folder / "pins", self.folder / "locks"

    def path(self, name: str) -> Path:
        """Where the object is, or would be."""
        return self._objects / name

    def get(self, name: str, size: int | None = None) -> Path | None:
        """The object's path, marked as used now; None if it is not here, or has another size."""
        path = self.path(name)
        try:
            if size is not None and path.stat().st_size != size:
                return None
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def fetch(self, name: str, size: int, fill: Callable[[Path], None]) -> Path:
        """The object's path, filled by `fill(passing)` if it is not here. Others that want it meanwhile wait.

        Raises:
            CacheTooSmall: there is no room even when all that is unused goes. And whatever `fill` raises.
        """
        for folder in (self._objects, self._passing, self._pins, self._locks):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(self._lock_of(name)):
            if (path := self.get(name, size)) is not None:
                return path
            passing = self._passing / name
            with _locked(self._locks / "room"):
                self._make_room(size, name)
                with passing.open("wb") as file:
                    file.truncate(size)  # its room is taken from now on, though no block is written yet
            try:
                fill(passing)
                path = self.path(name)
                passing.replace(path)
            finally:
                passing.unlink(missing_ok=True)
            return path

    def remove(self, name: str) -> None:
        """Forgets an object."""
        self.path(name).unlink(missing_ok=True)

    def used(self) -> int:
        """Bytes of everything kept or being fetched."""
        return sum(size for folder in (self._objects, self._passing) for _, size, _ in _files(folder))

    @contextmanager
    def pinned(self, names: Iterable[str]) -> Iterator[None]:
        """While it is open, and this process lives, the objects are not evicted."""
        self._pins.mkdir(parents=True, exist_ok=True, mode=0o700)
        pin = self._pins / f"{os.getpid()}-{uuid4().hex}"
        beside = self._pins / f".{pin.name}"
        with beside.open("w", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write("\n".join(names))
            file.flush()
            beside.rename(pin)
            try:
                yield
            finally:
                pin.unlink(missing_ok=True)

    def _lock_of(self, name: str) -> Path:
        return self._locks / name[:2]  # 256 files for good, rather than one an object

    def _make_room(self, size: int, wanted: str) -> None:
        """Removes what was not used for longest until `size` more bytes fit. The room lock is held."""
        for path, _, _ in _files(self._passing):
            if path.name[:2] != wanted[:2] and _is_free(self._lock_of(path.name)):
                path.unlink(missing_ok=True)  # its fetcher was killed
        kept = self._pinned_names()
        total = self.used()
        stale = self._passing / wanted  # ours, of an attempt that was killed
        if stale.exists():
            total -= stale.stat().st_size
        for path, length, _ in sorted(_files(self._objects), key=lambda file: file[2]):
            if total + size <= self.config.max_bytes:
                return
            if path.name not in kept:
                path.unlink(missing_ok=True)
                total -= length
        if total + size > self.config.max_bytes:
            raise CacheTooSmall(self.folder, total + size, self.config.max_bytes, total)

    def _pinned_names(self) -> set[str]:
        names: set[str] = set()
        for pin in self._pins.glob("[0-9]*"):
            try:
                with pin.open(encoding="ascii") as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    except BlockingIOError:
                        names.update(file.read().split())
                    else:
                        pin.unlink(missing_ok=True)  # its process is gone
            except FileNotFoundError:
                continue
        return names


def remove_left(folder: Path, pattern: str) -> None:
    """Removes what killed processes left: names that begin with a process id (after a dot, if any) which is gone."""
    for path in folder.glob(pattern):
        pid = path.name.lstrip(".").partition("-")[0]
        if pid.isdigit() and not _lives(int(pid)):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _files(folder: Path) -> list[tuple[Path, int, float]]:
    """(path, bytes, when last used) of what is in a folder; others may remove files meanwhile."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    about = entry.stat()
                except FileNotFoundError:
                    continue
                found.append((Path(entry.path), about.st_size, about.st_mtime_ns / 1e9))
    except FileNotFoundError:
        return []
    return found


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """An exclusive lock over processes and threads: each open of the file is another holder."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_free(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
