"""A shard is a part until it is sealed, and sealed before it is named: a name without .part promises a whole tar."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from shards import tar
from shards.files import fsync_folder, map_file, sha256_of, write_atomic
from shards.new_folder import followed
from shards.sample import EXTENSIONS, Sample, check
from shards.shard_errors import BadSample, PartLost, ShardExists, TargetNotEmpty

if TYPE_CHECKING:
    from shards.shard_set import ShardSet

__all__ = [
    "Edit",
    "Placement",
    "ShardInfo",
    "ShardWriter",
    "encode",
    "rewrite",
    "rewrite_without",
    "shard_name",
    "write_set",
]

MAX_SAMPLES = 10_000
MAX_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a sample went: shard number, offset of its first header, offset and size of the image bytes."""

    shard: int
    offset: int
    image_offset: int
    size: int


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A sealed shard: file name, number of samples, bytes of the file, its sha256 in hex."""

    name: str
    samples: int
    bytes: int
    sha256: str


def shard_name(shard: int) -> str:
    """The file name of a sealed shard."""
    return f"shard-{shard:06d}.tar"


class ShardWriter:
    """Appends samples to shard-NNNNNN.tar.part and seals it to shard-NNNNNN.tar.

    The caller keeps the ledger. In this order, every step can be repeated from either side of a kill:

    1. `add` some samples, then `sync`, then commit what sync returned (with `shard` and `samples`);
    2. when `full`: `sync` and commit, `seal`, then commit the next shard number with 0 bytes and 0 samples.

    On start give the committed numbers. Bytes beyond them are cut off. If the shard was sealed but that was not
    committed, the writer goes on with the next shard and `recovered` says what had been sealed.

    Args:
        folder: created if absent.
        shard: number of the shard to go on with.
        committed_bytes: what the last `sync` that was committed returned; 0 for a new shard.
        samples: how many samples those bytes hold.
        max_samples, max_bytes: when `full` becomes true; the caller decides when to seal.

    Raises:
        ShardExists: the shard is sealed with other bytes than were committed.
        PartLost: the part holds less than what was committed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        shard: int = 0,
        committed_bytes: int = 0,
        samples: int = 0,
        max_samples: int = MAX_SAMPLES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.folder, self.shard, self.samples = folder, shard, samples
        self.max_samples, self.max_bytes = max_samples, max_bytes
        self.recovered: ShardInfo | None = None
        self._file: BinaryIO | None = None
        self._position = 0
        self._digest: Any = None  # of all that was written, where nothing was there before
        folder.mkdir(parents=True, exist_ok=True)
        sealed = folder / shard_name(shard)
        if sealed.exists():
            size = sealed.stat().st_size
            if not _ends_at(sealed, committed_bytes):
                raise ShardExists(sealed, committed_bytes, size)
            self.recovered = ShardInfo(sealed.name, samples, size, sha256_of(sealed))
            self.shard, self.samples, committed_bytes = shard + 1, 0, 0
        self._open(committed_bytes)

    @property
    def part(self) -> Path:
        """The file being written."""
        return self.folder / f"{shard_name(self.shard)}.part"

    @property
    def position(self) -> int:
        """Bytes in the part so far, synced or not."""
        return self._position

    @property
    def full(self) -> bool:
        """True once the shard has its samples or its bytes."""
        return self.samples >= self.max_samples or self._position >= self.max_bytes

    def room(self, size: int) -> int:
        """How many samples of `size` bytes together may be added before `full` has to be asked again; 1 at least."""
        return max(1, self.max_samples - self.samples) if self._position + size < self.max_bytes else 1

    def add(self, sample: Sample) -> Placement:
        """Appends <key>.<ext>, <key>.cls and <key>.json, and what else the sample has.

        Raises:
            BadSample: the sample breaks a rule of the format; nothing was written.
        """
        before, after = encode(sample)
        return self.append(before, sample.image, after)

    def append(self, before: bytes, image: bytes, after: bytes) -> Placement:
        """`add` for what `encode` has made of a sample already."""
        at = self.position
        self.append_all([(before, image, after)])
        return Placement(self.shard, at, at + tar.BLOCK, len(image))

    def append_all(self, samples: Sequence[tuple[bytes, bytes, bytes]]) -> None:
        """`append` for many, one after another: each call gives up the interpreter twice, whatever it writes."""
        file = self._file or self._open(0)
        content = b"".join(chain.from_iterable(samples))
        file.write(content)
        if self._digest is not None:
            self._digest.update(content)
        self._position += len(content)
        self.samples += len(samples)

    def sync(self) -> int:
        """Makes everything added so far durable; returns the position that may now be committed."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._position

    def seal(self) -> ShardInfo:
        """Ends the tar, fsyncs it, names it and fsyncs the folder; the next `add` begins the next shard.

        A shard without samples is not written: its part is removed, and the info says 0 samples and 0 bytes.
        """
        part, sealed = self.part, self.folder / shard_name(self.shard)
        file = self._file or self._open(0)
        if self.samples:
            end = tar.end_blocks(self._position)
            file.write(end)
            if self._digest is not None:
                self._digest.update(end)
            self.sync()
        file.close()
        self._file = None
        if not self.samples:
            part.unlink()
            return ShardInfo(sealed.name, 0, 0, "")
        digest = sha256_of(part) if self._digest is None else self._digest.hexdigest()
        info = ShardInfo(sealed.name, self.samples, part.stat().st_size, digest)
        part.rename(sealed)
        fsync_folder(self.folder)
        self.shard, self.samples, self._position = self.shard + 1, 0, 0
        return info

    def close(self) -> None:
        """Closes without sealing; the part is kept, and removed if it holds nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None
            if not self._position:
                self.part.unlink()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, committed_bytes: int) -> BinaryIO:
        part = self.part
        if committed_bytes:
            found = part.stat().st_size if part.exists() else 0
            if found < committed_bytes:
                raise PartLost(part, committed_bytes, found)
        elif (self.folder / shard_name(self.shard)).exists():
            sealed = self.folder / shard_name(self.shard)
            raise ShardExists(sealed, 0, sealed.stat().st_size)
        known = part.exists()
        file = part.open("r+b" if known else "w+b", buffering=1 << 20)
        if not known:
            fsync_folder(self.folder)  # or a power cut could take the name away from bytes that a ledger counts on
        file.truncate(committed_bytes)
        file.seek(committed_bytes)
        self._file, self._position = file, committed_bytes
        self._digest = None if committed_bytes else hashlib.sha256()
        return file


def _ends_at(path: Path, position: int) -> bool:
    """Whether the last sample of a sealed shard ends at `position`: its JSON's last block before, only zeros after."""
    with path.open("rb") as file:
        file.seek(max(0, position - tar.BLOCK))
        last = file.read(tar.BLOCK)
        return position > 0 and any(last) and file.read() == tar.end_blocks(position)


# one encoder: json.dumps makes a new one for every sample
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)


def encode(sample: Sample) -> tuple[bytes, bytes]:
    """A sample's bytes in a tar, before and after those of its image.

    Raises:
        BadSample: the sample breaks a rule of the format.
    """
    check(sample)
    header, _, *rest = _members(sample)
    return header, b"".join(rest)


def _members(sample: Sample) -> list[bytes]:
    label = str(sample.label).encode()
    try:
        text = _JSON.encode(sample.meta)
        meta = text.encode()
    except (TypeError, ValueError) as error:
        raise BadSample(sample.key, f"its meta is not JSON: {error}") from None
    pieces = []
    for ext, content in ((sample.ext, sample.image), ("cls", label), ("json", meta), *sample.others.items()):
        pieces += [tar.header(f"{sample.key}.{ext}", len(content)), content, tar.padding(len(content))]
    return pieces


@dataclass(frozen=True, slots=True)
class Edit:
    """What a sample becomes: its new label and JSON; the image stays."""

    label: int
    meta: Callable[[dict[str, Any]], dict[str, Any]]


def rewrite_without(path: Path, keys: Collection[str]) -> ShardInfo:
    """Rewrites a sealed shard without the samples of `keys`; `rewrite` says how."""
    return rewrite(path, dict.fromkeys(keys))


def rewrite(
    path: Path,
    edits: Mapping[str, Edit | None],
    *,
    target: Path | None = None,
    on_removed: Callable[[str, str, bytes], None] | None = None,
) -> ShardInfo:
    """Rewrites a sealed shard; the file is the old one or the new one at every moment.

    Members of samples that `edits` does not name are copied as they are. Repeating it changes nothing. The set's
    manifest and indexes are stale after it until `finish` is called. A shard of which nothing is left stays as an
    empty tar.

    Args:
        path: of the shard.
        edits: by key: what the sample becomes, None to leave it out.
        target: written instead of `path`, which then stays as it was.
        on_removed: told key, extension and bytes of each image left out.

    Raises:
        TarDamaged: the tar cannot be walked; it is left as it was.
    """
    target = target or path
    samples, digest = 0, hashlib.sha256()

    def pieces() -> Iterator[bytes | memoryview]:
        nonlocal samples
        size = 0
        for key, members in groupby(tar.walk(data, path), lambda member: tar.split_name(member.name)[0]):
            kept = _edited(data, key, list(members), edits, on_removed)
            samples += bool(kept)
            for piece in kept:
                size += len(piece)
                digest.update(piece)
                yield piece
        end = tar.end_blocks(size)
        digest.update(end)
        yield end

    data = map_file(path)
    write_atomic(target, pieces())
    return ShardInfo(target.name, samples, target.stat().st_size, digest.hexdigest())


def _edited(
    data: memoryview,
    key: str,
    members: Sequence[tar.Member],
    edits: Mapping[str, Edit | None],
    on_removed: Callable[[str, str, bytes], None] | None,
) -> Sequence[bytes | memoryview]:
    """What is written for the neighbouring members of one key."""
    if key not in edits:
        return [data[m.header : m.offset + m.size + len(tar.padding(m.size))] for m in members]
    contents = {tar.split_name(m.name)[1]: bytes(data[m.offset : m.offset + m.size]) for m in members}
    ext = next((ext for ext in contents if ext in EXTENSIONS), "")
    edit = edits[key]
    if edit is None:
        if on_removed is not None and ext:
            on_removed(key, ext, contents[ext])
        return []
    meta = edit.meta(json.loads(contents.get("json", b"{}")))
    others = {other: content for other, content in contents.items() if other not in (ext, "cls", "json")}
    return _members(Sample(key, contents[ext], ext, edit.label, meta, others))


def write_set(
    folder: Path,
    samples: Iterable[Sample],
    labels: Sequence[str],
    *,
    source: dict[str, Any],
    split: str | None = None,
    shard_samples: int = MAX_SAMPLES,
    groups: Mapping[str, int] | None = None,
) -> ShardSet:
    """Writes a whole shard set: beside `folder` first, then renamed, so that no half of one is ever named.

    Args:
        folder: where it will stand; absent or an empty folder.
        samples: in the order they are to have; `meta["group"]`, an integer, becomes the sample's group.
        labels: the names that `Sample.label` counts in.
        source: where the set came from, kept in dataset.json.
        split: name of the part, if it is one.
        shard_samples: samples a shard.
        groups: group by key, instead of the JSON's; looked at once all samples are written.

    Raises:
        TargetNotEmpty, BadSample, BadLabel, DuplicateKey: and nothing is left behind.
    """
    from shards.shard_set import ShardSet, finish

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TargetNotEmpty(folder)
    folder = followed(folder)
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)  # what a killed attempt left
    beside.mkdir(parents=True)
    try:
        sealed = []
        with ShardWriter(beside, max_samples=shard_samples) as writer:
            for sample in samples:
                writer.add(sample)
                if writer.full:
                    sealed.append(writer.seal())
            if writer.samples:
                sealed.append(writer.seal())
        finish(beside, labels, source=source, split=split, groups=groups, sealed=sealed).close()
        beside.rename(folder)
        fsync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return ShardSet.open(folder)
