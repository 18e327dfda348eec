"""A folder that appears whole or not at all, for what is more than one shard set."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.files import fsync_folder
from shards.shard_errors import TargetNotEmpty

__all__ = ["followed", "new_folder"]


def followed(out: Path) -> Path:
    """Where a folder to be made is made: absolute, and where `out` is a link, what it points to."""
    return Path(os.path.realpath(out)) if out.is_symlink() else out.absolute()


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Gives a folder beside `out` to write into; it is renamed to `out` at the end, or removed after an error.

    What a killed attempt left is removed by the next one.

    Raises:
        TargetNotEmpty: `out` holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TargetNotEmpty(out)
    out = followed(out)
    beside = out.with_name(f".{out.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        beside.rename(out)
        fsync_folder(out.parent)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
