"""What happened between two sets: samples that came, went, changed their picture, their label or only their key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from shards.pages import Pages
from shards.shard_set import ShardSet

__all__ = ["Diff", "Entry", "Pair", "diff"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A sample as a difference names it; `url` is its image's, `product_url` and `title` "" if it has none."""

    key: str
    label: str
    sha256: str
    url: str
    product_url: str
    title: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A sample of both sets, and what it was known again by: "key", "bytes", "url" or "product_url"."""

    before: Entry
    after: Entry
    by: str


@dataclass(frozen=True, slots=True)
class Diff:
    """The difference between two sets, in the order of keys.

    Args:
        same: samples with the same bytes and label, whatever their key.
        added, removed: samples of one set only.
        changed: the same key, image URL or product URL, but other bytes.
        relabelled: another label; a sample that also changed its bytes is in both lists.
        rekeyed: the same bytes under another key.
        labels_added, labels_removed: label names of one set only.
    """

    same: int
    added: tuple[Entry, ...]
    removed: tuple[Entry, ...]
    changed: tuple[Pair, ...]
    relabelled: tuple[Pair, ...]
    rekeyed: tuple[Pair, ...]
    labels_added: tuple[str, ...]
    labels_removed: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether the sets differ in anything but keys and order."""
        return bool(
            self.added or self.removed or self.changed or self.relabelled or self.labels_added or self.labels_removed
        )

    def counts(self) -> dict[str, int]:
        """How many of each."""
        names = ("added", "removed", "changed", "relabelled", "rekeyed")
        return {"same": self.same} | {name: len(getattr(self, name)) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Counts and lists, as `bassline shards diff --json` prints them."""
        return {"different": bool(self), "counts": self.counts()} | {
            name: value for name, value in asdict(self).items() if name != "same"
        }


def diff(before: ShardSet, after: ShardSet, on_progress: Callable[[int, int], None] | None = None) -> Diff:
    """Compares two opened sets by key, bytes and address, in that order; every sample finds at most one partner.

    A crawl names samples by their bytes, so that a shop's new photograph of a product has a new key: it is known again
    by its image URL, else by its product URL. Where several samples share an address, they pair up in order of key.
    Costs one pass over the bytes of both sets; sets of equal digest and labels are not read.

    Args:
        before, after: opened sets.
        on_progress: called with samples read and samples in all.

    Raises:
        ShardError: a sample's JSON is none.
    """
    added = tuple(name for name in after.labels if name not in before.labels)
    removed = tuple(name for name in before.labels if name not in after.labels)
    if before.digest == after.digest and before.labels == after.labels:
        return Diff(len(before), (), (), (), (), (), (), ())
    total = len(before) + len(after)
    old = _entries(before, lambda done: on_progress(done, total) if on_progress else None)
    new = _entries(after, lambda done: on_progress(len(before) + done, total) if on_progress else None)
    pairs: list[Pair] = []
    for by in ("key", "bytes", "url", "product_url"):
        pairs += _matched(old, new, by)
    pairs.sort(key=lambda pair: pair.before.key)
    return Diff(
        same=sum(p.before.sha256 == p.after.sha256 and p.before.label == p.after.label for p in pairs),
        added=tuple(new.values()),
        removed=tuple(old.values()),
        changed=tuple(pair for pair in pairs if pair.before.sha256 != pair.after.sha256),
        relabelled=tuple(pair for pair in pairs if pair.before.label != pair.after.label),
        rekeyed=tuple(p for p in pairs if p.before.sha256 == p.after.sha256 and p.before.key != p.after.key),
        labels_added=added,
        labels_removed=removed,
    )


def _entries(source: ShardSet, on_progress: Callable[[int], None]) -> dict[str, Entry]:
    """Every sample by key, in order of key."""
    found = {}
    pages = Pages(source)
    labels = [source.labels[label] for label in source.label_ids.tolist()]
    for i, label in enumerate(labels):
        image, meta, key = source.image(i), source.meta(i), source.key(i)
        address = (str(meta.get(name) or "") for name in ("image_url", "product_url", "title"))
        found[key] = Entry(key, label, hashlib.sha256(image).hexdigest(), *address)
        pages.count(len(image))
        if not (i + 1) % 1024:
            on_progress(i + 1)
    return dict(sorted(found.items()))


_NAMES: dict[str, Callable[[Entry], Hashable]] = {
    "key": lambda entry: entry.key,
    "bytes": lambda entry: entry.sha256,
    "url": lambda entry: entry.url,
    "product_url": lambda entry: entry.product_url,
}


def _matched(old: dict[str, Entry], new: dict[str, Entry], by: str) -> Iterator[Pair]:
    """Takes the pairs that share a name out of both."""
    waiting: dict[Hashable, list[Entry]] = {}
    for entry in _reversed(old.values()):
        waiting.setdefault(_NAMES[by](entry), []).append(entry)
    for entry in list(new.values()):
        name = _NAMES[by](entry)
        if name and waiting.get(name):
            partner = waiting[name].pop()  # the first by key: they were put in backwards
            del old[partner.key], new[entry.key]
            yield Pair(partner, entry, by)


def _reversed(entries: Iterable[Entry]) -> list[Entry]:
    return list(entries)[::-1]
