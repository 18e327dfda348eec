"""Is everything still as it was written? Walks the tars themselves and believes no index."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from shards import tar
from shards.decodable import problem_of
from shards.files import sha256_of
from shards.index import INDEX_NAME, Index, TarSample, dali_index, map_file, tar_samples
from shards.sample import sniff
from shards.shard_errors import REBUILD, ManifestDamaged, ManifestMissing, StaleIndex, TarDamaged
from shards.shard_set import MANIFEST_NAME, Manifest, load_set_index, read_manifest
from shards.writer import ShardInfo

__all__ = ["Finding", "VerifyProgress", "verify"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong.

    Args:
        kind: "manifest", "missing", "truncated", "digest", "crc", "component", "duplicate key", "label", "json",
            "image", "index" or "dali index".
        file: name in the set's folder.
        offset: byte offset in the file where the sample or member starts; None for the file as a whole.
        key: the sample's, if there is one.
        problem: what was found and what was expected.
    """

    kind: str
    file: str
    offset: int | None
    key: str | None
    problem: str

    def __str__(self) -> str:
        place = self.file if self.offset is None else f"{self.file}@{self.offset}"
        return f"{self.kind}: {' '.join(filter(None, (place, self.key)))}: {self.problem}"


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """How far a verification is; `total` by the manifest, 0 without one."""

    samples: int
    total: int
    findings: int


def verify(
    folder: Path, *, decode: bool = True, on_progress: Callable[[VerifyProgress], None] | None = None
) -> list[Finding]:
    """Everything that is wrong with the shard set in `folder`; an empty list if nothing is.

    Args:
        folder: of the set; needs no manifest and no index to be looked at.
        decode: decode every image too (0.2 ms each); without it only their bytes are compared.
        on_progress: called every 256 samples.
    """
    findings: list[Finding] = []
    manifest, index = _opened(folder, findings)
    known = {info.name: info for info in manifest.shards} if manifest else {}
    tars = sorted(folder.glob("*.tar"))
    for name in known.keys() - {path.name for path in tars}:
        findings.append(Finding("missing", name, None, None, "the manifest names this tar, but it is not there"))
    for path in tars:
        if manifest and path.name not in known:
            findings.append(Finding("manifest", path.name, None, None, "the manifest does not name this tar"))
    seen: dict[str, str] = {}
    done = 0
    with ThreadPoolExecutor(2) as pool:  # hashing releases the GIL and runs beside the walk
        digests = [pool.submit(sha256_of, path) for path in tars]
        for path, digest in zip(tars, digests, strict=True):
            crcs = _crcs(index, manifest, path.name)
            members: list[tar.Member] = []
            whole = True
            for found in _tar(path, members, manifest, crcs, seen, decode):
                if isinstance(found, Finding):
                    findings.append(found)
                    whole = whole and found.kind != "truncated"
                    continue
                done += 1
                if on_progress and not done % 256:
                    on_progress(VerifyProgress(done, manifest.samples if manifest else 0, len(findings)))
            findings += _digest(known.get(path.name), path, digest.result())
            if whole:
                findings += _dali(path, members)
    return findings


def _opened(folder: Path, findings: list[Finding]) -> tuple[Manifest | None, Index | None]:
    try:
        manifest = read_manifest(folder)
    except (ManifestMissing, ManifestDamaged) as error:
        findings.append(Finding("manifest", MANIFEST_NAME, None, None, str(error)))
        return None, None
    try:
        return manifest, load_set_index(folder, manifest)
    except StaleIndex as error:
        findings.append(Finding("index", INDEX_NAME, None, None, error.problem))
        return manifest, None


def _crcs(index: Index | None, manifest: Manifest | None, name: str) -> dict[int, int]:
    """The CRC-32 that the index has for the image at each offset of a tar."""
    if index is None or manifest is None:
        return {}
    number = next((n for n, info in enumerate(manifest.shards) if info.name == name), -1)
    rows = index.rows[index.rows["shard"] == number]
    return dict(zip(rows["image"].tolist(), rows["crc"].tolist(), strict=True))


def _tar(
    path: Path,
    members: list[tar.Member],
    manifest: Manifest | None,
    crcs: dict[int, int],
    seen: dict[str, str],
    decode: bool,
) -> Iterator[Finding | TarSample]:
    """The samples of one tar, each after what is wrong with it; its members are put into `members`."""
    data = map_file(path)

    def walked() -> Iterator[tar.Member]:
        for member in tar.walk(data, path):
            members.append(member)
            yield member

    try:
        for sample in tar_samples(walked()):
            for kind, problem in _sample(sample, data, manifest.labels if manifest else None, crcs, decode):
                yield Finding(kind, path.name, sample.offset, sample.key, problem)
            if sample.key in seen:
                yield Finding("duplicate key", path.name, sample.offset, sample.key, f"first at {seen[sample.key]}")
            seen.setdefault(sample.key, f"{path.name}@{sample.offset}")
            yield sample
    except TarDamaged as error:
        yield Finding("truncated", path.name, error.offset, None, error.problem)


def _sample(
    sample: TarSample, data: memoryview, labels: Sequence[str] | None, crcs: dict[int, int], decode: bool
) -> Iterator[tuple[str, str]]:
    image, label, meta = sample.image, sample.members.get("cls"), sample.members.get("json")
    number = None
    if label is None:
        yield "component", f"no .cls; it has {', '.join(sample.members)}"
    else:
        text = bytes(data[label.offset : label.offset + label.size]).decode("utf-8", "replace").strip()
        number = int(text) if text.isdecimal() else None
        if number is None or (labels is not None and number >= len(labels)):
            yield "label", f"{text[:40]!r}; expected a number" + (f" below {len(labels)}" if labels else "")
            number = None
    if meta is not None:
        yield from _meta(bytes(data[meta.offset : meta.offset + meta.size]), number, labels)
    if image is None:
        yield "component", f"no image; it has {', '.join(sample.members)}"
        return
    content = data[image.offset : image.offset + image.size]
    if image.offset in crcs and zlib.crc32(content) != crcs[image.offset]:
        yield "crc", f"the image's bytes are not those that were indexed (CRC-32 {zlib.crc32(content):08x})"
    if decode and (problem := problem_of(content)):
        yield "image", problem
    elif (kind := sniff(bytes(content[:512]))) != tar.split_name(image.name)[1].replace("jpeg", "jpg"):
        yield "image", f"{image.name} holds {kind or 'no image'}"


def _meta(text: bytes, number: int | None, labels: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    try:
        told = json.loads(text)
    except ValueError as error:
        yield "json", f"not JSON: {error}"
        return
    name = told.get("label") if isinstance(told, dict) else None
    if labels is not None and number is not None and name not in (None, number, labels[number]):
        yield "label", f".cls says {number} ({labels[number]}), .json says {name!r}"


def _digest(info: ShardInfo | None, path: Path, sha256: str) -> Iterator[Finding]:
    if info is not None and sha256 != info.sha256:
        problem = f"sha256 {sha256[:12]}..., the manifest says {info.sha256[:12]}...: its bytes have changed"
        yield Finding("digest", path.name, None, None, problem)


def _dali(path: Path, members: list[tar.Member]) -> Iterator[Finding]:
    target = path.with_suffix(".idx")
    if (target.read_bytes() if target.exists() else None) != dali_index(members):
        yield Finding("dali index", target.name, None, None, f"missing or stale; {REBUILD}")
