"""Two indexes over tars: DALI's, a text file beside each tar, and ours, one memory-mapped file over the whole set.

samples.idx: magic, length of the header, CRC-32 of all that follows; the header (JSON: what the tars were); then, each
64-byte aligned, a 64-byte row per sample, the keys as fixed-width UTF-8, and the order that sorts them.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards import tar
from shards.columns import TOGETHER, as_told
from shards.dimensions import dimensions
from shards.files import MAPPED, forget, map_file, write_atomic
from shards.sample import sniff
from shards.shard_errors import BadLabel, ComponentMissing, DuplicateKey, StaleIndex
from shards.writer import ShardInfo

__all__ = [
    "IMAGE_EXTENSIONS",
    "INDEX_NAME",
    "ROW",
    "Groups",
    "Index",
    "KeyGroups",
    "Part",
    "TarSample",
    "Walked",
    "dali_index",
    "known_rows",
    "label_told",
    "load_index",
    "map_file",
    "read_index",
    "rest_crc",
    "tar_samples",
    "walk_tars",
    "write_dali_index",
    "write_index",
    "write_rows",
]

INDEX_NAME = "samples.idx"

# One cache line a sample: a random access costs one miss here.
ROW = np.dtype(
    [
        ("offset", "<u8"),  # of the sample's first header
        ("image", "<u8"),  # of the image bytes
        ("json", "<u8"),  # of the JSON bytes; 0: none
        ("size", "<u4"),
        ("json_size", "<u4"),
        ("crc", "<u4"),  # CRC-32 of the image bytes
        ("label", "<i4"),
        ("shard", "<u4"),
        ("group", "<u4"),
        ("width", "<u4"),  # 0: the header does not say
        ("height", "<u4"),
        ("ext", "u1"),  # into EXTENSIONS
        ("told", "u1"),  # 1: its JSON was read when it was indexed, and does not contradict the label
        ("unused", "V2"),
        ("rest", "<u4"),  # `rest_crc` of the members beside the image; 0: not known
    ],
    align=False,
)
_MAGIC = b"BASSIDX1"
_PREFIX = struct.Struct("<8sQI")
_ALIGN = 64
IMAGE_EXTENSIONS = {"jpg": 0, "jpeg": 0, "png": 1, "webp": 2}  # an extension, and its number in EXTENSIONS
_NUMBER = re.compile(r"\d{1,9}")


@dataclass(slots=True)  # not frozen: one is made a sample, and frozen costs twice as much
class TarSample:
    """The members of one sample in a tar: key, offset of the first header, and the member for each extension.

    `image` is the first member with an image's extension; `twice` names extensions that stand twice in the sample, of
    which the first counts.
    """

    key: str
    offset: int
    members: dict[str, tar.Member]
    image: tar.Member | None = None
    twice: tuple[str, ...] = ()


def tar_samples(members: Iterable[tar.Member]) -> Iterator[TarSample]:
    """Groups members into samples as WebDataset does: neighbours with one key; hidden files are passed over."""
    sample: TarSample | None = None
    for member in members:
        key, ext = tar.split_name(member.name)
        if not key or key.endswith("/") or key == member.name:  # no dot: WebDataset passes it over
            continue
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = TarSample(key, member.header, {})
        if ext in sample.members:
            sample.twice += (ext,)
            continue
        sample.members[ext] = member
        if sample.image is None and ext in IMAGE_EXTENSIONS:
            sample.image = member
    if sample is not None:
        yield sample


def write_dali_index(path: Path, members: Iterable[tar.Member] | None = None) -> Path:
    """Writes `shard-NNNNNN.idx` beside a tar: what DALI's wds2idx (v1.2) writes, byte for byte.

    A tar without samples gets none, as DALI refuses one.

    Args:
        path: of the tar.
        members: of the tar, if it has been walked already.

    Raises:
        TarDamaged: the tar cannot be walked.
    """
    target = path.with_suffix(".idx")
    content = dali_index(tar.walk(map_file(path), path) if members is None else members)
    if content is None:
        target.unlink(missing_ok=True)
    else:
        write_atomic(target, [content])
    return target


def dali_index(members: Iterable[tar.Member]) -> bytes | None:
    """What belongs into the .idx of a tar with these members; None for a tar without samples."""
    pieces: list[str] = []
    count = 0
    last = None
    for name, _, offset, size in members:
        # wds2idx splits at the first dot like us, but keeps the extension's case
        dot = name.find(".", name.rfind("/") + 1 if "/" in name else 0)
        key = name[:dot]
        if key == last:
            pieces.append(f" {name[dot + 1 :]} {offset} {size} {name}")
        elif key and key[-1] != "/":
            count += 1
            last = key
            pieces.append(f"\n{name[dot + 1 :]} {offset} {size} {name}")
    return f"v1.2 {count}{''.join(pieces)}\n".encode("utf-8", "surrogateescape") if count else None


@dataclass(frozen=True, slots=True)
class Walked:
    """What a walk over all tars of a set found.

    Args:
        rows: ROW, (N,).
        keys: S, (N,).
        samples: number of samples of each tar.
    """

    rows: NDArray[Any]
    keys: NDArray[np.bytes_]
    samples: list[int]


@dataclass(frozen=True, slots=True)
class KeyGroups:
    """The group of each key, for many: 30 bytes a key and not the 250 of a dict.

    Args:
        keys: S, (N,), sorted.
        numbers: integers of any kind (N,).
    """

    keys: NDArray[np.bytes_]
    numbers: NDArray[np.int64]

    def of(self, keys: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """The groups of `keys`, S (M,), as int64 (M,); -1 for those that are not known."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        at = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        # int64 first: of an index's uint32 the -1 would be 4,294,967,295
        found: NDArray[np.int64] = np.where(self.keys[at] == keys, self.numbers[at].astype(np.int64), -1)
        return found


Groups = Mapping[str, int] | KeyGroups | Callable[[], KeyGroups]
"""The group of each key; a callable is called once it is needed."""
Part = tuple[NDArray[Any], NDArray[np.bytes_]]
"""One tar's rows (_BUILD, (N,)) and keys (S, (N,))."""


def walk_tars(
    paths: Sequence[Path],
    labels: Sequence[str],
    groups: Groups | None = None,
    known: Callable[[Path], Part | None] = lambda path: None,
) -> Walked:
    """Walks every tar once, and writes its .idx on the way.

    Args:
        paths: of the tars, in order.
        labels: names of the set's labels.
        groups: group of each key; without it the `group` of the sample's JSON; without that every sample its own.
        known: what `known_rows` gives of a tar that need not be walked; only with `groups`.

    Raises:
        TarDamaged, ComponentMissing, BadLabel: the tars are no set.
    """
    # a tar's members and rows as Python objects are 14 MB, so one tar's are gone before the next one's are made
    walks = [known(path) or _walk_tar(path, number, labels, groups is not None) for number, path in enumerate(paths)]
    samples = [len(part) for part, _ in walks]
    keys = np.concatenate([part for _, part in walks] or [np.zeros(0, "S1")])
    rows = np.zeros(sum(samples), ROW)
    if callable(groups):
        groups = groups()
    if groups is None:
        group = np.concatenate([part["group"] for part, _ in walks] or [np.zeros(0, np.int64)])
    elif isinstance(groups, KeyGroups):
        group = groups.of(keys)
    else:
        group = np.fromiter((_group(groups.get(_text(key))) for key in keys), np.int64, len(keys))
    missing = group < 0
    group[missing] = group.max(initial=-1) + 1 + np.arange(missing.sum())
    at = 0
    for number, (part, _) in enumerate(walks):
        for name in _BUILD.names or ():
            if name != "group":
                rows[name][at : at + len(part)] = part[name]
        rows["shard"][at : at + len(part)] = number
        at += len(part)
    rows["group"] = group
    return Walked(rows, keys, samples)


def known_rows(
    path: Path, keys: NDArray[np.bytes_], offsets: NDArray[np.int64], packed: bytes, labels: int
) -> Part | None:
    """A tar's rows from what its writer remembers, and its .idx, without a walk.

    Args:
        path: of the tar.
        keys: ASCII, (N,), in the order of the offsets.
        offsets: of each sample's first header.
        packed: N rows as `shards.known_rows.packed_row` makes them.
        labels: how many the set has.

    Returns:
        None if the tar does not have just these samples in these places: then it is to be walked.
    """
    part = np.frombuffer(packed, _BUILD).copy()
    for name in ("offset", "image", "json"):
        part[name] += offsets.astype(np.uint64)
    if not len(part):
        return None
    data, end = map_file(path), int(part["json"][-1] + part["json_size"][-1])
    end += -end % tar.BLOCK
    if len(data) != end + len(tar.end_blocks(end)):  # as the writer ends a tar
        return None
    some = ((part[at : at + TOGETHER], keys[at : at + TOGETHER]) for at in range(0, len(part), TOGETHER))
    found = as_told(data, path, some, labels)
    if found is None or found.dali_index is None:
        return None
    write_atomic(path.with_suffix(".idx"), [found.dali_index])
    return part, keys


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def _group(told: Any) -> int:
    return told if isinstance(told, int) and 0 <= told < 2**31 else -1


def _walk_tar(path: Path, number: int, labels: Sequence[str], grouped: bool) -> tuple[NDArray[Any], NDArray[np.bytes_]]:
    """One tar's rows (_BUILD) and keys; writes its .idx. The JSON's groups, unless there are others (`grouped`)."""
    data = map_file(path)
    members = tar.members_of(data, path)
    rows = []
    keys = []
    held = 0
    for sample in tar_samples(members):
        rows.append(_row(sample, data, path, number, labels, grouped))
        keys.append(sample.key.encode("utf-8", "surrogateescape"))
        if sample.offset - held > MAPPED:
            forget(data, held, sample.offset)
            held = sample.offset
    part = np.zeros(len(rows), _BUILD)
    if rows:
        part[:] = rows
    write_dali_index(path, members)
    return part, np.array(keys, dtype=f"S{max(map(len, keys), default=1)}")


def write_index(folder: Path, tars: Sequence[ShardInfo], walked: Walked, *, name: str = INDEX_NAME) -> None:
    """Writes samples.idx, or `name`.

    Args:
        folder: of the tars.
        tars: name, bytes and sha256 of each, by which the index knows them again.
        walked: what `walk_tars` found in them.

    Raises:
        DuplicateKey: two samples have one key; nothing was written.
    """
    order = np.argsort(walked.keys, kind="stable").astype("<u4")
    _refuse_duplicates(folder, tars, walked.rows, walked.keys, order)
    write_rows(folder / name, tars, walked.rows, walked.keys, order)


_NO_JSON = object()
_BUILD = np.dtype([(name, "<i8" if name == "group" else ROW[name]) for name in ROW.names or () if name != "unused"])


def _row(
    sample: TarSample,
    data: memoryview,
    path: Path,
    shard: int,
    labels: Sequence[str],
    grouped: bool,
) -> tuple[int, ...]:
    image = sample.image
    if image is None:
        raise ComponentMissing(path, sample.offset, sample.key, "image (jpg, jpeg, png or webp)", list(sample.members))
    label = sample.members.get("cls")
    if label is None:
        raise ComponentMissing(path, sample.offset, sample.key, "label (.cls)", list(sample.members))
    text = bytes(data[label.offset : label.offset + min(label.size, 64)]).decode("utf-8", "replace").strip()
    if not _NUMBER.fullmatch(text) or int(text) >= len(labels):
        raise BadLabel(path, sample.offset, sample.key, text, len(labels))
    meta = sample.members.get("json")
    content = data[image.offset : image.offset + image.size]
    width, height = dimensions(content) or (0, 0)
    kind = sniff(bytes(content[:512]))
    named = tar.split_name(image.name)[1]
    told = _json(data[meta.offset : meta.offset + meta.size]) if meta else {}
    group = _group(told.get("group")) if isinstance(told, dict) and not grouped else -1
    return (
        sample.offset,
        image.offset,
        meta.offset if meta else 0,
        image.size,
        meta.size if meta else 0,
        zlib.crc32(content),
        int(text),
        shard,
        group,
        width,
        height,
        IMAGE_EXTENSIONS[kind if kind in IMAGE_EXTENSIONS else named],
        told is not _NO_JSON and label_told(told) in (None, int(text), labels[int(text)]),
        rest_crc(sample, data),
    )


def _json(content: memoryview) -> Any:
    try:
        return json.loads(bytes(content))
    except ValueError:
        return _NO_JSON  # other people's JSON is theirs; `verify` names it


def label_told(told: Any) -> Any:
    """What a sample's JSON says of its label: a name, a number, or None."""
    return told.get("label") if isinstance(told, dict) else None


def rest_crc(sample: TarSample, data: memoryview) -> int:
    """CRC-32 over extension and bytes of every member that is not the sample's image, in order."""
    image, crc = sample.image, 0
    for ext, member in sample.members.items():
        if member is not image:
            crc = zlib.crc32(ext.encode("utf-8", "surrogateescape") + b"\0", crc)
            crc = zlib.crc32(data[member.offset : member.offset + member.size], crc)
    return crc


def _refuse_duplicates(
    folder: Path, tars: Sequence[ShardInfo], rows: NDArray[Any], keys: NDArray[np.bytes_], order: NDArray[Any]
) -> None:
    ordered = keys[order]
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(twice):
        pair = [rows[order[twice[0] + step]] for step in (0, 1)]
        first, second = (f"{folder / tars[row['shard']].name}@{row['offset']}" for row in pair)
        raise DuplicateKey(ordered[twice[0]].decode("utf-8", "replace"), first, second)


def write_rows(
    path: Path, tars: Sequence[ShardInfo], rows: NDArray[Any], keys: NDArray[np.bytes_], order: NDArray[Any]
) -> None:
    """Writes the file from its columns."""
    about = {"samples": len(rows), "key_bytes": keys.dtype.itemsize, "tars": [_identity(info) for info in tars]}
    text = json.dumps(about, separators=(",", ":")).encode()
    pieces = [text.ljust(-(-(_PREFIX.size + len(text)) // _ALIGN) * _ALIGN - _PREFIX.size)]
    for column in (rows, keys, order):
        raw = np.ascontiguousarray(column).tobytes()
        pieces += [raw, bytes(-len(raw) % _ALIGN)]
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    write_atomic(path, [_PREFIX.pack(_MAGIC, len(pieces[0]), crc), *pieces])


def _identity(info: ShardInfo) -> list[Any]:
    return [info.name, info.bytes, info.sha256]


@dataclass(frozen=True, slots=True)
class Index:
    """The mapped columns of samples.idx: rows (ROW, (N,)), keys (S, (N,)), order (u4, (N,): sorts the keys)."""

    rows: NDArray[Any]
    keys: NDArray[np.bytes_]
    order: NDArray[np.uint32]

    def without(self, numbers: Collection[int]) -> Index:
        """The columns without some samples: a copy."""
        keep = np.ones(len(self.rows), bool)
        keep[list(numbers)] = False
        renumbered = (np.cumsum(keep) - 1).astype("<u4")
        return Index(self.rows[keep], self.keys[keep], renumbered[self.order[keep[self.order]]])

    def find(self, key: str) -> int | None:
        """The number of the sample with this key: a binary search, no table to build at open."""
        wanted = key.encode("utf-8", "surrogateescape")
        low, high = 0, len(self.order)
        while low < high:
            middle = (low + high) // 2
            if self.keys[self.order[middle]] < wanted:
                low = middle + 1
            else:
                high = middle
        if low < len(self.order) and self.keys[self.order[low]] == wanted:
            return int(self.order[low])
        return None


def load_index(path: Path, tars: Sequence[ShardInfo]) -> Index:
    """Maps samples.idx and checks all of it, in one CRC pass.

    Raises:
        StaleIndex: it is absent, damaged, or was made from other tars.
    """
    found, index = read_index(path)
    expected = [_identity(info) for info in tars]
    if found != expected:
        raise StaleIndex(path, _difference(found, expected))
    return index


def read_index(path: Path) -> tuple[list[list[Any]], Index]:
    """Maps samples.idx, whatever tars it was made from; returns [name, bytes, sha256] of each of them, and the columns.

    Raises:
        StaleIndex: it is absent or damaged.
    """
    try:
        data = map_file(path)
    except FileNotFoundError:
        raise StaleIndex(path, "the index is missing") from None
    if len(data) < _PREFIX.size or bytes(data[:8]) != _MAGIC:
        raise StaleIndex(path, "not an index of this version")
    _, length, crc = _PREFIX.unpack_from(data)
    if zlib.crc32(data[_PREFIX.size :]) != crc:
        raise StaleIndex(path, f"the index is damaged ({len(data)} bytes, checksum does not match)")
    about = json.loads(bytes(data[_PREFIX.size : _PREFIX.size + length]))
    count, width = about["samples"], about["key_bytes"]
    at = _PREFIX.size + length
    columns = []
    for dtype in (ROW, np.dtype(f"S{width}"), np.dtype("<u4")):
        columns.append(np.frombuffer(data, dtype, count, at))
        at += -(-count * dtype.itemsize // _ALIGN) * _ALIGN
    return about["tars"], Index(*columns)


def _difference(found: list[list[Any]], expected: list[list[Any]]) -> str:
    for (name, *old), (other, *new) in zip(found, expected, strict=False):
        if [name, *old] != [other, *new]:
            was, now = f"{name} ({old[0]} bytes, {old[1][:12]})", f"{other} ({new[0]} bytes, {new[1][:12]})"
            return f"the index was made from {was}, the manifest has {now}"
    return f"the index was made from {len(found)} tars, the manifest has {len(expected)}"
