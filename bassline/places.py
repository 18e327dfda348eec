"""Sets that are not on this disk, for commands that know only folders: fetched before, sent after.

A command's argument of such a place is parsed to a `Source` or `Target`; `resolved` puts a local folder in its stead
while the command runs. So every command takes `s3://bucket/set` wherever it takes a set, and none knows of it.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from shards.address import check_address, local_path, scrub
from shards.errors import BasslineError, ConfigError

__all__ = ["Source", "Target", "is_elsewhere", "lazy", "raw", "renamed", "resolved", "shown", "target", "whole"]

_COLLAPSED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]")  # what a Path makes of s3://bucket
_SHOWN: dict[Path, str] = {}
_FETCHED: set[Path] = set()  # of those, what stands for a place that was read


@dataclass(frozen=True, slots=True)
class Source:
    """An address to read from. kind: "whole", "lazy" (tars as they are read) or "raw" (damage and all)."""

    address: str
    kind: str


@dataclass(frozen=True, slots=True)
class Target:
    """An address to write a set or split to."""

    address: str


def _source(text: str, kind: str) -> Any:
    # what is wrong with an address is told when the command runs: the parser's errors are not caught
    return local_path(text) or Source(text.rstrip("/"), kind)


def whole(text: str) -> Any:
    """A set or split that must be here as a whole: a Path, or a Source."""
    return _source(text, "whole")


def lazy(text: str) -> Any:
    """A set or split that is only looked at: a Path, or a Source."""
    return _source(text, "lazy")


def raw(text: str) -> Any:
    """A set to be checked, damage and all: a Path, or a Source."""
    return _source(text, "raw")


def target(text: str) -> Any:
    """Where a set or split is written to: a Path, or a Target."""
    return local_path(text) or Target(text.rstrip("/"))


def shown(folder: Path) -> str:
    """How to name a folder to a person: the address it stands for, if it does."""
    if folder in _SHOWN:
        return _SHOWN[folder]
    if (folder / ".origin.json").is_file():
        from shards.remote import shown as address_of

        return address_of(folder)
    return str(folder)


def renamed(text: str) -> str:
    """A message with addresses in place of the folders that stand for them."""
    for folder in _FETCHED:
        text = text.replace(str(folder), _SHOWN[folder])
    return text


def is_elsewhere(folder: Path) -> bool:
    """Whether the folder only stands for a set in a store."""
    return (folder / ".origin.json").is_file() or folder in _SHOWN


@contextmanager
def resolved(arguments: dict[str, Any], stage: Callable[[str], Any]) -> Iterator[dict[str, Any]]:
    """The arguments with local folders for places elsewhere; when the block ends well, targets are sent.

    Args:
        arguments: of a command, by name.
        stage: draws progress, as `console.stage`.

    Raises:
        ConfigError: an address where only a local path is taken.
        ShardError: what goes wrong on the way.
    """
    with ExitStack() as stack:

        def here(value: Any) -> Any:
            if isinstance(value, Source):
                return stack.enter_context(_fetched(value, stage))
            if isinstance(value, Target):
                return stack.enter_context(_sent(value, stage))
            if isinstance(value, list):
                return [here(item) for item in value]
            if isinstance(value, Path) and _COLLAPSED.match(str(value)) and not value.exists():
                text = scrub(str(value).replace(":/", "://", 1))
                remedy = "give a local path; `bassline shards copy` carries sets to and from stores"
                raise ConfigError(text, "", f"an address is not taken here: {remedy}")
            return value

        # targets first: that one is taken should be told before a large source is fetched
        order = sorted(arguments, key=lambda name: not isinstance(arguments[name], Target))
        made = {name: here(arguments[name]) for name in order}
        yield made


def _fetched_to(folder: Path, address: str) -> None:
    _SHOWN[folder] = scrub(address)
    _FETCHED.add(folder)


@contextmanager
def _fetched(source: Source, stage: Callable[[str], Any]) -> Iterator[Path]:
    from shards import remote

    check_address(source.address)
    if source.kind == "lazy":
        folder = remote.stand_in(source.address)
        _fetched_to(folder, source.address)
        yield folder
        return
    with ExitStack() as stack:
        with stage("fetch") as bar:
            folder = stack.enter_context(
                remote.whole(
                    source.address,
                    raw=source.kind == "raw",
                    on_progress=lambda at: bar.update(at.done, at.total, f"{at.done / 1e6:,.0f} MB"),
                )
            )
            bar.summary = scrub(source.address)
        _fetched_to(folder, source.address)
        yield folder


@contextmanager
def _sent(goal: Target, stage: Callable[[str], Any]) -> Iterator[Path]:
    from shards.cache import CacheConfig
    from shards.copy import check_target, copy

    check_target(goal.address)
    name = hashlib.sha256(goal.address.encode()).hexdigest()[:20]
    staging = CacheConfig.from_environment().folder / "staging" / name
    shutil.rmtree(staging, ignore_errors=True)  # of an attempt that was killed
    staging.mkdir(parents=True, mode=0o700)
    folder = staging / (goal.address.rpartition("/")[2] or "set")
    _SHOWN[folder] = scrub(goal.address)
    try:
        yield folder
    except typer.Exit:
        pass  # a command that says by its exit code what it found has written what it writes
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    if folder.is_dir():
        try:
            with stage("send") as bar:
                done = copy(
                    folder,
                    goal.address,
                    on_progress=lambda at: bar.update(at.done, at.total, f"{at.done / 1e6:,.0f} MB"),
                )
                bar.summary = f"{done.files:,} files, {done.bytes / 1e6:,.1f} MB to {scrub(goal.address)}"
        except BasslineError as error:
            raise Unsent(
                f"{error}; what was made is kept: `bassline shards copy {folder} {scrub(goal.address)}` sends it"
            ) from None
    shutil.rmtree(staging, ignore_errors=True)


class Unsent(BasslineError):
    """A set was made but could not be sent; it is kept here."""
