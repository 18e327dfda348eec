"""A tar whose digest is that which was indexed, held against its index in columns instead of sample by sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shards.columns import TOGETHER, Untouched, as_told
from shards.examine import Evidence

__all__ = ["Untouched", "untouched"]


def untouched(
    data: memoryview, path: Path, evidence: Evidence, on_samples: Callable[[int], None] | None = None
) -> Untouched | None:
    """What a tar holds, if all of it is as it should be; None if something is not, or cannot be told in this way.

    As it should be: the digest is that which was indexed, and `as_told` of its rows.

    Args:
        data: the whole tar, mapped.
        path: its name, for errors.
        evidence: what is known of it.
        on_samples: told how many samples were looked at, once all of them were.
    """
    if evidence.rows is None or evidence.index is None or evidence.labels is None or evidence.decode:
        return None
    numbers, index = evidence.rows, evidence.index
    some = (numbers[begin : begin + TOGETHER] for begin in range(0, len(numbers), TOGETHER))
    found = as_told(data, path, ((index.rows[each], index.keys[each]) for each in some), len(evidence.labels))
    if on_samples and found and found.samples:
        on_samples(len(found.samples))
    return found
