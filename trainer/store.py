"""Decoding happens once: a whole part of a split as one uint8 tensor on the training device.

A store and a stream (stream.py) are both feeds: they fill a step's buffers with the samples of an order, batch after
batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shards.read import BatchReader
from shards.shard_set import ShardSet
from trainer.decode import Decoder
from trainer.distributed import World, add_up, all_agree, local_size
from trainer.errors import NothingDecoded

__all__ = [
    "BadSample",
    "Decoded",
    "Feed",
    "Moments",
    "Store",
    "choose_mode",
    "decode_all",
    "decoded_into",
    "free_bytes",
    "left_by_groups",
    "pass_over",
]

DECODE_BATCH = 256
Indices = NDArray[np.int64]
Decoded = tuple[Indices, torch.Tensor, list[int]]
"""Samples by number; uint8 (B, S, S, 3), good until the next are asked for; the positions of unreadable ones."""
_HOST = torch.device("cpu")

_SHARE_BYTES = 2 << 20
"""Of a batch that are worth a thread of their own: below, handing over takes longer than copying."""
_MOST_SHARES = 4
"""What fills the bandwidth of a host's memory."""


@dataclass(frozen=True, slots=True)
class BadSample:
    """An image that cannot be decoded: which part, and where it lies."""

    part: str
    shard: str
    offset: int
    key: str

    @classmethod
    def at(cls, part: str, source: ShardSet, index: int) -> BadSample:
        """Sample `index` of the set."""
        where = source.where(index)
        return cls(part, where.shard, where.offset, where.key)

    def to_json(self) -> dict[str, Any]:
        """As a line of result.json's bad_samples."""
        return asdict(self)


@dataclass
class Moments:
    """Sums over all pixels, channel by channel, of whatever is added.

    Whole numbers below 2^53 up to some million images of 150 x 150: the same bits however they are cut into batches.
    """

    count: int = 0
    total: Any = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    squares: Any = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))

    def add(self, images: torch.Tensor) -> None:
        """Adds uint8 images (B, S, S, 3)."""
        pixels = images.reshape(-1, 3).float()
        self.count += len(pixels)
        self.total += pixels.sum(0, dtype=torch.float64).cpu()
        self.squares += pixels.square_().sum(0, dtype=torch.float64).cpu()

    def add_up(self, world: World) -> None:
        """Becomes the sums over all ranks' images; the same bits on each."""
        count = torch.tensor([float(self.count)], dtype=torch.float64)
        sums = torch.cat([count, self.total, self.squares]).to(world.device)
        add_up(world, sums)
        sums = sums.cpu()
        self.count, self.total, self.squares = int(sums[0]), sums[1:4], sums[4:]

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Per channel, in levels 0 to 255; a channel that never varies gets a deviation of 1."""
        mean = self.total / self.count
        deviation = (self.squares / self.count - mean**2).clamp(min=0).sqrt()
        return mean.tolist(), [value if value > 1e-3 else 1.0 for value in deviation.tolist()]


class Feed(ABC):
    """One part of a split, ready to be trained or tested on.

    Attributes:
        samples: numbers in the shard set of all samples that can be decoded, int64 (M,), ascending.
        bad: the others.
        labels: label of every sample of the set, good or bad, int64 (N,), on the host.
        device: where its batches come from.
    """

    device: torch.device
    samples: Indices
    bad: list[BadSample]
    labels: Indices

    @abstractmethod
    def batches(self, order: Indices, images: torch.Tensor, labels: torch.Tensor) -> Iterator[Indices]:
        """Fills the buffers, uint8 (B, S, S, 3) and int64 (B,), with B samples after another of `order`.

        Yields:
            The samples that lie in the buffers' first rows now, before the buffers are filled anew.
        """

    def close(self) -> None:  # noqa: B027 memory goes with the feed
        """Ends what works for the feed in the background."""

    def ordered(self, order: Indices) -> Indices:
        """`order`, a permutation of the whole set, without the bad samples."""
        if len(self.samples) == len(self.labels):
            return order
        good = np.zeros(len(self.labels), bool)
        good[self.samples] = True
        return order[good[order]]


class Store(Feed):
    """A decoded part in the device's memory: a batch is one gather.

    Attributes:
        images: uint8 (N, S, S, 3) on the device; rows of bad samples hold nothing.
    """

    def __init__(self, images: torch.Tensor, labels: Indices, samples: Indices, bad: list[BadSample]) -> None:
        self.images, self.labels, self.samples, self.bad = images, labels, samples, bad
        self.device = images.device
        self._labels = torch.from_numpy(labels).to(images.device)

    def batches(self, order: Indices, images: torch.Tensor, labels: torch.Tensor) -> Iterator[Indices]:
        size = len(images)
        if self.device == images.device == _HOST:
            yield from self._gathered(order, images, labels)
            return
        rows = torch.from_numpy(order).to(images.device)  # one copy an epoch, not one a batch
        for start in range(0, len(order), size):
            part = rows[start : start + size]
            torch.index_select(self.images, 0, part, out=images[: len(part)])
            torch.index_select(self._labels, 0, part, out=labels[: len(part)])
            yield order[start : start + size]

    def _gathered(self, order: Indices, images: torch.Tensor, labels: torch.Tensor) -> Iterator[Indices]:
        """On the host: by NumPy, whose `take` keeps one core at work, and on as many as a batch has work for. torch's
        threads wait for each other by spinning, beside other work for far longer than they copy.
        """
        size, store, out, out_labels = len(images), self.images.numpy(), images.numpy(), labels.numpy()

        def some(part: Indices, first: int, last: int) -> None:
            # clip: numpy gathers into a buffer of its own first where an index might be refused
            np.take(store, part[first:last], axis=0, out=out[first:last], mode="clip")

        helpers = min(torch.get_num_threads(), _MOST_SHARES, max(out.nbytes // _SHARE_BYTES, 1)) - 1
        with ThreadPoolExecutor(helpers, "gather") if helpers else nullcontext() as pool:
            for start in range(0, len(order), size):
                part = order[start : start + size]
                cuts = [len(part) * share // (helpers + 1) for share in range(helpers + 2)]
                others = [pool.submit(some, part, *cut) for cut in pairwise(cuts[1:])] if pool else ()
                some(part, 0, cuts[1])
                np.take(self.labels, part, out=out_labels[: len(part)], mode="clip")
                for other in others:
                    other.result()
                yield part


def decode_all(
    source: ShardSet,
    part: str,
    decoder: Decoder,
    device: torch.device,
    *,
    moments: Moments | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    world: World = World(),
) -> Store:
    """Decodes a whole part into memory of `device`, in stored order.

    Args:
        moments: gathers the pixels' mean and deviation on the way, while they are in the cache.
        on_progress: called with images done and images in all, a batch at a time.
        world: each rank decodes its share and gets the others' pixels: any of them may come to its batches.

    Raises:
        NothingDecoded: no image of the part is readable.
    """
    shape = (len(source), decoder.size, decoder.size, 3)
    if device == _HOST:  # NumPy asks for huge pages, torch does not
        images = torch.from_numpy((np.empty if world.size == 1 else np.zeros)(shape, np.uint8))
    else:
        images = (torch.empty if world.size == 1 else torch.zeros)(shape, dtype=torch.uint8, device=device)
    decoded = decoded_into(source, decoder, lambda first, last: images[first:last], world)
    samples, bad = pass_over(source, part, decoded, moments, on_progress, world)
    add_up(world, images)
    return Store(images, source.label_ids, samples, bad)


def decoded_into(
    source: ShardSet, decoder: Decoder, rows_for: Callable[[int, int], torch.Tensor], world: World = World()
) -> Iterator[Decoded]:
    """Decodes a part in stored order into the rows that `rows_for(first, last)` gives; a rank only its share."""
    for batch in BatchReader(source, DECODE_BATCH * world.size, rank=world.rank, world=world.size):
        if not len(batch):
            continue  # a last batch of fewer samples than ranks
        rows = rows_for(int(batch.indices[0]), int(batch.indices[-1]) + 1)
        yield batch.indices, rows, decoder.decode(batch.images, rows)


def pass_over(
    source: ShardSet,
    part: str,
    decoded: Iterable[Decoded],
    moments: Moments | None,
    on_progress: Callable[[int, int], None] | None,
    world: World = World(),
) -> tuple[Indices, list[BadSample]]:
    """Says which samples are good and bad while a part is decoded in stored order; those, and moments, of all ranks.

    Raises:
        NothingDecoded: no image of the part is readable.
    """
    good = np.ones(len(source), bool)
    for indices, rows, bad in decoded:
        good[indices[bad]] = False
        if moments is not None:
            moments.add(rows if not bad else rows[torch.from_numpy(good[indices]).to(rows.device)])
        if on_progress is not None:
            on_progress(int(indices[-1]) + 1, len(source))
    if world.size > 1:
        lose = torch.from_numpy((~good).astype(np.uint8)).to(world.device)
        add_up(world, lose)
        good = lose.cpu().numpy() == 0
        if moments is not None:
            moments.add_up(world)
    lost = [BadSample.at(part, source, int(index)) for index in np.flatnonzero(~good)]
    if len(lost) == len(source):
        raise NothingDecoded(source.folder, str(source.where(0)) if lost else "missing")
    return np.flatnonzero(good).astype(np.int64), lost


def choose_mode(mode: str, need: int, device: torch.device, world: World = World()) -> str:
    """`resident` or `stream`: what the run file says, or for `auto` whether `need` bytes take at most half of what is
    free: activations, gradients and the page cache need the rest.

    Processes on one CPU share its memory, and all ranks do the same.
    """
    if mode != "auto":
        return mode
    sharers = local_size() if world.size > 1 and device.type == "cpu" else 1
    return "resident" if all_agree(need < free_bytes(device) // 2 // sharers, world) else "stream"


def free_bytes(device: torch.device) -> int:
    """Memory of the device that is free now: CUDA's own count; of a CPU Linux's MemAvailable, or what the control
    groups leave where that is less (a container sees its host's MemAvailable).
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            groups = left_by_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
            return min([int(line.split()[1]) * 1024, *groups])
    return 0


def left_by_groups(membership: Path, root: Path) -> list[int]:
    """Bytes left under the limit of each control group this process is in, version 2 or 1 (cgroups(7)).

    Files the kernel may give back before it refuses memory do not count as used.
    """
    left = []
    for line in membership.read_text().splitlines() if membership.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, limit, used, cache = (
            (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if controllers
            else (root, "memory.max", "memory.current", "inactive_file")
        )
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            try:
                most = (folder / limit).read_text().strip()
                if most != "max":
                    stat = dict(row.split() for row in (folder / "memory.stat").read_text().splitlines())
                    held = int((folder / used).read_text()) - int(stat.get(cache, 0))
                    left.append(max(0, int(most) - held))
            except (OSError, ValueError):
                pass  # the root group has no limit, and a container may not see the groups above its own
            if folder == top:
                break
    return left
