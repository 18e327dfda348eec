"""Pictures in label folders become a shard set: the layout everybody has, and one bad file must not cost the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shards.decodable import problem_of
from shards.errors import ConfigError
from shards.sample import Sample, sniff
from shards.shard_set import ShardSet
from shards.writer import MAX_SAMPLES, write_set

__all__ = ["Conversion", "ConvertProgress", "Dropped", "from_folders"]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file that is not in the set: its path below the source, and why ("not an image", "duplicate of ...")."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConvertProgress:
    """How far a conversion is, in files."""

    done: int
    total: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Conversion:
    """The new set, opened, and every file that did not get into it."""

    made: ShardSet
    dropped: tuple[Dropped, ...]


def from_folders(
    source: Path,
    out: Path,
    *,
    split: str | None = None,
    keep_duplicates: bool = False,
    shard_samples: int = MAX_SAMPLES,
    on_progress: Callable[[ConvertProgress], None] | None = None,
) -> Conversion:
    """Writes the shard set `out` from the folders of `source`: each is a label, every file below it a sample.

    Labels and files are taken in order of name; hidden ones are passed over. The image bytes are kept as they are, and
    the type is told by content, never by name. Keys are the first 20 hex digits of the bytes' sha256.

    Args:
        source: a folder of label folders.
        out: absent or an empty folder.
        split: name of the part, if the set is one.
        keep_duplicates: keep files with equal bytes too, under the first one's key with a number after it.
        shard_samples: samples a shard.
        on_progress: called after every file.

    Raises:
        ConfigError: there are no label folders with files.
        TargetNotEmpty: `out` holds something.
    """
    folders = sorted(path for path in source.glob("*") if path.is_dir() and not path.name.startswith("."))
    files = [(label, path) for label, folder in enumerate(folders) for path in _files(folder)]
    if not files:
        raise ConfigError(str(source), "", "expected a folder of label folders with images in them")
    dropped: list[Dropped] = []
    seen: dict[str, list[str]] = {}

    def samples() -> Iterator[Sample]:
        for done, (label, path) in enumerate(files, 1):
            name = path.relative_to(source).as_posix()
            try:
                data = path.read_bytes()
                problem = problem_of(data)
            except OSError as error:
                data, problem = b"", f"cannot be read: {error.strerror}"
            sha256 = hashlib.sha256(data).hexdigest()
            key = sha256[:20]
            if problem is None:
                same = seen.setdefault(key, [])
                if same and not keep_duplicates:
                    problem = f"duplicate of {same[0]}"
                elif same:
                    key = f"{key}-{len(same)}"
                same.append(name)
            if problem is None:
                meta = {"label": folders[label].name, "file": name, "sha256": sha256}
                yield Sample(key, data, sniff(data) or "", label, meta)
            else:
                dropped.append(Dropped(name, problem))
            if on_progress:
                on_progress(ConvertProgress(done, len(files), len(dropped)))

    made = write_set(
        out,
        samples(),
        [folder.name for folder in folders],
        source={"kind": "folders", "name": source.name, "files": len(files)},
        split=split,
        shard_samples=shard_samples,
    )
    return Conversion(made, tuple(dropped))


def _files(folder: Path) -> list[Path]:
    below = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in below if not any(p.startswith(".") for p in path.relative_to(folder).parts))
