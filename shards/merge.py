"""Several sets become one: several shops, several crawls. The same bytes are one sample, and each place it was is kept.

Two sets may call the same thing by two names (labels are mapped), and two things by one (a key that stands for other
bytes in another set gets a suffix from its own bytes, the same in whatever order sets are merged).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shards.drop import DROPS_NAME
from shards.duplicates import DEFAULT_DISTANCE, groups
from shards.errors import ConfigError
from shards.files import write_atomic
from shards.new_folder import new_folder
from shards.pages import Pages
from shards.sample import Sample
from shards.shard_errors import ShardError
from shards.shard_set import ShardSet
from shards.split import hashes_of
from shards.toml_file import StrictModel
from shards.writer import MAX_SAMPLES, write_set

__all__ = ["MergeFile", "MergeProgress", "Merging", "label_map", "merge", "names_of"]

_SUFFIX = 12  # hex digits of the sha256 after a key that stands for several images
_KEY = 95
_NOT_PROVENANCE = frozenset({"label", "sha256", "dhash", "group", "origins"})


class MergeFile(StrictModel):
    """A file of label maps.

    Args:
        labels: old name to new, for every set; "" leaves the label out.
        sets: the same by name of a set: the end of its path, as short as tells the sets apart.
    """

    labels: dict[str, str] = Field(default={})
    sets: dict[str, dict[str, str]] = Field(default={})


@dataclass(frozen=True, slots=True)
class MergeProgress:
    """How far it is: stage "hash" or "write"; samples done and in all."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Merging:
    """The new set, opened, and what became of the samples.

    Args:
        made: the merged set.
        same_bytes: samples that were in the set already, byte for byte.
        near_across: groups of near-duplicates with samples of more than one of the sets.
        conflicts: images that have several labels after mapping, and are left out.
        unmapped: samples whose label was mapped to nothing, and are left out.
        renamed: keys that stood for several images: the new key of each sample that lost it, by (set, key).
    """

    made: ShardSet
    same_bytes: int
    near_across: int
    conflicts: int
    unmapped: int
    renamed: dict[tuple[str, str], str]


@dataclass(slots=True)
class _Image:
    """An image of the new set and everywhere it is: (set, number) each."""

    places: list[tuple[int, int]] = field(default_factory=list)
    labels: set[str | None] = field(default_factory=set)
    key: str = ""


def names_of(places: Sequence[Path | str]) -> list[str]:
    """A name for each set: the end of its path or address, as short as tells them apart; one named twice has one."""
    whole = [place.absolute() if isinstance(place, Path) else PurePosixPath(place) for place in places]
    for length in range(1, max((len(path.parts) for path in whole), default=1) + 1):
        names = ["/".join(path.parts[-length:]) for path in whole]
        if len(set(names)) == len(set(whole)):
            return names
    return [str(path) for path in whole]


def label_map(
    sources: Sequence[ShardSet],
    names: Sequence[str],
    mapping: Mapping[str, str],
    by_set: Mapping[str, Mapping[str, str]],
) -> list[dict[str, str | None]]:
    """For every set, the new name of each of its labels; None: left out.

    Args:
        sources, names: the sets and what they are called.
        mapping: old name to new for every set; "" leaves the label out.
        by_set: the same by name of the set; goes before `mapping`.

    Raises:
        ConfigError: a label or a set is named that there is not.
    """
    everything = {label for source in sources for label in source.labels}
    for label in mapping:
        if label not in everything:
            raise ConfigError("labels", label, f"no set has this label; there are {', '.join(sorted(everything))}")
    for name, own in by_set.items():
        if name not in names:
            raise ConfigError("sets", name, f"no such set; there are {', '.join(names)}")
        known = sources[list(names).index(name)].labels
        for label in own:
            if label not in known:
                raise ConfigError(f"sets.{name}", label, f"no such label; it has {', '.join(known)}")
    return [
        {label: ({**mapping, **by_set.get(name, {})}.get(label, label) or None) for label in source.labels}
        for source, name in zip(sources, names, strict=True)
    ]


def merge(
    sources: Sequence[ShardSet],
    out: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    by_set: Mapping[str, Mapping[str, str]] | None = None,
    names: Sequence[str] | None = None,
    distance: int = DEFAULT_DISTANCE,
    shard_samples: int = MAX_SAMPLES,
    on_progress: Callable[[MergeProgress], None] | None = None,
) -> Merging:
    """Writes `out`: every image of the sets once, in their order, under one list of labels.

    An image that is in several sets, or twice in one, becomes one sample with the smallest of its keys; its JSON is
    the first's, and `origins` lists set, digest, key, label and provenance of each. Sets that are merges already give
    their origins, so that merging again changes nothing. An image with several labels is left out, as a crawl does: its
    lines in drops.jsonl say "label-conflict". A key that stands for several images stays with the one of the smallest
    sha256. Groups of near-duplicates are found anew over all sets.

    Args:
        sources: opened sets; the order decides the order of samples and labels, and nothing else.
        out: absent or an empty folder; it appears whole or not at all.
        mapping, by_set: labels; `label_map` says how.
        names: of the sets, kept in `origins`; `names_of` their folders if absent.
        distance: of near-duplicates, in bits.
        shard_samples: samples a shard.

    Raises:
        ConfigError: a mapping names what there is not, or nothing is left.
        TargetNotEmpty: `out` holds something.
    """
    names = list(names) if names is not None else names_of([source.folder for source in sources])
    if not sources or len(names) != len(sources):
        raise ConfigError("merge", "", f"{len(names)} names for {len(sources)} sets; expected one or more sets")
    report = on_progress or (lambda progress: None)
    maps = label_map(sources, names, mapping or {}, by_set or {})
    images, hashes = _images(sources, maps, report)
    conflicts = {digest for digest, image in images.items() if len(image.labels - {None}) > 1}
    dropped = {digest for digest, image in images.items() if image.labels == {None}}
    kept = {digest: image for digest, image in images.items() if digest not in conflicts | dropped}
    if not kept:
        raise ConfigError("merge", "", "not one sample is left; see the mapping of labels")
    renamed = _name_apart(sources, names, kept)
    labels = list(dict.fromkeys(new for one in maps for new in one.values() if new is not None))
    first = [image.places[0] for image in kept.values()]
    group_ids = groups(np.stack([hashes[s][i] for s, i in first]), distance)
    near_across = _across(group_ids, list(kept.values()))
    number_of = {label: number for number, label in enumerate(labels)}
    pages = [Pages(source) for source in sources]

    def samples() -> Iterator[Sample]:
        for done, (digest, image) in enumerate(kept.items()):
            where, i = image.places[0]
            label = next(label for label in image.labels if label is not None)
            meta = sources[where].meta(i) | {
                "label": label,
                "sha256": digest.hex(),
                "group": int(group_ids[done]),
                "origins": _origins(sources, names, image),
            }
            data = bytes(sources[where].image(i))
            pages[where].count(len(data))
            yield Sample(image.key, data, sources[where].ext(i), number_of[label], meta, sources[where].others(i))
            if not (done + 1) % 256:
                report(MergeProgress("write", done + 1, len(kept)))

    made_of = [
        {"name": name, "digest": source.digest, "samples": len(source), "labels": labels_of}
        for name, source, labels_of in zip(names, sources, maps, strict=True)
    ]
    same = sum(len(image.places) - 1 for image in kept.values())
    about = {"kind": "merge", "of": made_of, "same_bytes": same, "conflicts": len(conflicts), "renamed": len(renamed)}
    left_out = [(digest, image) for digest, image in images.items() if digest not in kept]
    with new_folder(out) as beside:
        write_set(beside, samples(), labels, source=about, shard_samples=shard_samples).close()
        write_atomic(beside / DROPS_NAME, _account(sources, names, maps, left_out, conflicts))
    return Merging(
        made=ShardSet.open(out),
        same_bytes=same,
        near_across=near_across,
        conflicts=len(conflicts),
        unmapped=sum(len(images[digest].places) for digest in dropped),
        renamed=renamed,
    )


def _images(
    sources: Sequence[ShardSet], maps: Sequence[Mapping[str, str | None]], report: Callable[[MergeProgress], None]
) -> tuple[dict[bytes, _Image], list[NDArray[np.uint8]]]:
    """Every image by sha256 in the order of the sets, and the dhashes of each set's samples."""
    images: dict[bytes, _Image] = {}
    hashes = []
    total, before = sum(map(len, sources)), 0
    for number, (source, labels_of) in enumerate(zip(sources, maps, strict=True)):
        hashes.append(hashes_of(source, lambda done, b=before: report(MergeProgress("hash", b + done, total)))[0])  # type: ignore[misc]
        before += len(source)
        pages = Pages(source)
        new_labels = [labels_of[label] for label in source.labels]
        for i, label in enumerate(source.label_ids.tolist()):
            data = source.image(i)
            image = images.setdefault(hashlib.sha256(data).digest(), _Image())
            image.places.append((number, i))
            image.labels.add(new_labels[label])
            pages.count(len(data))
    return images, hashes


def _name_apart(
    sources: Sequence[ShardSet], names: Sequence[str], images: Mapping[bytes, _Image]
) -> dict[tuple[str, str], str]:
    """Gives every image a key of its own; returns those that could not keep theirs."""
    for image in images.values():
        image.key = min(sources[s].key(i) for s, i in image.places)
    wanted = Counter(image.key for image in images.values())
    taken = set(wanted)
    renamed = {}
    owned: set[str] = set()
    for digest, image in sorted(images.items()):
        if wanted[image.key] == 1 or image.key not in owned:
            owned.add(image.key)
            continue
        where = next((s, i) for s, i in image.places if sources[s].key(i) == image.key)
        new = f"{image.key[: _KEY - 1 - _SUFFIX]}-{digest.hex()[:_SUFFIX]}"
        while new in taken:  # somebody named a key so: twelve digits do not meet by chance
            new = f"{new[: _KEY - 2]}-2"
        taken.add(new)
        renamed[(names[where[0]], image.key)] = image.key = new
    return renamed


def _origins(sources: Sequence[ShardSet], names: Sequence[str], image: _Image) -> list[dict[str, Any]]:
    """Where an image was found, each place once; a merge's own origins stand for it."""
    found: list[dict[str, Any]] = []
    for s, i in image.places:
        source = sources[s]
        meta = source.meta(i)
        before = meta.get("origins")
        own = {
            "set": names[s],
            "digest": source.digest,
            "key": source.key(i),
            "label": source.labels[int(source.label_ids[i])],
        }
        own |= {name: value for name, value in meta.items() if name not in _NOT_PROVENANCE and value is not None}
        found += before if isinstance(before, list) and before else [own]
    unique = {json.dumps(one, sort_keys=True): one for one in found}
    return list(unique.values())


def _across(group_ids: NDArray[np.int64], images: Sequence[_Image]) -> int:
    """Groups of several images that come from more than one set."""
    sets: dict[int, set[int]] = {}
    sizes = np.bincount(group_ids)
    for group, image in zip(group_ids.tolist(), images, strict=True):
        if sizes[group] > 1:
            sets.setdefault(group, set()).update(s for s, _ in image.places)
    return sum(len(found) > 1 for found in sets.values())


def _account(
    sources: Sequence[ShardSet],
    names: Sequence[str],
    maps: Sequence[Mapping[str, str | None]],
    left_out: Sequence[tuple[bytes, _Image]],
    conflicts: set[bytes],
) -> Iterator[bytes]:
    """The lines of drops.jsonl: what each set's own said, with its name, then what this merge left out."""
    carried: set[bytes] = set()
    for source, name in zip(sources, names, strict=True):
        path = source.folder / DROPS_NAME
        if not path.is_file():
            continue
        with path.open("rb") as file:
            for line in file:
                try:
                    told = {"set": name} | json.loads(line)
                except (TypeError, ValueError):
                    raise ShardError(f"{path}: a line is no JSON object: mend it, or remove the file") from None
                whole = json.dumps(told, ensure_ascii=False).encode() + b"\n"
                if whole not in carried:
                    carried.add(whole)
                    yield whole
    for digest, image in left_out:
        told_labels = ", ".join(sorted(label for label in image.labels if label is not None))
        for s, i in image.places:
            meta = sources[s].meta(i)
            label = sources[s].labels[int(sources[s].label_ids[i])]
            torn = digest in conflicts
            told = {
                "set": names[s],
                "url": meta.get("image_url"),
                "product_url": meta.get("product_url"),
                "label": label,
                "reason": "label-conflict" if torn else "label-left-out",
                "detail": f"its image has the labels {told_labels}" if torn else f"{label!r} is mapped to nothing",
                "title": meta.get("title"),
                "key": sources[s].key(i),
                "sha256": digest.hex(),
                "of": sources[s].digest,
            }
            yield json.dumps(told, ensure_ascii=False).encode() + b"\n"
