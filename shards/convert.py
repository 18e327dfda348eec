"""Conversions, by what a source is: label folders, arrays, other people's tars, and sets of our own made anew."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from shards.arrays import DATA_NAME, LABELS_NAME, from_arrays, to_arrays
from shards.conversion import Conversion, ConvertProgress, Dropped, Exported, in_order, left_out_note
from shards.errors import ConfigError
from shards.files import write_atomic
from shards.folders import from_folders, to_folders
from shards.foreign import from_tars, is_tar_pattern
from shards.new_folder import new_folder
from shards.recipe import part_names
from shards.recode import Recode
from shards.sample import Sample
from shards.shard_set import MANIFEST_NAME, ShardSet
from shards.writer import MAX_SAMPLES, write_set

__all__ = [
    "Conversion",
    "ConvertProgress",
    "Dropped",
    "Exported",
    "Recode",
    "from_arrays",
    "from_folders",
    "from_set",
    "from_split",
    "from_tars",
    "kind_of",
    "to_arrays",
    "to_folders",
]


def kind_of(source: str) -> str:
    """What a source is: "set", "split", "arrays", "tars" or "folders".

    Raises:
        ConfigError: there is nothing, or nothing that can be converted.
    """
    path = Path(source)
    if source.endswith(".npy"):
        return "arrays"
    if is_tar_pattern(source) and not path.is_dir():
        return "tars"
    if not path.exists():
        raise ConfigError(source, "", "no such file or folder")
    if path.is_file():
        raise ConfigError(source, "", "expected a folder, a .npy array, or .tar files (as a pattern, if several)")
    for name, kind in ((MANIFEST_NAME, "set"), ("split.json", "split"), (DATA_NAME, "arrays")):
        if (path / name).is_file() and (kind != "arrays" or (path / LABELS_NAME).is_file()):
            return kind
    return "tars" if any(path.glob("*.tar")) else "folders"


def from_set(
    source: ShardSet,
    out: Path,
    *,
    recode: Recode | None = None,
    shard_samples: int = MAX_SAMPLES,
    on_progress: Callable[[ConvertProgress], None] | None = None,
) -> Conversion:
    """Writes the set anew, its pictures in another size, quality or format: keys, order, groups and provenance stay.

    Other members of the samples stay too; in another size only .txt does, and the notes say what was left out.

    Raises:
        TargetNotEmpty
    """
    recode = recode or Recode()
    dropped: list[Dropped] = []
    groups: dict[str, int] = {}
    left_out: Counter[str] = Counter()

    def make(i: int) -> tuple[Sample, bytes, str, str | None]:
        sample = source.sample(i)
        try:
            return sample, *recode.apply(sample.image), None
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            return sample, b"", "", f"cannot be decoded: {error}"

    def samples() -> Iterator[Sample]:
        for i, (sample, made, ext, problem) in in_order(make, range(len(source))):
            if problem is not None:
                dropped.append(Dropped(str(source.where(i)), problem))
            else:
                groups[sample.key] = int(source.groups[i])
                meta = recode.meta(sample.meta, sample.image, made)
                others = {name: data for name, data in sample.others.items() if recode.keeps(name, ext)}
                left_out.update(sample.others.keys() - others.keys())
                yield Sample(sample.key, made, ext, sample.label, meta, others)
            if on_progress:
                on_progress(ConvertProgress(i + 1, len(source), len(dropped)))

    made = write_set(
        out,
        samples(),
        source.labels,
        source={"kind": "recoded", "of": source.digest, "from": source.manifest.source, "recode": recode.about()},
        split=source.manifest.split,
        shard_samples=shard_samples,
        groups=groups,
    )
    return Conversion(made, tuple(dropped), left_out_note(left_out))


def from_split(
    source: Path,
    out: Path,
    *,
    recode: Recode | None = None,
    shard_samples: int = MAX_SAMPLES,
    on_progress: Callable[[ConvertProgress], None] | None = None,
) -> tuple[int, tuple[Dropped, ...]]:
    """Every part of a split made anew, the parts as they were cut: for runs that differ in the pictures alone.

    Returns:
        Samples written, and what could not be decoded.

    Raises:
        TargetNotEmpty, ConfigError: split.json names no parts.
    """
    recode = recode or Recode()
    path = source / "split.json"
    text = path.read_bytes()
    names, recipe = part_names(text, str(path)), json.loads(text)
    if not isinstance(recipe.get("parts"), dict):
        raise ConfigError(str(path), "parts", "expected an object; convert one part's folder, or split the set anew")
    count, dropped = 0, []
    with new_folder(out) as beside:
        for name in names:
            with ShardSet.open(source / name) as part:
                done = from_set(
                    part, beside / name, recode=recode, shard_samples=shard_samples, on_progress=on_progress
                )
                with done.made as made:
                    count += len(made)
                    recipe["parts"][name] = {"samples": len(made), "counts": made.counts, "digest": made.digest}
                dropped += [Dropped(f"{name}/{item.path}", item.reason) for item in done.dropped]
        recipe["recode"] = recode.about()
        write_atomic(beside / "split.json", [json.dumps(recipe, ensure_ascii=False, indent=1).encode(), b"\n"])
    return count, tuple(dropped)
