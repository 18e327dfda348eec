"""A shard set says what it is: a manifest, tars, and indexes that are refused when they do not match."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards import tar
from shards.address import is_address, local_or_address
from shards.errors import brief
from shards.files import fsync_folder, give_back_memory, sha256_of, write_atomic
from shards.index import (
    INDEX_NAME,
    Groups,
    Index,
    KeyGroups,
    Part,
    TarSample,
    load_index,
    map_file,
    tar_samples,
    walk_tars,
    write_index,
)
from shards.manifest import FORMAT, MANIFEST_NAME, VERSION, Manifest, digest_of, parse_manifest, read_manifest
from shards.quarantine import Quarantined, read_quarantine
from shards.sample import EXTENSIONS, Sample
from shards.shard_errors import ManifestDamaged, ManifestMissing, ShardError, StaleIndex, TarDamaged
from shards.writer import ShardInfo

__all__ = [
    "MANIFEST_NAME",
    "NEXT_INDEX",
    "ORIGIN_NAME",
    "Location",
    "Manifest",
    "ShardSet",
    "finish",
    "load_set_index",
    "parse_manifest",
    "read_manifest",
    "rebuild",
]

ORIGIN_NAME = ".origin.json"  # in a folder that stands for a set in a store: its address
NEXT_INDEX = f"{INDEX_NAME}.next"  # of the manifest that is about to be, or has just become, dataset.json


@dataclass(frozen=True, slots=True)
class Location:
    """Where a sample lies; as text "shard-000000.tar@5321 key"."""

    shard: str
    offset: int
    key: str

    def __str__(self) -> str:
        return f"{self.shard}@{self.offset} {self.key}"


def finish(
    folder: Path,
    labels: Sequence[str],
    *,
    source: dict[str, Any],
    split: str | None = None,
    groups: Groups | None = None,
    tars: Sequence[Path] | None = None,
    known: Callable[[Path], Part | None] = lambda path: None,
    sealed: Iterable[ShardInfo] = (),
) -> ShardSet:
    """Makes a shard set of the sealed tars in `folder`, ours or other people's; also the way to rebuild one.

    Writes the .idx files, samples.idx and dataset.json from what the tars hold, each atomically; repeating it changes
    nothing. Parts (.tar.part) are left alone. A set that was there before stays whole until dataset.json is replaced,
    and the new one is whole from then on: the index waits beside as samples.idx.next, where `open` finds it. For that
    the new tars must have names of their own, and the old ones may be removed only after.

    Args:
        folder: holds *.tar with .jpg/.jpeg/.png/.webp, .cls and, if any, .json members.
        labels: names of the labels, by number.
        source: where the set came from.
        split: name of the part, if the set is one.
        groups: group number by key (near-duplicates share one); without it `group` in the samples' JSON.
        tars: the set's own, in order; without it every *.tar in `folder`.
        known: what `shards.index.known_rows` gives of a tar, which then is not walked; only with `groups`.
        sealed: what a writer said of tars: one that has that size is not read again for its sha256.

    Raises:
        TarDamaged, ComponentMissing, BadLabel, DuplicateKey: the tars are no shard set.
    """
    tars = sorted(folder.glob("*.tar")) if tars is None else tars
    digest_of_size = {(info.name, info.bytes): info.sha256 for info in sealed}

    def sha256(path: Path) -> str:
        return digest_of_size.get((path.name, path.stat().st_size)) or sha256_of(path)

    with ThreadPoolExecutor(2) as pool:  # hashing releases the GIL and runs beside the walk
        digests = pool.map(sha256, tars)
        walked = walk_tars(tars, labels, groups, known)
        shards = [
            ShardInfo(path.name, samples, path.stat().st_size, digest)
            for path, samples, digest in zip(tars, walked.samples, digests, strict=True)
        ]
    write_index(folder, shards, walked, name=NEXT_INDEX)
    count, counts = len(walked.rows), np.bincount(walked.rows["label"], minlength=len(labels)).tolist()
    del walked
    give_back_memory()  # before the index is mapped, which is as large
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "samples": count,
        "labels": list(labels),
        "counts": dict(zip(labels, counts, strict=True)),
        "split": split,
        "source": source,
        "digest": digest_of(shards),
        "shards": [asdict(info) for info in shards],
    }
    write_atomic(folder / MANIFEST_NAME, [json.dumps(manifest, ensure_ascii=False, indent=1).encode(), b"\n"])
    (folder / NEXT_INDEX).replace(folder / INDEX_NAME)
    for stale in set(folder.glob("*.idx")) - {*(path.with_suffix(".idx") for path in tars), folder / INDEX_NAME}:
        stale.unlink()
    fsync_folder(folder)
    return ShardSet.open(folder)


def rebuild(folder: Path, labels: Sequence[str] | None = None) -> ShardSet:
    """Makes manifest and indexes of a set's tars anew; what the old manifest says of labels and source is kept.

    Args:
        folder: holds the tars.
        labels: names of the labels by number; needed where there is no usable manifest, as over other people's tars.

    Raises:
        ManifestMissing, ManifestDamaged: and no labels were given.
        TarDamaged, ComponentMissing, BadLabel, DuplicateKey: the tars are no shard set.
    """
    try:
        told = json.loads((folder / MANIFEST_NAME).read_bytes())
        known, source, split = tuple(told["labels"]), dict(told["source"]), told["split"]
    except FileNotFoundError:
        if labels is None:
            raise ManifestMissing(folder) from None
        known, source, split = (), {"kind": "tars"}, None
    except (KeyError, TypeError, ValueError) as error:
        if labels is None:
            raise ManifestDamaged(folder / MANIFEST_NAME, f"cannot be read ({brief(error)}); name the labels") from None
        known, source, split = (), {"kind": "tars"}, None
    return finish(folder, labels or known, source=source, split=split, groups=_known_groups(folder))


def _known_groups(folder: Path) -> KeyGroups | None:
    """Group number by key as the old index has them; a crawl keeps them nowhere else."""
    try:
        manifest = read_manifest(folder)
        index = load_set_index(folder, manifest)
    except ShardError:
        return None
    return KeyGroups(index.keys[index.order], index.rows["group"][index.order])


def _tars(folder: Path, manifest: Manifest) -> Sequence[memoryview]:
    """The tars, mapped; those of a set in a store are mapped as they are read."""
    tars = []
    for info in manifest.shards:
        path = folder / info.name
        try:
            data = map_file(path)
        except FileNotFoundError:
            if (folder / ORIGIN_NAME).is_file():
                from shards.remote import LazyTars

                return LazyTars(folder, manifest)
            raise StaleIndex(path, "the manifest names this tar, but it is missing") from None
        if len(data) != info.bytes:
            raise StaleIndex(path, f"the tar has {len(data)} bytes, the manifest says {info.bytes}")
        tars.append(data)
    return tars


def load_set_index(folder: Path, manifest: Manifest) -> Index:
    """The index that belongs to a manifest: samples.idx, or the one that a killed `finish` left beside it.

    Raises:
        StaleIndex: there is none.
    """
    try:
        return load_index(folder / INDEX_NAME, manifest.shards)
    except StaleIndex:
        with suppress(StaleIndex):
            return load_index(folder / NEXT_INDEX, manifest.shards)
        raise


class ShardSet:
    """An opened shard set: samples by number, without a copy. Build one with `open`.

    Opening reads manifest and index, and of each tar two headers: a million samples open in a tenth of a second. What
    holds from then on: the index is undamaged and was made from tars of the manifest's names, sizes and digests;
    every tar has that size; its first and its last sample lie where the index says. That each byte between is still the
    same is for `verify` to find, or for a reader that is told to look (`on_bad`).

    Samples in the set's quarantine are not in an opened set: not in its length, its counts or its digest.

    Args:
        folder, manifest, index, tars: what `open` found; `tars` are the mapped files, in the manifest's order.
        quarantined: samples that were passed over.
        with_quarantined: whether `open` was asked to keep them.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        index: Index,
        tars: Sequence[memoryview],
        quarantined: tuple[Quarantined, ...] = (),
        with_quarantined: bool = False,
    ) -> None:
        self.folder, self.manifest, self.index, self.tars = folder, manifest, index, tars
        self.quarantined, self._with_quarantined = quarantined, with_quarantined

    @classmethod
    def open(cls, path: Path | str, *, with_quarantined: bool = False) -> ShardSet:
        """Opens the set in folder `path`, or at an address such as s3://bucket/set: its tars come as they are read.

        `with_quarantined` gives the samples of its quarantine too.

        Raises:
            ManifestMissing, ManifestDamaged: dataset.json is not there or not usable.
            StaleIndex: a tar is missing, has another size than the manifest says or other samples than the index says,
                or samples.idx is of other tars.
            QuarantineDamaged: quarantine.jsonl cannot be read.
        """
        if isinstance(path, str) and is_address(path):
            from shards.remote import view  # it opens sets itself

            place = local_or_address(path)
            folder = view(place) if isinstance(place, str) else place
        else:
            folder = Path(path)
        manifest = read_manifest(folder)
        while True:
            try:
                return cls._opened(folder, manifest, with_quarantined)
            except StaleIndex:
                # a crawl may have replaced the set since the manifest was read
                before, manifest = manifest, read_manifest(folder)
                if manifest.digest == before.digest:
                    raise

    @classmethod
    def _opened(cls, folder: Path, manifest: Manifest, with_quarantined: bool) -> ShardSet:
        tars = _tars(folder, manifest)
        index = load_set_index(folder, manifest)
        if len(index.rows) != manifest.samples:
            raise StaleIndex(folder / INDEX_NAME, f"{len(index.rows)} samples, the manifest says {manifest.samples}")
        if index.rows["label"].max(initial=-1) >= len(manifest.labels) or set(manifest.counts) != set(manifest.labels):
            raise ManifestDamaged(folder / MANIFEST_NAME, "labels: not those that the samples have or counts names")
        if isinstance(tars, list):  # of a set in a store every look is a transfer
            _probe(folder, manifest, index, tars)
        known = {} if with_quarantined else read_quarantine(folder)
        gone = {number: item for key, item in known.items() if (number := index.find(key)) is not None}
        if gone:
            index = index.without(gone)
        return cls(folder, manifest, index, tars, tuple(gone[number] for number in sorted(gone)), with_quarantined)

    def __len__(self) -> int:
        return len(self.index.rows)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels, by number."""
        return self.manifest.labels

    @property
    def counts(self) -> dict[str, int]:
        """Samples per label name."""
        if not self.quarantined:
            return dict(self.manifest.counts)
        found = np.bincount(self.index.rows["label"], minlength=len(self.labels)).tolist()
        return dict(zip(self.labels, found, strict=True))

    @property
    def digest(self) -> str:
        """sha256 in hex over the shards' sha256 in order; over the keys that were passed over too, if any were."""
        if not self.quarantined:
            return self.manifest.digest
        keys = json.dumps(sorted(item.key for item in self.quarantined))
        return hashlib.sha256(f"{self.manifest.digest} without {keys}".encode()).hexdigest()

    @cached_property
    def label_ids(self) -> NDArray[np.int64]:
        """Label number of every sample, int64 (N,)."""
        return self.index.rows["label"].astype(np.int64)

    @cached_property
    def widths(self) -> NDArray[np.int64]:
        """Stored width in pixels, int64 (N,); 0 where the header does not say."""
        return self.index.rows["width"].astype(np.int64)

    @cached_property
    def heights(self) -> NDArray[np.int64]:
        """Stored height in pixels, int64 (N,); 0 where the header does not say."""
        return self.index.rows["height"].astype(np.int64)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Bytes of every image, int64 (N,)."""
        return self.index.rows["size"].astype(np.int64)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Group number of every sample, int64 (N,); near-duplicates share one."""
        return self.index.rows["group"].astype(np.int64)

    def image(self, i: int) -> memoryview:
        """The image bytes of sample `i`: a view of the mapped tar, no copy."""
        row = self.index.rows[i]
        start, size, shard = int(row["image"]), int(row["size"]), int(row["shard"])
        if isinstance(self.tars, list):
            view: memoryview = self.tars[shard]
            return view[start : start + size]
        data = self._piece(shard, start, size)
        if zlib.crc32(data) != row["crc"]:  # a ranged read sees no digest of the whole
            raise StaleIndex(
                self.folder / INDEX_NAME, f"{self.where(i)} has other bytes in the store than were indexed"
            )
        return data

    def _piece(self, shard: int, start: int, size: int) -> memoryview:
        piece: Callable[[int, int, int], memoryview] | None = getattr(self.tars, "piece", None)
        return self.tars[shard][start : start + size] if piece is None else piece(shard, start, size)

    def key(self, i: int) -> str:
        """The key of sample `i`."""
        return bytes(self.index.keys[i]).decode("utf-8", "surrogateescape")

    def find(self, key: str) -> int | None:
        """The number of the sample with this key; None if there is none."""
        return self.index.find(key)

    def ext(self, i: int) -> str:
        """ "jpg", "png" or "webp", by content."""
        return EXTENSIONS[self.index.rows[i]["ext"]]

    def meta(self, i: int) -> dict[str, Any]:
        """The sample's JSON; {} if it has none.

        Raises:
            ShardError: the JSON is none, or no object.
        """
        row = self.index.rows[i]
        if not row["json"]:
            return {}
        try:
            meta = json.loads(bytes(self._piece(int(row["shard"]), int(row["json"]), int(row["json_size"]))))
        except ValueError as error:
            raise ShardError(f"{self.folder}: {self.where(i)}: its .json is none ({error}); drop the sample") from None
        if not isinstance(meta, dict):
            raise ShardError(f"{self.folder}: {self.where(i)}: its .json is no object; drop the sample")
        return meta

    def components(self, i: int) -> dict[str, memoryview]:
        """Every member of sample `i` by extension, as views: the image, and whatever else (cls, json, txt, seg.png)."""
        data, sample = self._members(i)
        return {ext: data[member.offset : member.offset + member.size] for ext, member in sample.members.items()}

    def _members(self, i: int) -> tuple[memoryview, TarSample]:
        row = self.index.rows[i]
        data = self.tars[row["shard"]]
        path = self.folder / self.manifest.shards[row["shard"]].name
        return data, next(tar_samples(_of_one_key(tar.walk(data, path, int(row["offset"])))))

    @cached_property
    def extents(self) -> NDArray[np.int64]:
        """Bytes of the tar from the start of every sample to that of the next one, or to the tar's end, int64 (N,)."""
        rows = self.index.rows
        ends = np.array([info.bytes for info in self.manifest.shards], np.int64)[rows["shard"]]
        starts = rows["offset"].astype(np.int64)
        same = rows["shard"][1:] == rows["shard"][:-1]
        ends[:-1][same] = starts[1:][same]
        extents: NDArray[np.int64] = ends - starts
        return extents

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """Where in its tar each sample would end if it had image, label and JSON and no more, int64 (N,)."""
        rows = self.index.rows
        sizes = np.stack([self.sizes, np.ones_like(self.sizes), rows["json_size"].astype(np.int64)])
        there = np.stack([self.sizes > 0, self.sizes > 0, rows["json"] > 0])
        blocks = np.where(there, 1 - -sizes // tar.BLOCK, 0)
        ends: NDArray[np.int64] = rows["offset"].astype(np.int64) + blocks.sum(axis=0) * tar.BLOCK
        return ends

    def others(self, i: int) -> dict[str, bytes]:
        """Copies of sample `i`'s members that are neither its image nor its label nor its JSON, by extension.

        A set of ours pays nothing for it, and one in a store fetches nothing: what is as long as the three has no more.
        """
        row, end = self.index.rows[i], int(self._ends[i])
        if end == row["offset"] + self.extents[i]:
            return {}
        if not any(self._piece(int(row["shard"]), end, tar.BLOCK)):  # the tar's last sample
            return {}
        data, sample = self._members(i)
        return {
            ext: bytes(data[member.offset : member.offset + member.size])
            for ext, member in sample.members.items()
            if member is not sample.image and ext not in ("cls", "json")
        }

    def where(self, i: int) -> Location:
        """Where sample `i` lies, to be named in an error."""
        row = self.index.rows[i]
        return Location(self.manifest.shards[row["shard"]].name, int(row["offset"]), self.key(i))

    def sample(self, i: int) -> Sample:
        """Sample `i` with a copy of its bytes."""
        label = int(self.index.rows[i]["label"])
        return Sample(self.key(i), bytes(self.image(i)), self.ext(i), label, self.meta(i), self.others(i))

    def __iter__(self) -> Iterator[Sample]:
        return map(self.sample, range(len(self)))

    def close(self) -> None:
        """Lets go of the tars; a map is unmapped with the last view of it."""
        if (close := getattr(self.tars, "close", None)) is not None:
            close()
        self.tars = []

    def __enter__(self) -> ShardSet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[[Path, bool], ShardSet], tuple[Path, bool]]:
        """A set crosses to another process by its path and is opened, and checked, there."""
        return _open, (self.folder, self._with_quarantined)


def _open(folder: Path, with_quarantined: bool) -> ShardSet:
    return ShardSet.open(folder, with_quarantined=with_quarantined)


def _of_one_key(members: Iterator[tar.Member]) -> Iterator[tar.Member]:
    """Members up to the first of another sample."""
    key: str | None = None
    for member in members:
        own = tar.split_name(member.name)[0]
        if key is not None and own != key:
            return
        key = own
        yield member


def _probe(folder: Path, manifest: Manifest, index: Index, tars: Sequence[memoryview]) -> None:
    """Looks at the first and the last sample of each tar, about 20 us each.

    Raises:
        StaleIndex: another sample, or none, lies there: the tar was replaced by one of the same size.
    """
    ends = np.cumsum([info.samples for info in manifest.shards])
    for number, (info, data, end) in enumerate(zip(manifest.shards, tars, ends.tolist(), strict=True)):
        for i in {end - info.samples, end - 1} if info.samples else ():
            row, key = index.rows[i], bytes(index.keys[i]).decode("utf-8", "surrogateescape")
            with suppress(TarDamaged):
                member = next(tar.walk(data, folder / info.name, int(row["offset"])), None)
                if row["shard"] == number and member is not None and tar.split_name(member.name)[0] == key:
                    continue
            problem = f"the index has sample {key!r} at byte {row['offset']}, but it does not lie there"
            raise StaleIndex(folder / info.name, problem)
