"""A folder that appears whole or not at all, for what is more than one shard set."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.files import fsync_folder
from shards.shard_errors import TargetNotEmpty

__all__ = ["new_folder"]


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Gives a folder beside `out` to write into; it is renamed to `out` at the end, or removed after an error.

    What a killed attempt left is removed by the next one.

    Raises:
        TargetNotEmpty: `out` holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TargetNotEmpty(out)
    out = out.absolute()
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
