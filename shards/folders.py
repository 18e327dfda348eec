"""Label folders become a shard set, and a shard set label folders: the layout everybody has.

Beside the folders stands samples.jsonl, which keeps what a file alone cannot say: keys, provenance, groups, the order
of the labels. So a set that went out comes back the same, and a person may meanwhile delete pictures, or move them to
another folder: they then have that label.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.conversion import Conversion, ConvertProgress, Dropped, Exported, in_order
from shards.decodable import problem_of
from shards.errors import ConfigError, brief
from shards.files import as_text
from shards.new_folder import new_folder
from shards.recode import Recode
from shards.sample import KEY, Sample, sniff
from shards.shard_set import ShardSet
from shards.writer import MAX_SAMPLES, write_set

__all__ = [
    "SIDECAR_NAME",
    "Sidecar",
    "from_folders",
    "read_sidecar",
    "safe_name",
    "to_folders",
    "write_sidecar",
]

SIDECAR_NAME = "samples.jsonl"
_FORMAT = "bassline samples"
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_LONGEST = 200  # bytes of a file name, of the 255 that file systems take

Progress = Callable[[ConvertProgress], None]


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What samples.jsonl says.

    Args:
        labels: names of the labels by number.
        folders: the folder of each label.
        split: name of the part, if the set was one.
        source: what the set's manifest said of where it came from.
        rows: a sample's file (below the folder), key, sha256, label, group and meta, in order.
    """

    labels: tuple[str, ...]
    folders: tuple[str, ...]
    split: str | None
    source: dict[str, Any]
    rows: tuple[dict[str, Any], ...]


def read_sidecar(path: Path) -> Sidecar | None:
    """Reads samples.jsonl; None if there is none.

    Raises:
        ConfigError: it is not what `to_folders` writes; names the line.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    number = 1
    try:
        lines = text.decode().splitlines()
        about = json.loads(lines[0])
        if about["format"] != _FORMAT:
            raise ValueError("no such header")
        rows = []
        for line in lines[1:]:
            number += 1
            row = json.loads(line)
            if not (isinstance(row["file"], str) and isinstance(row["key"], str) and isinstance(row["meta"], dict)):
                raise TypeError("file, key or meta")
            rows.append({"sha256": None, "group": None, **row})
        return Sidecar(tuple(about["labels"]), tuple(about["folders"]), about["split"], about["source"], tuple(rows))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        remedy = "expected what `bassline shards convert --to` writes; remove it to convert the pictures without it"
        raise ConfigError(f"{path}:{number}", "", f"cannot be read ({brief(error)}); {remedy}") from None


def write_sidecar(path: Path, source: ShardSet, folders: list[str], rows: Iterator[dict[str, Any]]) -> int:
    """Writes samples.jsonl; returns the number of rows."""
    count = 0
    about = {
        "format": _FORMAT,
        "labels": list(source.labels),
        "folders": folders,
        "split": source.manifest.split,
        "source": source.manifest.source,
        "digest": source.digest,
    }
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(about, ensure_ascii=False) + "\n")
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")
            count += 1
        file.flush()
        os.fsync(file.fileno())
    return count


def from_folders(
    source: Path,
    out: Path,
    *,
    split: str | None = None,
    keep_duplicates: bool = False,
    recode: Recode | None = None,
    shard_samples: int = MAX_SAMPLES,
    on_progress: Progress | None = None,
) -> Conversion:
    """Writes the shard set `out` from the folders of `source`: each is a label, every file below it a sample.

    Labels and files are taken in order of name; hidden ones are passed over; links are followed, to each folder once.
    The image bytes are kept as they are, and the type is told by content, never by name. Keys are the first 20 hex
    digits of the bytes' sha256. A samples.jsonl of `to_folders` gives keys, provenance, groups and order back.

    Args:
        source: a folder of label folders.
        out: absent or an empty folder.
        split: name of the part, if the set is one.
        keep_duplicates: keep files with equal bytes too, under the first one's key with a number after it.
        recode: make the pictures anew; with a format asked for, what Pillow can read is taken too (GIF, BMP, TIFF...).
        shard_samples: samples a shard.
        on_progress: called after every file.

    Raises:
        ConfigError: there are no label folders with files, or samples.jsonl is none.
        TargetNotEmpty: `out` holds something.
    """
    recode = recode or Recode()
    told = read_sidecar(source / SIDECAR_NAME)
    folders = sorted(path for path in source.glob("*") if path.is_dir() and not path.name.startswith("."))
    labels = list(told.labels) if told else []
    number_of = {name: number for number, name in enumerate(told.folders)} if told else {}
    for folder in folders:
        if folder.name not in number_of:
            number_of[folder.name] = len(labels)
            labels.append(as_text(folder.name))
    dropped: list[Dropped] = []
    found = [(number_of[folder.name], path) for folder in folders for path in _files(folder, source, dropped)]
    if not found:
        raise ConfigError(str(source), "", "expected a folder of label folders with images in them")
    known = {row["file"]: (place, row) for place, row in enumerate(told.rows)} if told else {}
    by_digest = {row["sha256"]: row for row in told.rows} if told else {}
    # as they went out, then what is new in order of name
    found.sort(key=lambda file: known.get(as_text(file[1].relative_to(source).as_posix()), (len(known), None))[0])
    dropped += [
        Dropped(as_text(path.name), "beside the label folders: it has no label")
        for path in sorted(source.glob("*"))
        if path.is_file() and not path.name.startswith(".") and _is_image(path)
    ]
    seen: dict[str, list[str]] = {}
    keys: set[str] = set()
    groups: dict[str, int] = {}
    notes = {"edited": 0, "moved": 0}

    def read(file: tuple[int, Path]) -> tuple[bytes, str, str | None, bytes, str]:
        return _read(file[1], recode)

    def samples() -> Iterator[Sample]:
        for done, ((label, path), (data, sha256, problem, made, ext)) in enumerate(in_order(read, found), 1):
            name = as_text(path.relative_to(source).as_posix())
            row = known.get(name, (0, None))[1] or by_digest.get(sha256)
            if problem is None:
                same = seen.setdefault(sha256, [])
                kept = row is not None and row["file"] == name  # it was in the set, so it is no duplicate to drop
                if same and not keep_duplicates and not kept:
                    problem = f"duplicate of {same[0]}"
                same.append(name)
            if problem is not None:
                dropped.append(Dropped(name, problem))
            else:
                meta: dict[str, Any] = {"label": labels[label], "file": name, "sha256": sha256}
                key = sha256[:20]
                if row is not None and row["sha256"] in (None, sha256):
                    meta, key = dict(row["meta"]), row["key"]
                    if row.get("label") not in (None, labels[label]):
                        notes["moved"] += 1
                        meta |= {"label": labels[label], "label_was": row["label"]}
                    if not KEY.fullmatch(key):  # of other people's tars
                        meta, key = meta | {"key": key}, sha256[:20]
                elif row is not None:
                    notes["edited"] += 1
                    meta = dict(row["meta"]) | meta
                key = _free(key, keys)
                keys.add(key)
                if row is not None and row["group"] is not None:
                    groups[key] = row["group"]
                yield Sample(key, made, ext, label, recode.meta(meta, data, made))
            if on_progress:
                on_progress(ConvertProgress(done, len(found), len(dropped)))

    origin: dict[str, Any] = {"kind": "folders", "name": as_text(source.name), "files": len(found)}
    if told:
        origin = told.source if not recode.changes else {"kind": "folders", "of": told.source, "files": len(found)}
    if recode.changes:
        origin["recode"] = recode.about()
    made = write_set(
        out,
        samples(),
        labels,
        source=origin,
        split=split or (told.split if told else None),
        shard_samples=shard_samples,
        groups=groups if told else None,
    )
    said = {
        "edited": "files were edited since they went out; their new bytes are taken, with the old provenance",
        "moved": "files were moved to another folder; they have its label, and `label_was` in their JSON",
    }
    return Conversion(made, tuple(dropped), tuple(f"{notes[word]:,} {said[word]}" for word in said if notes[word]))


def _read(path: Path, recode: Recode) -> tuple[bytes, str, str | None, bytes, str]:
    """(bytes, their sha256, what is wrong, bytes to be kept, their extension)."""
    try:
        if path.exists() and not path.is_file():
            return b"", "", "no regular file", b"", ""
        data = path.read_bytes()
    except OSError as error:
        broken = path.is_symlink() and not path.exists()
        return b"", "", "a link to nothing" if broken else f"cannot be read: {error.strerror}", b"", ""
    sha256 = hashlib.sha256(data).hexdigest()
    problem = problem_of(data)
    other = sniff(data[:512]) in ("gif", "bmp", "tiff", "avif", "ico") and recode.format != "same"
    if problem is not None and not other:
        return data, sha256, problem, b"", ""
    try:
        made, ext = recode.apply(data)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        return data, sha256, f"cannot be decoded: {error}", b"", ""
    return data, sha256, None, made, ext


def _is_image(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return sniff(file.read(512)) is not None
    except OSError:
        return False


def _free(key: str, taken: set[str]) -> str:
    number, made = 0, key
    while made in taken:
        number += 1
        made = f"{key[:85]}-{number}"
    return made


def _files(folder: Path, source: Path, dropped: list[Dropped]) -> list[Path]:
    """Every file below, links followed, no folder twice (links may go in circles), hidden ones passed over.

    A link to `source` itself would give each label the pictures of all, and is passed over too; folders that cannot be
    read are told in `dropped`.
    """
    found: list[Path] = []
    top = source.stat()
    been: set[tuple[int, int]] = {(top.st_dev, top.st_ino)}

    def told(error: OSError) -> None:
        name = Path(error.filename).relative_to(source).as_posix()
        dropped.append(Dropped(as_text(name), f"cannot be read: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=told, followlinks=True):
        about = Path(place).stat()
        if (about.st_dev, about.st_ino) in been:
            folders.clear()
            continue
        been.add((about.st_dev, about.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return sorted(found)


def to_folders(
    source: ShardSet, out: Path, *, recode: Recode | None = None, on_progress: Progress | None = None
) -> Exported:
    """Writes a folder a label, a file a sample (<key>.<ext>), and samples.jsonl with all that files cannot say.

    Names are made safe for any file system: what is not is written %XX, and two that differ only in case get a number.

    Args:
        source: an open set.
        out: absent or an empty folder; it appears whole or not at all.
        recode: make the pictures anew.
        on_progress: called after every sample.

    Raises:
        TargetNotEmpty: `out` holds something.
    """
    recode = recode or Recode()
    with new_folder(out) as beside:
        taken: set[str] = {SIDECAR_NAME}
        folders = [_unused(safe_name(label), taken) for label in source.labels]
        for name in folders:
            (beside / name).mkdir()
        names: list[set[str]] = [set() for _ in folders]

        def make(i: int) -> tuple[Sample, bytes, str]:
            sample = source.sample(i)
            return sample, *recode.apply(sample.image)

        def rows() -> Iterator[dict[str, Any]]:
            for i, (sample, made, ext) in in_order(make, range(len(source))):
                stem = _unused(safe_name(sample.key), names[sample.label])
                file = f"{folders[sample.label]}/{stem}.{ext}"
                (beside / file).write_bytes(made)
                yield {
                    "file": file,
                    "key": sample.key,
                    "label": source.labels[sample.label],
                    "group": int(source.groups[i]),
                    "sha256": hashlib.sha256(made).hexdigest(),
                    "meta": recode.meta(sample.meta, sample.image, made),
                }
                if on_progress:
                    on_progress(ConvertProgress(i + 1, len(source), 0))

        count = write_sidecar(beside / SIDECAR_NAME, source, folders, rows())
    return Exported(out, count)


def safe_name(text: str) -> str:
    """A file name for any text: no separators, no control characters, not hidden, none that Windows reserves."""
    name = _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", text.encode("utf-8", "replace").decode())
    if not name or name.startswith(".") or _RESERVED.fullmatch(name):
        name = f"%{ord(name[0]):02X}{name[1:]}" if name else "%"
    if name[-1] in ". ":
        name = f"{name[:-1]}%{ord(name[-1]):02X}"
    if len(name.encode()) > _LONGEST:
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
        name = f"{name.encode()[: _LONGEST - 13].decode('utf-8', 'ignore')}~{digest}"
    return name


def _unused(name: str, taken: set[str]) -> str:
    """The name, or with a number where one like it, whatever its case, is taken; and takes it."""
    number, made = 1, name
    while made.casefold() in taken:
        number += 1
        made = f"{name}~{number}"
    taken.add(made.casefold())
    return made
