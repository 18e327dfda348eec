"""Train, validation and test: stratified, seeded, to the sample, and no picture on two sides.

Shops show one product in several colors and one photo for several products. Cut at random, some of the test set is in
the training set; `split.json` says how much that would have been.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.allot import allot, label_targets
from shards.duplicates import DEFAULT_DISTANCE, HASH_BITS, groups, hash_image
from shards.errors import ConfigError
from shards.folds import folds
from shards.new_folder import new_folder
from shards.pages import Pages
from shards.parts import RECIPE_NAME, SplitProgress, write_parts
from shards.read import permutation
from shards.recipe import part_names
from shards.shard_errors import TargetNotEmpty
from shards.shard_set import ShardSet
from shards.shuffle import MEMORY_BYTES
from shards.writer import MAX_SAMPLES

__all__ = ["RECIPE_NAME", "Split", "SplitProgress", "hashes_of", "leaks", "open_split", "split", "split_folds"]

PARTS = ("train", "val", "test")
_HASH_BYTES = HASH_BITS // 8
_BATCH, _BATCH_BYTES = 2048, 16 << 20  # samples, and their bytes, between two looks at the pages
_RUN = 64  # samples a thread takes at once
_NAIVE = "samples of each part with a near-duplicate in another part, were the parts cut without groups"


@dataclass(frozen=True, slots=True)
class Split:
    """A split on disk: its parts by name, opened, and what split.json says."""

    folder: Path
    parts: dict[str, ShardSet]
    recipe: dict[str, Any]


def split(
    source: ShardSet | Path,
    out: Path,
    *,
    counts: Sequence[int] | None = None,
    fractions: Sequence[float] | None = None,
    label_counts: Mapping[str, Sequence[int]] | None = None,
    names: Sequence[str] = PARTS,
    seed: int = 0,
    distance: int = DEFAULT_DISTANCE,
    shard_samples: int = MAX_SAMPLES,
    memory_bytes: int = MEMORY_BYTES,
    on_progress: Callable[[SplitProgress], None] | None = None,
) -> Split:
    """Writes out/<name>, a shard set a part, and out/split.json; the same arguments give the same bytes.

    Every part has exactly the number of samples asked for, of every label. Near-duplicates (`shards.duplicates.groups`)
    stay together, whatever their labels; samples get their group's number as "group" in their JSON. Samples are
    shuffled over each part; who goes where depends on the keys, not on the order they are stored in. Memory does not
    grow with the images: a set larger than `memory_bytes` is rewritten in two passes (`shards.shuffle`).

    Args:
        source: an opened set, or its folder.
        out: absent or an empty folder; it appears whole or not at all.
        counts: samples a part, such as (4500, 1500, 2000), shared among the labels in proportion.
        fractions: of the set a part, such as (0.6, 0.2, 0.2).
        label_counts: samples a part for each label, such as {"guitar": (3880, 1311, 1733), "bass": (620, 189, 267)}.
        names: of the parts, as many as there are numbers.
        seed: decides who goes where, and the order.
        distance: the largest number of differing bits of near-duplicates; 0: only equal hashes.
        shard_samples: samples a shard.
        memory_bytes: of samples held at a time.

    Raises:
        ConfigError: the numbers do not fit the set, or its groups do not fit the numbers; names the label, the part and
            what there is, and the nearest numbers that were found to fit.
        TargetNotEmpty: `out` holds something.
    """
    if isinstance(source, Path):
        with ShardSet.open(source) as opened:
            return split(
                opened,
                out,
                counts=counts,
                fractions=fractions,
                label_counts=label_counts,
                names=names,
                seed=seed,
                distance=distance,
                shard_samples=shard_samples,
                memory_bytes=memory_bytes,
                on_progress=on_progress,
            )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TargetNotEmpty(out)  # before the work, not after it
    _check_names(names)
    report = on_progress or (lambda progress: None)
    label_ids, total = source.label_ids, len(source)
    available = np.bincount(label_ids, minlength=len(source.labels))
    targets = label_targets(
        available, source.labels, names, counts=counts, fractions=fractions, label_counts=label_counts
    )
    hashes, unreadable = hashes_of(source, lambda done: report(SplitProgress("hash", done, total)))
    # A crawl stores samples as they arrive; by key, two crawls of one shop are cut, and shuffled, alike.
    by_key = np.argsort(source.index.keys, kind="stable")
    label_ids, hashes = label_ids[by_key], hashes[by_key]
    group_ids = groups(hashes, distance)
    report(SplitProgress("group", total, total))
    part = allot(label_ids, group_ids, targets, source.labels, names, seed)
    order = permutation(total, seed, 1)
    recipe = {
        "recipe": {
            "counts": list(counts) if counts is not None else None,
            "fractions": list(fractions) if fractions is not None else None,
            "label_counts": {label: list(row) for label, row in label_counts.items()} if label_counts else None,
            "names": list(names),
            "seed": seed,
            "distance": distance,
            "hash_bits": HASH_BITS,
        },
        "source": {"digest": source.digest, "samples": total, "counts": source.counts},
        "groups": _describe(group_ids, label_ids),
        "unreadable": unreadable,
        "left_out": _by_label(label_ids[part < 0], source.labels),
        "absent": _absent(targets, source.labels, names),
        "naive": {"leaked": leaks(_naive(label_ids, targets, seed), group_ids, names), "meaning": _NAIVE},
    }
    with new_folder(out) as beside:
        write_parts(
            source,
            beside,
            {name: by_key[order[part[order] == number]] for number, name in enumerate(names)},
            _by_sample(group_ids, by_key),
            recipe,
            shard_samples=shard_samples,
            memory_bytes=memory_bytes,
            on_progress=report,
        )
    return open_split(out)


def split_folds(
    source: ShardSet,
    out: Path,
    count: int,
    *,
    seed: int = 0,
    distance: int = DEFAULT_DISTANCE,
    shard_samples: int = MAX_SAMPLES,
    memory_bytes: int = MEMORY_BYTES,
    on_progress: Callable[[SplitProgress], None] | None = None,
) -> list[Split]:
    """Writes `count` splits for cross-validation, out/fold-0 and so on, each to be trained on as it is.

    The set is cut into `count` parts of one mix of labels, groups whole (`shards.folds`). Fold i tests on part i,
    selects its model on part i + 1 and trains on the rest, so that every sample is tested once. Takes `count` times the
    set's disk.

    Args:
        source: an opened set.
        out: absent or an empty folder; it appears whole or not at all.
        count: of folds, 3 or more.
        seed, distance, shard_samples, memory_bytes: as of `split`.

    Raises:
        ConfigError: fewer than 3 folds, or a fold would be empty.
        TargetNotEmpty: `out` holds something.
    """
    if count < 3:
        raise ConfigError(
            "split", "folds", f"{count}; expected 3 or more: one to test, one to select, the rest to train"
        )
    report = on_progress or (lambda progress: None)
    total = len(source)
    with new_folder(out) as beside:
        hashes, unreadable = hashes_of(source, lambda done: report(SplitProgress("hash", done, total)))
        by_key = np.argsort(source.index.keys, kind="stable")
        label_ids, group_ids = source.label_ids[by_key], groups(hashes[by_key], distance)
        report(SplitProgress("group", total, total))
        fold = folds(label_ids, group_ids, count, seed)
        if len(np.unique(fold)) < count:
            raise ConfigError(
                "split", "folds", f"{count}, but there are {len(set(group_ids.tolist()))} unlike images only"
            )
        order = permutation(total, seed, 1)
        for number in range(count):
            part = np.select([fold == number, fold == (number + 1) % count], [2, 1], 0)
            targets = np.column_stack(
                [np.bincount(label_ids[part == n], minlength=len(source.labels)) for n in range(3)]
            )
            recipe = {
                "recipe": {
                    "fold": number,
                    "folds": count,
                    "names": list(PARTS),
                    "seed": seed,
                    "distance": distance,
                    "hash_bits": HASH_BITS,
                },
                "source": {"digest": source.digest, "samples": total, "counts": source.counts},
                "groups": _describe(group_ids, label_ids),
                "unreadable": unreadable,
                "left_out": _by_label(label_ids[:0], source.labels),
                "absent": _absent(targets, source.labels, PARTS),
                "naive": {"leaked": leaks(_naive(label_ids, targets, seed), group_ids, PARTS), "meaning": _NAIVE},
            }
            write_parts(
                source,
                beside / f"fold-{number}",
                {name: by_key[order[part[order] == n]] for n, name in enumerate(PARTS)},
                _by_sample(group_ids, by_key),
                recipe,
                shard_samples=shard_samples,
                memory_bytes=memory_bytes,
                on_progress=lambda at, n=number: report(  # type: ignore[misc]
                    SplitProgress(at.stage, n * total + at.done, count * total)
                ),
            )
    return [open_split(out / f"fold-{number}") for number in range(count)]


def open_split(folder: Path) -> Split:
    """Opens what `split` wrote.

    Raises:
        FileNotFoundError: there is no split.json.
        ConfigError: it names no parts.
        ShardError: a part cannot be opened.
    """
    text = (folder / RECIPE_NAME).read_bytes()
    names = part_names(text, str(folder / RECIPE_NAME))
    return Split(folder, {name: ShardSet.open(folder / name) for name in names}, json.loads(text))


def hashes_of(
    source: ShardSet, on_progress: Callable[[int], None] | None = None
) -> tuple[NDArray[np.uint8], list[str]]:
    """The dhash of every image, uint8 (N, HASH_BITS / 8), and where unreadable images lie.

    A hash in the sample's JSON is taken where the JSON's sha256 is that of the image (a crawl writes both; 0.05 ms),
    and computed otherwise (0.6 ms). An unreadable image gets a hash of its bytes: equal ones stay together.
    """
    hashes = np.empty((len(source), _HASH_BYTES), np.uint8)
    unreadable: list[int] = []

    def one(i: int) -> None:
        data = bytes(source.image(i))
        if (known := _known_hash(source.meta(i), data)) is not None:
            hashes[i] = np.frombuffer(known, np.uint8)
            return
        try:
            found = hash_image(data)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            unreadable.append(i)
            found = hashlib.shake_256(data).digest(_HASH_BYTES)
        hashes[i] = np.frombuffer(found, np.uint8)

    def some(begin: int, end: int) -> None:
        for i in range(begin, min(begin + _RUN, end)):
            one(i)

    pages, sizes = Pages(source), source.sizes
    with ThreadPoolExecutor() as pool:  # Pillow decodes without the GIL
        begin, read = 0, np.concatenate([[0], np.cumsum(sizes)])
        while begin < len(source):  # batches: a future for every sample of a large set is 200 MB of futures
            end = int(np.searchsorted(read, read[begin] + _BATCH_BYTES, "right")) - 1
            end = min(max(end, begin + 1), begin + _BATCH)
            list(pool.map(some, range(begin, end, _RUN), [end] * len(range(begin, end, _RUN))))
            pages.count(int(read[end] - read[begin]))
            if on_progress:
                on_progress(end)
            begin = end
    return hashes, [str(source.where(i)) for i in sorted(unreadable)]


def _known_hash(meta: Mapping[str, Any], data: bytes) -> bytes | None:
    """The dhash that the sample's JSON has, if it is of this image and of this length."""
    text = meta.get("dhash")
    if not isinstance(text, str) or len(text) != 2 * _HASH_BYTES or not isinstance(meta.get("sha256"), str):
        return None
    if meta["sha256"] != hashlib.sha256(data).hexdigest():
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _check_names(names: Sequence[str]) -> None:
    """Names become folders: no path, none hidden, none twice."""
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}", name) or name == RECIPE_NAME:
            raise ConfigError("split", "names", f"{name!r}; expected letters, digits, _ and -, such as train")
    if len(set(names)) != len(names) or not names:
        raise ConfigError("split", "names", f"{', '.join(names) or 'none'}; expected one or more, each once")


def leaks(part: NDArray[np.int64], group_ids: NDArray[np.int64], names: Sequence[str]) -> dict[str, int]:
    """For each part the number of its samples that have a group-mate in another part.

    Args:
        part: part number of each sample, int64 (N,); -1: in none.
        group_ids: int64 (N,).
    """
    inside = part >= 0
    first = np.full(int(group_ids.max(initial=-1)) + 1, len(names), np.int64)
    last = np.full_like(first, -1)
    np.minimum.at(first, group_ids[inside], part[inside])
    np.maximum.at(last, group_ids[inside], part[inside])
    torn = inside & (first < last)[group_ids] if len(first) else inside
    return {name: int((torn & (part == number)).sum()) for number, name in enumerate(names)}


def _naive(label_ids: NDArray[np.int64], targets: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The parts as a stratified shuffle without groups would cut them."""
    part = np.full(len(label_ids), -1, np.int64)
    order = permutation(len(label_ids), seed, 2)
    for label, row in enumerate(targets):
        mine = order[label_ids[order] == label][: int(row.sum())]
        part[mine] = np.repeat(np.arange(len(row)), row)
    return part


def _absent(targets: NDArray[np.int64], labels: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """By part, the labels that other parts have and it has not: too rare, or not asked for."""
    found = {
        name: [label for label, row in zip(labels, targets, strict=True) if row.any() and not row[number]]
        for number, name in enumerate(names)
    }
    return {name: missing for name, missing in found.items() if missing}


def _by_sample(group_ids: NDArray[np.int64], by_key: NDArray[np.int64]) -> NDArray[np.int64]:
    """Group numbers in the order that samples are stored in."""
    found = np.empty_like(group_ids)
    found[by_key] = group_ids
    return found


def _describe(group_ids: NDArray[np.int64], label_ids: NDArray[np.int64]) -> dict[str, int]:
    sizes = np.bincount(group_ids)
    pairs = np.unique(np.column_stack([group_ids, label_ids]), axis=0)
    return {
        "groups": len(sizes),
        "of_several": int((sizes > 1).sum()),
        "samples_in_them": int(sizes[sizes > 1].sum()),
        "largest": int(sizes.max(initial=0)),
        "of_several_labels": int((np.bincount(pairs[:, 0]) > 1).sum()) if len(pairs) else 0,
    }


def _by_label(label_ids: NDArray[np.int64], labels: Sequence[str]) -> dict[str, int]:
    return dict(zip(labels, np.bincount(label_ids, minlength=len(labels)).tolist(), strict=True))
