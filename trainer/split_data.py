"""The three parts of a split, opened together and checked against each other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from shards.shard_set import ShardSet
from trainer.errors import LabelsDiffer, SplitIncomplete

__all__ = ["SplitData", "open_split"]


@dataclass(frozen=True, slots=True)
class SplitData:
    """A split's parts; digest changes with any byte of any shard."""

    train: ShardSet
    val: ShardSet
    test: ShardSet
    digest: str

    def close(self) -> None:
        """Lets go of the tars."""
        for part in (self.train, self.val, self.test):
            part.close()


def open_split(folder: Path) -> SplitData:
    """Opens `folder`/train, val and test.

    Raises:
        SplitIncomplete: a part is missing or empty.
        LabelsDiffer: the parts do not have the same labels in the same order.
        StaleIndex, ManifestMissing and others: as `ShardSet.open`.
    """
    parts = {}
    for name in ("train", "val", "test"):
        if not (folder / name).is_dir():
            raise SplitIncomplete(folder, name, "is missing")
        part = parts[name] = ShardSet.open(folder / name)
        if not len(part):
            raise SplitIncomplete(folder, name, "has no samples")
        if part.labels != parts["train"].labels:
            raise LabelsDiffer(folder, name, part.labels, parts["train"].labels)
    digests = "".join(part.digest for part in parts.values())
    return SplitData(**parts, digest=hashlib.sha256(digests.encode()).hexdigest()[:16])
