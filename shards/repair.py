"""A damaged set made whole: every intact sample is kept, the old tars are put aside, the lost are named.

Intact is a sample whose members can be read, whose bytes are those that were indexed (where the index says), and in
which `verify` finds nothing wrong. Nothing is overwritten before the new bytes are on the disk, and every step may be
repeated after a kill.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards import tar
from shards.decodable import problem_of
from shards.examine import NOT_INTACT, Finding, read_tar
from shards.files import fsync_folder, map_file, write_atomic
from shards.index import IMAGE_EXTENSIONS, TarSample, label_told, write_dali_index
from shards.quarantine import QUARANTINE_NAME
from shards.recipe import renew
from shards.sample import EXTENSIONS, sniff
from shards.shard_errors import ManifestMissing, RepairRefused, TargetNotEmpty
from shards.shard_set import MANIFEST_NAME, finish, read_manifest
from shards.verify import Known, VerifyProgress, known_of, verify

__all__ = ["ASIDE", "LOST_NAME", "Lost", "Repair", "repair"]

ASIDE = "damaged"
LOST_NAME = "lost.jsonl"

_REWRITE = NOT_INTACT | {"truncated", "damaged", "duplicate member", "extension"}


@dataclass(frozen=True, slots=True)
class Lost:
    """A sample that is in the set no more: its key, where it lay (offset None: nobody knows), and why."""

    key: str
    file: str
    offset: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair did; nothing, if there were no findings.

    Args:
        folder: of the set that is whole now.
        findings: what was wrong before.
        kept: samples in the set now; those of the tars that were rewritten if nobody made a set of these tars.
        lost: samples that are gone.
        rewritten: names of the tars that were written anew.
        aside: where the damaged tars and the list of the lost are; None if nothing had to be put aside.
    """

    folder: Path
    findings: tuple[Finding, ...]
    kept: int
    lost: tuple[Lost, ...]
    rewritten: tuple[str, ...]
    aside: Path | None


def repair(
    folder: Path,
    out: Path | None = None,
    *,
    decode: bool = True,
    on_progress: Callable[[VerifyProgress], None] | None = None,
) -> Repair:
    """Keeps every intact sample of a set and makes tars, indexes and manifest right again; a second time does nothing.

    Tars in which samples are damaged are written anew; the old ones go to `damaged/` in the set, with `lost.jsonl`. The
    groups of near-duplicates, labels and source stay as they were; split.json beside a part says what the part is now.
    Where the manifest is lost, the names of the labels are taken from the samples' JSON. Tars that nobody made a set of
    stay without a manifest.

    Args:
        folder: of the set, or of anybody's tars.
        out: writes the whole set there and changes nothing in `folder`; absent or an empty folder.
        decode: leave out images that do not decode, too.
        on_progress: as of `verify`.

    Raises:
        TargetNotEmpty: `out` holds something.
        ManifestMissing: the set's crawl is not finished.
        RepairRefused: nothing would be left, or nobody says what the labels are called.
    """
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TargetNotEmpty(out)
    if not (folder / MANIFEST_NAME).exists() and (folder / "crawl.sqlite").exists():
        raise ManifestMissing(folder)
    findings = verify(folder, decode=decode, on_progress=on_progress)
    if not findings and out is None:
        return Repair(folder, (), 0, (), (), None)
    if out is None:
        if {found.kind for found in findings} == {"split"}:  # of a repair that was killed before its last step
            renew(folder)
            return Repair(folder, tuple(findings), read_manifest(folder).samples, (), (), None)
        done = _into(folder, folder, tuple(findings), decode)
        renew(folder)
        return done
    beside = out.absolute().with_name(f".{out.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        done = _into(folder, beside, tuple(findings), decode)
        if out.exists():
            out.rmdir()
        beside.rename(out)
        fsync_folder(out.absolute().parent)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return Repair(out, done.findings, done.kept, done.lost, done.rewritten, out / ASIDE if done.aside else None)


def _into(folder: Path, target: Path, findings: tuple[Finding, ...], decode: bool) -> Repair:
    known = known_of(folder)
    drop = {(found.file, found.offset): found for found in reversed(findings) if found.kind in NOT_INTACT}
    damaged = {found.file for found in findings if found.kind in _REWRITE and found.file.endswith(".tar")}
    labels = _labels(folder, known)
    intact: set[str] = set()
    for path in known.tars:
        if path.name not in damaged:
            intact |= {sample.key for sample in _samples(path, known, decode)}
    plans: dict[str, _Plan] = {}
    for path in known.tars:
        if path.name in damaged:
            plans[path.name] = _plan(path, known, drop, decode, intact)
            intact |= plans[path.name].keep.keys()
    if not intact:
        raise RepairRefused(folder, "not one intact sample would be left; the tars are as they were")
    lost = _lost(known, drop, plans, findings, intact)
    aside = target / ASIDE
    if lost or (damaged and target == folder):
        aside.mkdir(exist_ok=True)
    if lost:
        write_atomic(aside / LOST_NAME, _with_earlier(aside / LOST_NAME, lost))
    tars = []
    for path in known.tars:
        stray = bool(known.manifest) and path.name not in known.tar_names
        plan = plans.get(path.name)
        if stray and plan is not None and not plan.keep:  # a copy of what the set has
            if target == folder:
                _put_aside(path, aside)
                path.unlink()
                path.with_suffix(".idx").unlink(missing_ok=True)
            continue
        if plan is not None:
            if target == folder:
                _put_aside(path, aside)
            write_atomic(target / path.name, plan.pieces())
        elif target != folder:
            shutil.copyfile(path, target / path.name)
        tars.append(target / path.name)
    kept = len(intact)
    if labels is not None:
        _finish(folder, target, known, labels, sorted(tars))
    else:
        for path in tars:
            if path.name in plans and (folder / path.name).with_suffix(".idx").exists():
                write_dali_index(path)
    (target / QUARANTINE_NAME).unlink(missing_ok=True)  # whoever stood there was looked at, and stayed or went
    return Repair(target, findings, kept, tuple(lost), tuple(plans), aside if aside.is_dir() else None)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a tar is to be made of: the pieces of each kept sample, by key, in order."""

    keep: dict[str, list[bytes | memoryview]]

    def pieces(self) -> Iterator[bytes | memoryview]:
        size = 0
        for parts in self.keep.values():
            for part in parts:
                size += len(part)
                yield part
        yield tar.end_blocks(size)


def _samples(path: Path, known: Known, decode: bool) -> list[TarSample]:
    return read_tar(map_file(path), path, known.evidence(path, None, decode)).samples


def _plan(
    path: Path, known: Known, drop: dict[tuple[str, int | None], Finding], decode: bool, taken: set[str]
) -> _Plan:
    data = map_file(path)
    evidence = known.evidence(path, None, decode)
    keep: list[tuple[int, str, list[bytes | memoryview]]] = []
    for sample in read_tar(data, path, evidence).samples:
        if (path.name, sample.offset) not in drop:
            parts = [part for member in sample.members.values() for part in _copied(data, member)]
            keep.append((sample.offset, sample.key, parts))
    kept = taken | {key for _, key, _ in keep}
    keep += [found for found in _by_index(path, data, known, decode) if found[1] not in kept]
    keep.sort(key=lambda item: item[0])
    return _Plan({key: parts for _, key, parts in keep})


def _copied(data: memoryview, member: tar.Member) -> Iterator[bytes | memoryview]:
    """A member as it stands, but with the extension of what it holds."""
    ext = tar.split_name(member.name)[1]
    content = data[member.offset : member.offset + member.size]
    kind = sniff(bytes(content[:512])) if ext in IMAGE_EXTENSIONS else None
    if kind is not None and kind in IMAGE_EXTENSIONS and IMAGE_EXTENSIONS[kind] != IMAGE_EXTENSIONS[ext]:
        info = tarfile.TarInfo(f"{member.name[: -len(ext)]}{kind}")
        info.size = member.size
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    else:
        yield data[member.header : member.offset]
    yield content
    yield tar.padding(member.size)


def _by_index(
    path: Path, data: memoryview, known: Known, decode: bool
) -> Iterator[tuple[int, str, list[bytes | memoryview]]]:
    """Samples of ours whose headers are damaged but whose bytes still lie where the index says."""
    if known.index is None or path.name not in known.tar_names:
        return
    rows = known.index.rows
    for number in np.flatnonzero(rows["shard"] == known.tar_names.index(path.name)).tolist():
        row = rows[number]
        image = data[int(row["image"]) : int(row["image"]) + int(row["size"])]
        if not (row["rest"] and row["told"]) or len(image) != row["size"] or zlib.crc32(image) != row["crc"]:
            continue
        if sniff(bytes(image[:512])) != EXTENSIONS[row["ext"]] or (decode and problem_of(image)):
            continue
        key = bytes(known.index.keys[number]).decode("utf-8", "surrogateescape")
        label = b"%d" % row["label"]
        meta = data[int(row["json"]) : int(row["json"]) + int(row["json_size"])] if row["json"] else None
        crc = zlib.crc32(label, zlib.crc32(b"cls\0"))
        members: list[tuple[str, bytes | memoryview]] = [(EXTENSIONS[row["ext"]], image), ("cls", label)]
        if meta is not None:
            crc = zlib.crc32(meta, zlib.crc32(b"json\0", crc))
            members.append(("json", meta))
        if crc != row["rest"]:
            continue
        parts: list[bytes | memoryview] = []
        for ext, content in members:
            info = tarfile.TarInfo(f"{key}.{ext}")
            info.size = len(content)
            parts += [info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"), content, tar.padding(len(content))]
        yield int(row["offset"]), key, parts


def _lost(
    known: Known,
    drop: dict[tuple[str, int | None], Finding],
    plans: dict[str, _Plan],
    findings: tuple[Finding, ...],
    intact: set[str],
) -> list[Lost]:
    """By key: samples of the index that are in the set no more, and others that were left out."""
    reasons: dict[str, Finding] = {}
    for found in findings:
        if found.key is not None and found.kind in NOT_INTACT:
            reasons.setdefault(found.key, found)
    lost: dict[str, Lost] = {}
    if known.index is not None:
        rows = known.index.rows
        for number, raw in enumerate(known.index.keys.tolist()):
            key = raw.decode("utf-8", "surrogateescape")
            if key not in intact:
                why = reasons.get(key)
                reason = f"{why.kind}: {why.problem}" if why else "no header and no bytes of it are left"
                name, offset = known.tar_names[rows[number]["shard"]], int(rows[number]["offset"])
                lost[key] = Lost(key, name, offset, reason)
    for key, why in reasons.items():
        # a key that is not in the index came of a header whose damage its checksum, a mere sum, does not show
        if key not in intact and key not in lost and why.file not in known.tar_names:
            lost[key] = Lost(key, why.file, why.offset, f"{why.kind}: {why.problem}")
    return list(lost.values())


def _labels(folder: Path, known: Known) -> tuple[str, ...] | None:
    """The names of the labels; None for tars that nobody made a set of.

    Raises:
        RepairRefused: there was a set, and nobody says what its labels are called.
    """
    if known.manifest is not None:
        return known.manifest.labels
    try:
        return tuple(json.loads((folder / MANIFEST_NAME).read_bytes())["labels"])
    except (OSError, KeyError, TypeError, ValueError):
        if not (folder / MANIFEST_NAME).exists() and known.index is None:
            return None
    names: dict[int, Any] = {}
    for path in known.tars:
        data = map_file(path)
        for sample in _samples(path, known, decode=False):
            label, meta = sample.members.get("cls"), sample.members.get("json")
            if label is None or meta is None:
                continue
            try:
                number = int(bytes(data[label.offset : label.offset + label.size]))
                names.setdefault(number, label_told(json.loads(bytes(data[meta.offset : meta.offset + meta.size]))))
            except ValueError:
                continue
    found = [names.get(number) for number in range(max(names, default=-1) + 1)]
    if not found or not all(isinstance(name, str) for name in found) or len(set(found)) < len(found):
        raise RepairRefused(
            folder,
            "dataset.json is lost, and the samples' JSON does not say what the labels are called; "
            "`bassline shards index --label NAME --label NAME ...` first",
        )
    return tuple(str(name) for name in found)


def _finish(folder: Path, target: Path, known: Known, labels: tuple[str, ...], tars: list[Path]) -> None:
    source: dict[str, Any] = known.manifest.source if known.manifest else {"kind": "repaired"}
    split = known.manifest.split if known.manifest else None
    groups = None
    if known.index is not None:
        numbers = known.index.rows["group"].tolist()
        groups = {
            raw.decode("utf-8", "surrogateescape"): group
            for raw, group in zip(known.index.keys.tolist(), numbers, strict=True)
        }
    finish(target, labels, source=source, split=split, groups=groups, tars=tars).close()


def _put_aside(path: Path, aside: Path) -> None:
    """A second name for the damaged tar, which stays under its own until the new one takes that."""
    place = aside / path.name
    number = 1
    while place.exists():
        if place.samefile(path):
            return  # a repair that was killed had come so far
        number += 1
        place = aside / f"{path.name}.{number}"
    try:
        os.link(path, place)
    except OSError:  # a file system without links
        shutil.copy2(path, place)
    fsync_folder(aside)


def _with_earlier(path: Path, lost: list[Lost]) -> list[bytes]:
    """Lines of lost.jsonl: what earlier repairs wrote, and who is new; one that was killed told some already."""
    earlier = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    known = {(told["key"], told["file"], told["offset"]) for told in map(json.loads, earlier)}
    new = [item for item in lost if (item.key, item.file, item.offset) not in known]
    return [*earlier, *(json.dumps(asdict(item), ensure_ascii=False).encode() + b"\n" for item in new)]
