"""What every conversion has in common: its result, its progress, and work on several cores in a fixed order."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shards.shard_set import ShardSet

__all__ = ["Conversion", "ConvertProgress", "Dropped", "Exported", "in_order", "left_out_note"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file that is not in the set: its path below the source, and why ("not an image", "duplicate of ...")."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConvertProgress:
    """How far a conversion is, in files or samples; `total` 0: not known."""

    done: int
    total: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Conversion:
    """The new set, opened; every file that did not get into it; and what else is to be said, a line each."""

    made: ShardSet
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exported:
    """What a set became: its folder, the number of samples, and what is to be said, a line each."""

    folder: Path
    samples: int
    notes: tuple[str, ...] = ()


def left_out_note(members: Counter[str]) -> tuple[str, ...]:
    """What is said of members that did not come along, by extension; nothing if there are none."""
    what = ", ".join(f"{count:,} .{ext}" for ext, count in members.most_common(8))
    return (f"members beside the pictures were left out: {what}",) if what else ()


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Iterator[tuple[Item, Result]]:
    """(item, function(item)) in the order of the items, on threads: Pillow and hashing work without the GIL.

    At most four items a thread are under way, so memory does not grow with their number.
    """
    count = workers or min(8, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(count, "shards-convert")
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > 4 * count:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
