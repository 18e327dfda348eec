"""One tar and its samples, held against what is known of them: the set's labels, the index's CRCs, or their own JSON.

Where a tar's digest is the manifest's, its bytes are those that were indexed and nothing is computed twice. Elsewhere
each sample is held against the index by key, wherever in the tar it lies now.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards import tar
from shards.decodable import problem_of
from shards.index import IMAGE_EXTENSIONS, Index, TarSample, label_told, rest_crc, tar_samples
from shards.sample import sniff
from shards.shard_errors import TarDamaged

__all__ = ["NOT_INTACT", "Evidence", "Finding", "TarContents", "examine", "read_tar"]


NOT_INTACT = frozenset({"component", "crc", "duplicate key", "label", "json", "image"})
"""Kinds of findings that say of a sample that it is not to be kept."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong.

    Args:
        kind: "manifest", "missing", "truncated", "damaged", "digest", "crc", "component", "duplicate key",
            "duplicate member", "label", "json", "image", "extension", "index", "dali index" or "split".
        file: name in the set's folder.
        offset: byte offset in the file where the sample, member or gap starts; None for the file as a whole.
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
class Evidence:
    """What is known of a tar beforehand.

    Args:
        labels: names of the set's labels; None where nobody says.
        index: of the whole set; None where there is none to be believed.
        rows: numbers of the tar's samples in the index, int64; None unless the tar's digest is that which was indexed.
        decode: whether images are to be decoded.
    """

    labels: tuple[str, ...] | None
    index: Index | None
    rows: NDArray[np.int64] | None
    decode: bool

    def row(self, key: str) -> Any | None:
        """The index's row of a key."""
        number = self.index.find(key) if self.index is not None else None
        return None if number is None or self.index is None else self.index.rows[number]


@dataclass(frozen=True, slots=True)
class TarContents:
    """What can be read of a tar.

    Args:
        members: in order.
        samples: made of them.
        gaps: bytes that belong to no member; a whole tar has none.
        torn: offsets of samples beside a gap that lack what every whole sample of the tar has.
    """

    members: list[tar.Member]
    samples: list[TarSample]
    gaps: list[tar.Gap]
    torn: frozenset[int]


def read_tar(data: memoryview, path: Path, evidence: Evidence) -> TarContents:
    """All members of a tar, whole or damaged."""
    try:
        members = tar.members_of(data, path)
        if evidence.rows is not None or not _swallowed(data, members, evidence):
            return TarContents(members, list(tar_samples(members)), [], frozenset())
    except TarDamaged:
        pass
    members, gaps = [], []
    for piece in tar.scan(data, path, lambda member: _wrong(data, member, evidence)):
        if isinstance(piece, tar.Gap):
            gaps.append(piece)
        else:
            members.append(piece)
    samples = list(tar_samples(members))
    return TarContents(members, samples, gaps, _torn(samples, gaps))


def _swallowed(data: memoryview, members: list[tar.Member], evidence: Evidence) -> bool:
    """Whether a member has wrong bytes and a header among them: bytes were lost, and the lengths agree by chance."""
    return any(
        member.size > tar.BLOCK
        and tar.next_header(data, member.offset, member.end) is not None
        and _wrong(data, member, evidence)
        for member in members
    )


def _wrong(data: memoryview, member: tar.Member, evidence: Evidence) -> bool | None:
    key, ext = tar.split_name(member.name)
    content = data[member.offset : member.offset + member.size]
    if ext in IMAGE_EXTENSIONS:
        row = evidence.row(key)
        if row is not None:
            return bool(row["size"] != member.size or row["crc"] != zlib.crc32(content))
        if sniff(bytes(content[:512])) is None:
            return True
        if tar.next_header(data, member.offset, member.offset + member.size) is not None:
            return True  # no image has one; this one lost bytes, and its neighbour's header came to lie in it
        return problem_of(content) is not None if evidence.decode else None
    if ext == "json":
        try:
            json.loads(bytes(content))
        except ValueError:
            return True
    return None


def _torn(samples: list[TarSample], gaps: list[tar.Gap]) -> frozenset[int]:
    """Of the samples beside a gap, those that lack an extension which every sample away from gaps has."""
    if not gaps or not samples:
        return frozenset()
    starts = [sample.offset for sample in samples]
    beside = set()
    for gap in gaps:
        after = int(np.searchsorted(starts, max(gap.end, gap.start + 1)))
        beside |= {number for number in (after - 1, after) if 0 <= number < len(samples)}
    away = [set(sample.members) for number, sample in enumerate(samples) if number not in beside]
    if not away:
        return frozenset()
    usual = set.intersection(*away)
    return frozenset(samples[number].offset for number in beside if not usual <= set(samples[number].members))


def examine(
    contents: TarContents,
    data: memoryview,
    name: str,
    evidence: Evidence,
    on_samples: Callable[[int], None] | None = None,
) -> Iterator[Finding]:
    """What is wrong inside a tar: its gaps, and each of its samples in itself.

    Args:
        contents: of `read_tar`.
        data: the whole tar.
        name: of its file.
        evidence: what is known of it.
        on_samples: told of every 256 samples, and of the rest.
    """
    for gap in contents.gaps:
        kind = "truncated" if gap.end == len(data) else "damaged"
        length = f"; {gap.end - gap.start} bytes passed over" if kind == "damaged" else ""
        yield Finding(kind, name, gap.start, None, gap.problem + length)
    rows = evidence.rows
    if rows is not None and evidence.index is not None:
        indexed = evidence.index.rows[rows]
        if indexed["offset"].tolist() != [sample.offset for sample in contents.samples]:
            yield Finding("index", name, None, None, "the index has its samples at other offsets")
            rows = None
    told = evidence.index.rows["told"][rows].tolist() if rows is not None and evidence.index is not None else None
    hashes: list[tuple[bool, TarSample]] = []
    unread: list[Finding] = []
    numbers = 0
    for place, sample in enumerate(contents.samples):
        if on_samples and place and not place % 256:
            on_samples(256)
        image, label, meta = sample.image, sample.members.get("cls"), sample.members.get("json")
        number = None
        if label is not None:
            text = bytes(data[label.offset : label.offset + min(label.size, 64)])
            if text.isdigit():
                number = int(text)
            else:
                stripped = text.decode("utf-8", "replace").strip()
                number = int(stripped) if stripped.isdecimal() else None
            numbers += number is not None
            if number is None or (evidence.labels is not None and number >= len(evidence.labels)):
                said = f"{text.decode('utf-8', 'replace')[:40]!r}; expected a number"
                below = f" below {len(evidence.labels)}" if evidence.labels is not None else ""
                wrong = Finding("label", name, sample.offset, sample.key, said + below)
                if evidence.labels is None:
                    unread.append(wrong)
                else:
                    yield wrong
                number = None
        for kind, problem in _missing(sample, sample.offset in contents.torn):
            yield Finding(kind, name, sample.offset, sample.key, problem)
        if meta is not None and not (told is not None and told[place]):
            for kind, problem in _meta(sample, data, number, evidence, hashes):
                yield Finding(kind, name, sample.offset, sample.key, problem)
        if evidence.rows is None and evidence.index is not None:
            for kind, problem in _against_index(sample, data, number, evidence):
                yield Finding(kind, name, sample.offset, sample.key, problem)
        if image is not None:
            content = data[image.offset : image.offset + image.size]
            for kind, problem in _image(image, content, evidence.decode):
                yield Finding(kind, name, sample.offset, sample.key, problem)
    if on_samples and contents.samples:
        on_samples((len(contents.samples) - 1) % 256 + 1)
    # A tar whose labels are words is another convention, and no damage; so is a JSON's sha256 of some other bytes, as
    # img2dataset writes where it has resized. Either counts where it holds for most samples.
    if numbers >= len(unread):
        yield from unread
    agree = Counter(right for right, _ in hashes)
    if agree[True] >= agree[False]:
        for right, sample in hashes:
            if not right:
                problem = "the image's sha256 is not the one in its .json"
                yield Finding("crc", name, sample.offset, sample.key, problem)


def _missing(sample: TarSample, torn: bool) -> Iterator[tuple[str, str]]:
    if len(sample.members) == 3 and not torn and not sample.twice and sample.image and "cls" in sample.members:
        return
    there = ", ".join(sample.members)
    if "cls" not in sample.members:
        yield "component", f"no .cls; it has {there}"
    if sample.image is None:
        yield "component", f"no image; it has {there}"
    if torn:
        yield "component", f"beside damaged bytes, and not whole; it has {there}"
    for ext in sample.twice:
        yield "duplicate member", f".{ext} stands twice; the first counts"


def _meta(
    sample: TarSample,
    data: memoryview,
    number: int | None,
    evidence: Evidence,
    hashes: list[tuple[bool, TarSample]],
) -> Iterator[tuple[str, str]]:
    meta, image = sample.members["json"], sample.image
    try:
        told = json.loads(bytes(data[meta.offset : meta.offset + meta.size]))
    except ValueError as error:
        yield "json", f"not JSON: {error}"
        return
    name, labels = label_told(told), evidence.labels
    if labels is not None and number is not None and name not in (None, number, labels[number]):
        yield "label", f".cls says {number} ({labels[number]}), .json says {name!r}"
    sha256 = told.get("sha256") if isinstance(told, dict) else None
    if evidence.index is None and isinstance(sha256, str) and len(sha256) == 64 and image is not None:
        found = hashlib.sha256(data[image.offset : image.offset + image.size]).hexdigest()
        hashes.append((found == sha256, sample))


def _against_index(
    sample: TarSample, data: memoryview, number: int | None, evidence: Evidence
) -> Iterator[tuple[str, str]]:
    row, image = evidence.row(sample.key), sample.image
    if row is None:
        return
    if image is not None:
        found = zlib.crc32(data[image.offset : image.offset + image.size])
        if found != row["crc"] or image.size != row["size"]:
            yield "crc", f"the image's bytes are not those that were indexed (CRC-32 {found:08x})"
    if number is not None and number != row["label"]:
        yield "label", f".cls says {number}, the index says {row['label']}"
    elif row["rest"] and rest_crc(sample, data) != row["rest"]:
        others = ", ".join(f".{ext}" for ext, member in sample.members.items() if member is not image)
        yield "crc", f"the bytes beside the image ({others or 'none'}) are not those that were indexed"


def _image(image: tar.Member, content: memoryview, decode: bool) -> Iterator[tuple[str, str]]:
    if decode and (problem := problem_of(content)):
        yield "image", problem
        return
    named = image.name.rpartition(".")[2].lower()  # no image's extension has a dot
    kind = sniff(bytes(content[:12])) or sniff(bytes(content[:512]))
    if kind not in IMAGE_EXTENSIONS:
        yield "image", f"{image.name} holds {kind or 'no image'}"
    elif IMAGE_EXTENSIONS[kind] != IMAGE_EXTENSIONS[named]:
        yield "extension", f"{image.name} holds {kind}"
