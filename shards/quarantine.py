"""Samples that a reader is to pass over, by name: a bad image costs itself, once, and every count stays exact."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from shards.files import write_atomic
from shards.shard_errors import QuarantineDamaged

__all__ = ["QUARANTINE_NAME", "Quarantined", "add_to_quarantine", "read_quarantine"]

QUARANTINE_NAME = "quarantine.jsonl"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A sample nobody is to be given: its key, where it lies ("shard-000000.tar@5321"), and why."""

    key: str
    where: str
    reason: str


def read_quarantine(folder: Path) -> dict[str, Quarantined]:
    """The set's quarantine by key; empty without one.

    Raises:
        QuarantineDamaged: the file is not lines of JSON with key, where and reason.
    """
    path = folder / QUARANTINE_NAME
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise QuarantineDamaged(path, 1, str(error)) from None
    found = {}
    for number, line in enumerate(lines, 1):
        try:
            told = json.loads(line)
            found[str(told["key"])] = Quarantined(
                str(told["key"]), str(told.get("where", "")), str(told.get("reason", ""))
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise QuarantineDamaged(path, number, repr(error)) from None
    return found


def add_to_quarantine(folder: Path, samples: Iterable[Quarantined]) -> int:
    """Adds samples to the set's quarantine; returns how many stand in it now. The file is the old or the new one."""
    known = read_quarantine(folder)
    for sample in samples:
        known.setdefault(sample.key, sample)
    lines = [json.dumps(asdict(sample), ensure_ascii=False).encode() + b"\n" for sample in known.values()]
    if lines:
        write_atomic(folder / QUARANTINE_NAME, lines)
    return len(known)
