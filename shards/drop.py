"""A set without some of its samples, and an account of them: what was dropped is known by key, rule and reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.duplicates import DEFAULT_DISTANCE, groups
from shards.errors import ConfigError
from shards.files import write_atomic
from shards.new_folder import new_folder
from shards.pages import Pages
from shards.rules import Rule
from shards.sample import Sample
from shards.shard_set import ShardSet
from shards.split import hashes_of
from shards.writer import MAX_SAMPLES, write_set

__all__ = ["DROPS_NAME", "DropProgress", "Dropped", "Dropping", "drop", "read_keys"]

DROPS_NAME = "drops.jsonl"
"""One JSON object a line; a crawl writes the same file, and its lines are carried over."""


@dataclass(frozen=True, slots=True)
class DropProgress:
    """How far it is: stage "read" (JSON for rules), "hash" or "write"; samples done and in all."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """A sample that is not in the new set: its number in the old one, key, label, and what decided it."""

    index: int
    key: str
    label: str
    detail: str


@dataclass(frozen=True, slots=True)
class Dropping:
    """The new set, opened, and what is not in it. `torn`: groups of near-duplicates with several labels."""

    made: ShardSet
    dropped: tuple[Dropped, ...]
    torn: int = 0


def read_keys(path: Path) -> dict[str, str]:
    """Keys from a file, with the note of each.

    A line is a key, or a key, a tab and a note, or a JSON object with "key" (and "detail"); "#" begins a comment.
    `bassline shards suspects` lets a person save such a file.

    Raises:
        ConfigError: a line is none of these; names file and line.
    """
    keys: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "", f"not UTF-8 text: {error}; expected one key a line") from None
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("{"):
            try:
                told = json.loads(text)
                key, note = str(told["key"]), str(told.get("detail") or "")
            except (ValueError, KeyError):
                raise ConfigError(str(path), f"line {number}", 'expected a JSON object with "key"') from None
        else:
            key, _, note = (part.strip() for part in text.partition("\t"))
        if not key or re.search(r"\s", key):
            raise ConfigError(str(path), f"line {number}", f"{text[:60]!r}; expected a key, or key, tab, note")
        keys.setdefault(key, note)
    return keys


def drop(
    source: ShardSet,
    out: Path,
    *,
    reason: str,
    keys: Mapping[str, str] | Sequence[str] = (),
    keys_from: str = "keys",
    rules: Sequence[Rule] = (),
    near_duplicates: bool = False,
    distance: int = DEFAULT_DISTANCE,
    allow_missing: bool = False,
    forget_empty_labels: bool = False,
    shard_samples: int = MAX_SAMPLES,
    on_progress: Callable[[DropProgress], None] | None = None,
) -> Dropping:
    """Writes `out`, the set without the samples that any of `keys`, `rules` and `near_duplicates` means.

    The rest keep their order, bytes, JSON and group. `out`/drops.jsonl has a line for every sample dropped (and before
    it what `source`/drops.jsonl had); the manifest's source says reason, rules and where the set came from.

    Args:
        source: an opened set.
        out: absent or an empty folder; it appears whole or not at all.
        reason: why, in the words of whoever decides it.
        keys: samples by key, with a note each if it is a mapping.
        keys_from: where the keys come from, for errors and the account.
        rules: of `shards.rules.parse`; a sample that one of them means is dropped.
        near_duplicates: of what is left, keep one of each group and label: the one with the most pixels, then the
            most bytes, then the first by key. A group with several labels keeps one of each: which label is right is
            for a person to say.
        distance: of near-duplicates, in bits.
        allow_missing: pass over keys that the set has not.
        forget_empty_labels: leave out labels that have no samples left, and number the others anew.
        shard_samples: samples a shard.

    Raises:
        ConfigError: a key or a label is not in the set, or nothing would be left.
        TargetNotEmpty: `out` holds something.
    """
    total = len(source)
    report = on_progress or (lambda progress: None)
    why: dict[int, str] = {}
    missing = []
    notes = keys if isinstance(keys, Mapping) else dict.fromkeys(keys, "")
    for key, note in notes.items():
        found = source.find(key)
        if found is None:
            missing.append(key)
        else:
            why[found] = note or keys_from
    if missing and not allow_missing:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise ConfigError(keys_from, missing[0], f"no sample of the set has this key{more}; is it a list of this set?")
    for rule in rules:
        meant = rule.matches(source, lambda done: report(DropProgress("read", done, total)))
        for i in np.flatnonzero(meant).tolist():
            why.setdefault(i, str(rule))
    torn = 0
    if near_duplicates:
        doubles, torn = _doubles(source, np.array(sorted(why), np.int64), distance, report)
        why |= doubles
    if total and len(why) == total:
        raise ConfigError("shards drop", "", f"all {total:,} samples are meant; nothing would be left")
    gone = np.zeros(total, bool)
    gone[list(why)] = True
    kept = np.flatnonzero(~gone)
    dropped = tuple(Dropped(i, source.key(i), source.labels[source.label_ids[i]], why[i]) for i in sorted(why))
    left = np.bincount(source.label_ids[kept], minlength=len(source.labels))
    stay = [n for n in range(len(source.labels)) if left[n] or not forget_empty_labels]
    number_of = {old: new for new, old in enumerate(stay)}
    pages = Pages(source)

    def samples() -> Iterator[Sample]:
        for done, i in enumerate(kept.tolist(), 1):
            sample = source.sample(i)
            meta = sample.meta | {"group": int(source.groups[i])}  # a crawl keeps it in its index only
            yield replace(sample, label=number_of[sample.label], meta=meta)
            pages.count(len(sample.image))
            if not done % 256:
                report(DropProgress("write", done, len(kept)))

    about = {
        "kind": "drop",
        "of": source.digest,
        "reason": reason,
        "rules": [str(rule) for rule in rules],
        "keys": len(notes),
        "near_duplicates": near_duplicates,
        "dropped": len(dropped),
        "was": source.manifest.source,
    }
    with new_folder(out) as beside:
        labels = [source.labels[n] for n in stay]
        split = source.manifest.split
        write_set(beside, samples(), labels, source=about, split=split, shard_samples=shard_samples).close()
        write_atomic(beside / DROPS_NAME, _account(source, dropped, reason))
    return Dropping(ShardSet.open(out), dropped, torn)


def _doubles(
    source: ShardSet, gone: NDArray[np.int64], distance: int, report: Callable[[DropProgress], None]
) -> tuple[dict[int, str], int]:
    """Of every group and label, all but the best: what is dropped by number, and how many groups have many labels."""
    total = len(source)
    hashes, _ = hashes_of(source, lambda done: report(DropProgress("hash", done, total)))
    left = np.setdiff1d(np.arange(total), gone)
    group_ids = groups(hashes[left], distance)
    pixels = source.widths * source.heights
    order = np.lexsort((source.index.keys[left], -source.sizes[left], -pixels[left], source.label_ids[left], group_ids))
    best: dict[tuple[int, int], int] = {}
    doubles = {}
    for place in order.tolist():
        i, group = int(left[place]), int(group_ids[place])
        first = best.setdefault((group, int(source.label_ids[i])), i)
        if first != i:
            doubles[i] = f"near-duplicate of {source.key(first)}"
    labels_of = np.bincount([group for group, _ in best]) if best else np.zeros(0, np.int64)
    return doubles, int((labels_of > 1).sum())


def _account(source: ShardSet, dropped: Sequence[Dropped], reason: str) -> Iterator[bytes]:
    """The lines of drops.jsonl: what the set's own said, then this time's; the names are those of a crawl's."""
    before = source.folder / DROPS_NAME
    if before.is_file():
        with before.open("rb") as file:
            for line in file:
                yield line if line.endswith(b"\n") else line + b"\n"
    for one in dropped:
        meta: dict[str, Any] = source.meta(one.index)
        told = {
            "url": meta.get("image_url"),
            "product_url": meta.get("product_url"),
            "label": one.label,
            "reason": reason,
            "detail": one.detail,
            "title": meta.get("title"),
            "key": one.key,
            "sha256": meta.get("sha256"),
            "of": source.digest,
        }
        yield json.dumps(told, ensure_ascii=False).encode() + b"\n"
