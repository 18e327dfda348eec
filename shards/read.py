"""Which samples come when: a true permutation by random access, so a position is one number and resuming is free."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from shards.errors import ConfigError
from shards.shard_errors import SampleDamaged, ShardError
from shards.shard_set import Location, ShardSet

__all__ = ["Batch", "BatchReader", "OnBad", "SetChanged", "State", "gather", "permutation"]


OnBad = Literal["raise", "skip"] | Callable[[Location, str], object] | None
"""What a reader does about an image whose bytes have changed since they were indexed."""


class SetChanged(ShardError):
    """A position belongs to another shard set."""

    def __init__(self, expected: str, found: str) -> None:
        self.expected, self.found = expected, found
        super().__init__(
            f"the position is of shard set {expected[:12]}, this one is {found[:12]}: "
            "resume with the set it was made on, or start the epoch afresh"
        )


class State(TypedDict):
    """Where a reader stands; plain JSON."""

    digest: str
    seed: int | None
    epoch: int
    position: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Some samples, undecoded.

    Args:
        indices: sample numbers in the set, int64 (B,).
        images: the encoded bytes of each, views of the mapped tars.
        labels: int64 (B,).
    """

    indices: NDArray[np.int64]
    images: list[memoryview]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)


def permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of `n` samples in an epoch: every order is possible and equally likely. int64 (n,).

    Sorts 64-bit random keys. NumPy promises PCG64's raw stream to stay as it is from version to version, which it does
    not promise of `Generator.permutation`. About 0.1 s for a million samples.
    """
    keys = np.random.PCG64(np.random.SeedSequence((seed, epoch))).random_raw(n)
    return np.argsort(np.asarray(keys, np.uint64), kind="stable").astype(np.int64)


def gather(source: ShardSet, indices: NDArray[np.int64]) -> list[memoryview]:
    """The image bytes of some samples, as views."""
    rows = source.index.rows[indices]  # one cache line a sample
    tars = source.tars
    starts = rows["image"].astype(np.int64)
    return [
        tars[shard][start:end]
        for shard, start, end in zip(
            rows["shard"].tolist(), starts.tolist(), (starts + rows["size"]).tolist(), strict=True
        )
    ]


class BatchReader:
    """One epoch over a shard set, in batches; an iterator whose position may be kept and gone on from.

    `batch_size` is that of all ranks together. Each global batch is cut among the ranks, so the order is the same for
    any world size, and a position taken with 2 ranks may be resumed with 4. Every rank gets the same number of batches;
    in a last batch of fewer samples than ranks some get an empty one. Within a rank whole batches go to its workers in
    turns, as torch's DataLoader collects them: taken in turns, the workers' batches are those of one reader.

    Which tar a sample lies in decides nothing, so neither fewer tars than workers nor an empty one leave anybody idle.

    Args:
        source: an open set.
        batch_size: samples a global batch.
        seed: None reads in stored order.
        epoch: with `seed` decides the order.
        start: samples of the epoch that were read before, over all ranks: the `position` of an earlier reader.
        rank, world: which part of each batch this process takes.
        worker, workers: which batches of the rank this worker takes: every `workers`-th, from the `worker`-th.
        drop_last: leave out a last batch that is not full.
        on_bad: None leaves looking to the decoder. Otherwise each image is held against its CRC-32 in the index (some
            microseconds), and what differs is an error ("raise"), is left out of its batch ("skip"), or is left out
            after the callable was told of it. `bad` counts them; the position counts every sample, bad ones too.

    Raises:
        ConfigError: an argument is out of its range; says which range.
    """

    def __init__(
        self,
        source: ShardSet,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        worker: int = 0,
        workers: int = 1,
        drop_last: bool = False,
        on_bad: OnBad = None,
    ) -> None:
        n = len(source)
        for name, value, low, high in (
            ("batch_size", batch_size, 1, None),
            ("seed", seed or 0, 0, None),
            ("epoch", epoch, 0, None),
            ("start", start, 0, n),
            ("world", world, 1, None),
            ("rank", rank, 0, world - 1),
            ("workers", workers, 1, None),
            ("worker", worker, 0, workers - 1),
        ):
            if value < low or (high is not None and value > high):
                limits = f"{low} to {high}" if high is not None else f"{low} or more"
                raise ConfigError("BatchReader", name, f"{value}; expected {limits}")
        self.source, self.batch_size, self.seed, self.epoch = source, batch_size, seed, epoch
        self.position, self.rank, self.world, self.drop_last = start, rank, world, drop_last
        self.worker, self.workers, self.on_bad, self.bad = worker, workers, on_bad, 0
        if on_bad not in (None, "raise", "skip") and not callable(on_bad):
            raise ConfigError("BatchReader", "on_bad", f"{on_bad!r}; expected None, 'raise', 'skip' or a callable")
        self._done = start  # where the last batch given ends
        self._order = None if seed is None else permutation(n, seed, epoch)
        self._skip(worker)

    @classmethod
    def resume(
        cls,
        source: ShardSet,
        state: State,
        batch_size: int,
        *,
        rank: int = 0,
        world: int = 1,
        worker: int = 0,
        workers: int = 1,
        drop_last: bool = False,
        on_bad: OnBad = None,
    ) -> BatchReader:
        """Goes on where `state` was taken, with any world size; as fast as a fresh start.

        Raises:
            SetChanged: the set is not the one the state was taken on.
        """
        if state["digest"] != source.digest:
            raise SetChanged(state["digest"], source.digest)
        return cls(
            source,
            batch_size,
            seed=state["seed"],
            epoch=state["epoch"],
            start=state["position"],
            rank=rank,
            world=world,
            worker=worker,
            workers=workers,
            drop_last=drop_last,
            on_bad=on_bad,
        )

    @property
    def state(self) -> State:
        """Where the reader stands, for `resume`. Of several workers ask the one whose batch came last."""
        return State(digest=self.source.digest, seed=self.seed, epoch=self.epoch, position=self._done)

    def next_epoch(self) -> BatchReader:
        """A reader of the epoch after this one, from its start."""
        return BatchReader(
            self.source,
            self.batch_size,
            seed=self.seed,
            epoch=self.epoch + 1,
            rank=self.rank,
            world=self.world,
            worker=self.worker,
            workers=self.workers,
            drop_last=self.drop_last,
            on_bad=self.on_bad,
        )

    def __len__(self) -> int:
        """Batches still to come."""
        left = len(self.source) - self.position
        batches = left // self.batch_size if self.drop_last else -(-left // self.batch_size)
        return max(0, -(-batches // self.workers))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if not len(self):
            raise StopIteration
        begin = self.position
        end = min(begin + self.batch_size, len(self.source))
        self.position = self._done = end
        self._skip(self.workers - 1)
        low, high = (begin + (end - begin) * part // self.world for part in (self.rank, self.rank + 1))
        indices = np.arange(low, high, dtype=np.int64) if self._order is None else self._order[low:high]
        images = gather(self.source, indices)
        if self.on_bad is not None:
            good = self._checked(indices, images)
            if len(good) < len(indices):
                indices, images = indices[good], [images[place] for place in good]
        return Batch(indices, images, self.source.label_ids[indices])

    def _skip(self, batches: int) -> None:
        """Passes over batches that other workers take."""
        self.position = min(len(self.source), self.position + batches * self.batch_size)

    def _checked(self, indices: NDArray[np.int64], images: list[memoryview]) -> list[int]:
        """Places of the images whose bytes are those that were indexed; the others are dealt with as `on_bad` says."""
        known = self.source.index.rows["crc"][indices].tolist()
        good = []
        for place, (image, crc) in enumerate(zip(images, known, strict=True)):
            if zlib.crc32(image) == crc:
                good.append(place)
                continue
            self.bad += 1
            location = self.source.where(int(indices[place]))
            problem = "the image's bytes are not those that were indexed"
            if self.on_bad == "raise":
                raise SampleDamaged(self.source.folder, str(location), problem)
            if callable(self.on_bad):
                self.on_bad(location, problem)
        return good
