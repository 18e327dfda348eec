"""A set in another order, however large it is: read once from end to end, spilled into runs, each run put in order.

Reading samples in a random order costs a seek each, and on a set that is larger than memory each seek is one of the
disk's. So in a first pass the set is read as it lies, and every sample is appended to the file of the run that it will
be in; in a second pass each run, which fits memory, is read and given in order.
"""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from shards.errors import ConfigError
from shards.new_folder import new_folder
from shards.pages import Pages
from shards.read import permutation
from shards.sample import Sample
from shards.shard_set import ShardSet
from shards.writer import MAX_SAMPLES, write_set

__all__ = ["MEMORY_BYTES", "ShuffleProgress", "in_order", "shuffle"]

MEMORY_BYTES = 128 << 20
"""What `in_order` holds of a set's bytes: a set up to this size is read at random, a larger one in two passes."""

_RUNS = 512  # files open at once; a set of 64 GiB and more gets longer runs
_RECORD = struct.Struct("<QIII")  # number of the sample in the set; bytes of image, JSON and the sizes of other members


@dataclass(frozen=True, slots=True)
class ShuffleProgress:
    """How far it is: stage "spill" or "write"; samples done and in all."""

    stage: str
    done: int
    total: int


def in_order(
    source: ShardSet,
    order: NDArray[np.int64],
    spill: Path,
    *,
    memory_bytes: int = MEMORY_BYTES,
    on_progress: Callable[[int], None] | None = None,
) -> Generator[Sample, None, None]:
    """The samples `order` names, in its order; memory stays near `memory_bytes` whatever the set's size.

    Args:
        source: an opened set.
        order: sample numbers, each at most once, int64 (M,).
        spill: a folder for the runs of a set that does not fit; they take as much disk as the samples, and are removed.
        memory_bytes: of samples held at a time.
        on_progress: called during the first pass with samples spilled, if there are two passes.
    """
    rows = source.index.rows
    sizes = source.extents + rows["json_size"].astype(np.int64)
    ends = np.cumsum(sizes[order])
    whole = int(ends[-1]) if len(ends) else 0
    if whole <= memory_bytes:
        pages = Pages(source, memory_bytes)
        for i in order.tolist():
            sample = source.sample(i)
            pages.count(len(sample.image))
            yield sample
        return
    # half of it, as a run is in memory as a file and as samples for a moment
    run_bytes = max(memory_bytes // 2, -(-whole // _RUNS))
    run_of = np.full(len(source), -1, np.int64)
    run_of[order] = ends // run_bytes
    runs = int(run_of.max()) + 1
    place = np.zeros(len(source), np.int64)
    place[order] = np.arange(len(order))
    with tempfile.TemporaryDirectory(prefix=".runs-", dir=spill) as name:
        _spill(source, run_of, runs, Path(name), on_progress)
        for run in range(runs):
            path = Path(name) / str(run)
            with path.open("rb") as file:
                found = sorted(_records(file, path.stat().st_size), key=lambda record: place[record[0]])
            path.unlink()
            found.reverse()
            while found:  # let go of one by one
                i, image, meta, others = found.pop()
                yield Sample(source.key(i), image, source.ext(i), int(rows[i]["label"]), json.loads(meta), others)


def _spill(
    source: ShardSet, run_of: NDArray[np.int64], runs: int, folder: Path, on_progress: Callable[[int], None] | None
) -> None:
    pages = Pages(source)
    with ExitStack() as opened:
        buffer = max(4096, (8 << 20) // runs)
        files = [opened.enter_context((folder / str(run)).open("wb", buffering=buffer)) for run in range(runs)]
        for done, i in enumerate(np.flatnonzero(run_of >= 0).tolist(), 1):
            image = source.image(i)
            meta = json.dumps(source.meta(i), ensure_ascii=False, allow_nan=True).encode("utf-8", "surrogatepass")
            others = source.others(i)
            sizes = json.dumps({ext: len(content) for ext, content in others.items()}).encode() if others else b""
            files[run_of[i]].writelines(
                (_RECORD.pack(i, len(image), len(meta), len(sizes)), image, meta, sizes, *others.values())
            )
            pages.count(int(source.extents[i]))
            if on_progress and not done % 256:
                on_progress(done)


def _records(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes, str, dict[str, bytes]]]:
    while file.tell() < size:
        i, *lengths = _RECORD.unpack(file.read(_RECORD.size))
        image, meta, sizes = map(file.read, lengths)
        others = {ext: file.read(length) for ext, length in json.loads(sizes or b"{}").items()}
        yield i, image, meta.decode("utf-8", "surrogatepass"), others


def shuffle(
    source: ShardSet,
    out: Path,
    *,
    seed: int = 0,
    shard_samples: int = MAX_SAMPLES,
    memory_bytes: int = MEMORY_BYTES,
    on_progress: Callable[[ShuffleProgress], None] | None = None,
) -> ShardSet:
    """Writes `out`: the same samples in an order that `seed` decides, across all shards; every order is equally likely.

    For readers that shuffle only within a buffer or a shard. The order depends on the keys, not on where samples lie
    now; bytes, JSON and groups stay.

    Args:
        source: an opened set.
        out: absent or an empty folder; it appears whole or not at all.
        seed: decides the order.
        shard_samples: samples a shard.
        memory_bytes: of samples held at a time; a larger set is read once, and written twice.

    Raises:
        TargetNotEmpty: `out` holds something.
    """
    if seed < 0:
        raise ConfigError("shuffle", "seed", f"{seed}; expected 0 or more")
    report = on_progress or (lambda progress: None)
    n = len(source)
    order = np.argsort(source.index.keys, kind="stable")[permutation(n, seed, 1)]

    def samples(spill: Path) -> Iterator[Sample]:
        spilled = in_order(
            source,
            order,
            spill,
            memory_bytes=memory_bytes,
            on_progress=lambda done: report(ShuffleProgress("spill", done, n)),
        )
        for done, (i, sample) in enumerate(zip(order.tolist(), spilled, strict=True), 1):
            yield replace(sample, meta=sample.meta | {"group": int(source.groups[i])})  # a crawl has it in its index
            if not done % 256:
                report(ShuffleProgress("write", done, n))

    about = {"kind": "shuffle", "of": source.digest, "seed": seed, "was": source.manifest.source}
    with new_folder(out) as beside:
        write_set(
            beside / "set",
            samples(beside),
            source.labels,
            source=about,
            split=source.manifest.split,
            shard_samples=shard_samples,
        ).close()
        for path in (beside / "set").iterdir():
            path.rename(beside / path.name)
        (beside / "set").rmdir()
    return ShardSet.open(out)
