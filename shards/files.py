"""A file is either the old one or the new one: whatever is replaced here survives a kill at any moment."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["MAPPED", "as_text", "forget", "fsync_folder", "give_back_memory", "map_file", "sha256_of", "write_atomic"]


def as_text(name: str) -> str:
    r"""A file's name as text that can be written down: bytes that are no UTF-8 become \\xNN."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode()


def fsync_folder(folder: Path) -> None:
    """Makes renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Writes `pieces` beside `path`, fsyncs, renames over `path` and fsyncs the folder.

    The name beside is fixed, so that what a kill leaves is overwritten by the next attempt; what an error leaves is
    removed.
    """
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with beside.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    beside.replace(path)
    fsync_folder(path.parent)


def sha256_of(path: Path) -> str:
    """The file's sha256 as 64 hex digits; reads it in blocks and releases the GIL meanwhile."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def map_file(path: Path) -> memoryview:
    """The file as a read-only view of a memory map (an empty file: an empty view); unmapped with its last view."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


MAPPED = 8 << 20
"""Bytes after which a walk over a map lets go of what it has passed."""


def forget(view: memoryview, begin: int, end: int) -> None:
    """Lets the process's memory go of bytes of a `map_file`; they are read again if they are looked at again.

    A walk over a shard would hold all of it otherwise, up to 256 MiB.
    """
    first, last = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if isinstance(view.obj, mmap.mmap) and len(view) == len(view.obj) and last > first:
        view.obj.madvise(mmap.MADV_DONTNEED, first, last - first)


def give_back_memory() -> None:
    """Gives freed memory back to the system: glibc keeps what a thread has freed, tens of MB after large arrays."""
    import ctypes  # numpy has it already, whoever needs this

    with suppress(OSError, AttributeError):  # another libc
        ctypes.CDLL(None).malloc_trim(0)
