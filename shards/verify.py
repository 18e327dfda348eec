"""Is everything still as it was written? Walks the tars themselves and believes no index."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.examine import NOT_INTACT, Evidence, Finding, examine, read_tar
from shards.files import MAPPED, forget, map_file
from shards.index import INDEX_NAME, Index, dali_index, read_index
from shards.quarantine import Quarantined, add_to_quarantine
from shards.recipe import contradiction
from shards.shard_errors import REBUILD, ManifestDamaged, ManifestMissing, StaleIndex
from shards.shard_set import MANIFEST_NAME, NEXT_INDEX, Manifest, load_set_index, read_manifest
from shards.untouched import untouched

__all__ = ["Finding", "Known", "VerifyProgress", "known_of", "quarantine", "verify"]


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """How far a verification is; `total` by the manifest, 0 without one."""

    samples: int
    total: int
    findings: int


@dataclass(frozen=True, slots=True)
class Known:
    """What a folder says of itself, as far as it can be believed.

    Args:
        manifest: None where there is none.
        index: None where there is none, or it is of other tars than the manifest's.
        tar_names: of the tars that the index was made from, in order.
        tars: those in the folder; the manifest's first, so that of two with one key theirs counts.
    """

    manifest: Manifest | None
    index: Index | None
    tar_names: tuple[str, ...]
    tars: tuple[Path, ...]

    def evidence(self, path: Path, digest: str | None, decode: bool) -> Evidence:
        """What is known of one tar, whose sha256 is `digest` (None: it is not to be relied on)."""
        rows = None
        info = next((info for info in self.manifest.shards if info.name == path.name), None) if self.manifest else None
        if self.index is not None and info is not None and digest == info.sha256:
            rows = np.flatnonzero(self.index.rows["shard"] == self.tar_names.index(path.name))
        return Evidence(self.manifest.labels if self.manifest else None, self.index, rows, decode)


def known_of(folder: Path, findings: list[Finding] | None = None) -> Known:
    """Reads manifest and index; what is wrong with them is put into `findings`.

    Tars that nobody has made a set of, without manifest and index, are not missing either.
    """
    found: list[Finding] = [] if findings is None else findings
    manifest: Manifest | None = None
    index: Index | None = None
    names: tuple[str, ...] = ()
    tars = sorted(folder.glob("*.tar"))
    try:
        manifest = read_manifest(folder)
    except (ManifestMissing, ManifestDamaged) as error:
        if isinstance(error, ManifestDamaged) or (folder / INDEX_NAME).exists() or not tars:
            found.append(Finding("manifest", MANIFEST_NAME, None, None, str(error)))
    try:
        if manifest is not None:
            index = load_set_index(folder, manifest)
            names = tuple(info.name for info in manifest.shards)
            if (folder / NEXT_INDEX).exists():
                found.append(Finding("index", NEXT_INDEX, None, None, f"a write was interrupted here; {REBUILD}"))
        elif (folder / INDEX_NAME).exists():
            told, index = read_index(folder / INDEX_NAME)
            names = tuple(name for name, *_ in told)
    except StaleIndex as error:
        found.append(Finding("index", INDEX_NAME, None, None, error.problem))
    if manifest is not None:
        listed = {info.name for info in manifest.shards}
        tars.sort(key=lambda path: path.name not in listed)
    return Known(manifest, index, names, tuple(tars))


def verify(
    folder: Path, *, decode: bool = True, on_progress: Callable[[VerifyProgress], None] | None = None
) -> list[Finding]:
    """Everything that is wrong with the shard set in `folder`; an empty list if nothing is.

    A damaged tar is read on after the damage, so that what is wrong behind it is found too. Tars of other people,
    without manifest, index, labels or JSON, are held to what they have.

    Args:
        folder: of the set; needs no manifest and no index to be looked at.
        decode: decode every image too (0.2 ms each); without it only their bytes are compared.
        on_progress: called after some hundred samples, or after a tar.
    """
    findings: list[Finding] = []
    known = known_of(folder, findings)
    manifest = known.manifest
    infos = {info.name: info for info in manifest.shards} if manifest else {}
    there = {path.name for path in known.tars}
    for name in sorted(infos.keys() - there):
        findings.append(Finding("missing", name, None, None, "the manifest names this tar, but it is not there"))
    for path in known.tars:
        if manifest and path.name not in infos:
            findings.append(Finding("manifest", path.name, None, None, "the manifest does not name this tar"))
    seen: dict[str, tuple[str, int]] = {}
    labelled = False
    done = 0

    def report(samples: int) -> None:
        nonlocal done
        done += samples
        if on_progress:
            on_progress(VerifyProgress(done, manifest.samples if manifest else 0, len(findings)))

    for path, sha256 in _digests(known.tars):
        info = infos.get(path.name)
        evidence = known.evidence(path, sha256, decode)
        data = map_file(path)
        quick = untouched(data, path, evidence, report)
        if quick is not None:
            samples, count = quick.samples, len(quick.samples)
            inside, labelled = [], True
            dali = quick.dali_index
        else:
            contents = read_tar(data, path, evidence)
            samples, count = [(sample.key, sample.offset) for sample in contents.samples], len(contents.samples)
            inside = list(examine(contents, data, path.name, evidence, report))
            labelled = labelled or any("cls" in sample.members for sample in contents.samples)
            dali = None if contents.gaps else dali_index(contents.members)
        inside += _twice(samples, path.name, seen, {found.offset for found in inside if found.kind in NOT_INTACT})
        findings += sorted(inside, key=lambda finding: finding.offset or 0)
        if info is not None and sha256 != info.sha256:
            problem = f"sha256 {sha256[:12]}..., the manifest says {info.sha256[:12]}...: its bytes have changed"
            findings.append(Finding("digest", path.name, None, None, problem))
        elif info is not None and info.samples != count:
            problem = f"{count} samples, the manifest says {info.samples}"
            findings.append(Finding("manifest", path.name, None, None, problem))
        if quick is not None or not contents.gaps:
            findings += _dali(path, dali, manifest is not None)
    if manifest and known.index is not None:
        findings += _counts(manifest, known.index)
    if contradicted := contradiction(folder):
        findings.append(Finding("split", MANIFEST_NAME, None, None, contradicted))
    if not labelled and manifest is None:  # nobody says that there are labels
        findings = [found for found in findings if not (found.kind == "component" and "no .cls" in found.problem)]
    return findings


def _digests(tars: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Each tar with its sha256; hashing releases the GIL and runs beside the walk, two tars ahead of it."""
    with ThreadPoolExecutor(2) as pool:
        ahead = deque((path, pool.submit(_sha256, path)) for path in tars[:2])
        for path in (*tars[2:], None, None):
            if not ahead:
                return
            due, digest = ahead.popleft()
            told = digest.result()
            if path is not None:
                ahead.append((path, pool.submit(_sha256, path)))
            yield due, told


def _sha256(path: Path) -> str:
    data, digest = map_file(path), hashlib.sha256()  # of the map that the walk reads too: no copy
    for at in range(0, len(data), MAPPED):
        end = min(at + MAPPED, len(data))
        digest.update(data[at:end])
        forget(data, at, end)
    return digest.hexdigest()


def quarantine(folder: Path, findings: Iterable[Finding]) -> int:
    """Has readers pass over the samples that findings name; returns how many stand in the set's quarantine now.

    That helps where the tars can still be opened: bytes that changed in place, images that do not decode, wrong labels.
    """
    return add_to_quarantine(
        folder,
        (
            Quarantined(found.key, f"{found.file}@{found.offset}", f"{found.kind}: {found.problem}")
            for found in findings
            if found.key is not None and found.kind in ("crc", "image", "label", "json")
        ),
    )


def _twice(
    samples: Sequence[tuple[str, int]], name: str, seen: dict[str, tuple[str, int]], bad: set[int | None]
) -> Iterator[Finding]:
    """Samples with a key that a sample before them has; one with something wrong stands in nobody's way."""
    if not bad:
        own = {key: (name, offset) for key, offset in samples}
        if len(own) == len(samples) and seen.keys().isdisjoint(own):
            seen.update(own)
            return
    for key, offset in samples:
        first = seen.get(key)
        if first is not None:
            yield Finding("duplicate key", name, offset, key, f"first at {first[0]}@{first[1]}")
        elif offset not in bad:
            seen[key] = (name, offset)


def _dali(path: Path, expected: bytes | None, ours: bool) -> Iterator[Finding]:
    """Of other people's tars an index is not expected; one that is there must be right."""
    target = path.with_suffix(".idx")
    written = target.read_bytes() if target.exists() else None
    if (ours or written is not None) and written != expected:
        yield Finding("dali index", target.name, None, None, f"missing or stale; {REBUILD}")


def _counts(manifest: Manifest, index: Index) -> Iterator[Finding]:
    found = np.bincount(index.rows["label"], minlength=len(manifest.labels)).tolist()
    counts = dict(zip(manifest.labels, found, strict=False))
    if counts != manifest.counts:
        problem = f"counts {manifest.counts}, the index has {counts}; {REBUILD}"
        yield Finding("manifest", MANIFEST_NAME, None, None, problem)
