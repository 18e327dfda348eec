"""A part that does not fit in memory: decoded again every epoch, a few batches ahead of whoever takes them.

It gives the step what a store would give it, in the same order, batch for batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing

import numpy as np
import torch

from shards.shard_set import ShardSet
from trainer.decode import Decoder
from trainer.distributed import World
from trainer.prefetch import DecodeCrew, Prefetch, ProcessPrefetch, ThreadPrefetch, Workers, open_crew
from trainer.store import DECODE_BATCH, BadSample, Decoded, Feed, Indices, Moments, decoded_into, pass_over

__all__ = ["Stream", "scan"]

_HOST = torch.device("cpu")


class Stream(Feed):
    """Decodes batches of an order in the background; build one with `scan`.

    Args:
        workers: where it decodes, see `trainer.prefetch.open_crew`.
        crew: processes that several streams take turns at; without one, or while it is busy, the stream has its own.
    """

    def __init__(
        self,
        source: ShardSet,
        part: str,
        decoder: Decoder,
        samples: Indices,
        bad: list[BadSample],
        workers: Workers = "auto",
        crew: DecodeCrew | None = None,
    ) -> None:
        self.source, self.part, self.decoder, self.samples, self.bad = source, part, decoder, samples, bad
        self.labels, self.device, self.workers = source.label_ids, torch.device(decoder.device), workers
        self.crew = crew
        self._kept: Prefetch | None = None

    def batches(self, order: Indices, images: torch.Tensor, labels: torch.Tensor) -> Iterator[Indices]:
        for squares, part in self.views(order, len(images)):
            if images.device == squares.device == _HOST:  # torch's threaded copy would spin
                np.copyto(images[: len(part)].numpy(), squares.numpy())
            else:
                images[: len(part)].copy_(squares)
            labels[: len(part)].copy_(torch.from_numpy(self.labels[part]))
            yield part

    def views(self, order: Indices, size: int) -> Generator[tuple[torch.Tensor, Indices], None, None]:
        """Batches of `size` samples of `order` where they were decoded, which saves `batches` its copy.

        Yields:
            uint8 (B, S, S, 3) on the decoder's device, good until the next batch is asked for; the B samples' numbers.

        Raises:
            WorkerLost: a process that decodes was ended from outside.
        """
        cut = [order[start : start + size] for start in range(0, len(order), size)]
        ahead = self._prefetch(size)
        try:
            with closing(ahead.over(cut)) as decoded:  # nobody may write into memory that is let go
                for squares, part, bad in decoded:
                    if bad:  # readable when scanned, so the file changed since; the epoch goes on without it
                        part = self._without(bad, part, squares)
                    if len(part):
                        yield squares[: len(part)], part
        finally:
            self._keep(ahead)

    def _prefetch(self, size: int) -> Prefetch:
        """That of the epoch before where it fits: processes take time to start, and fresh memory page faults."""
        if self.crew is not None and self.crew.serves(self.source, self.decoder, size):
            return ProcessPrefetch(self.crew, self.source, self.decoder, size)
        kept, self._kept = self._kept, None
        if kept is not None:
            if kept.usable and kept.decoder is self.decoder and kept.size == size:
                return kept
            kept.close()
        crew = open_crew([self.source], self.decoder, size, self.workers)
        if crew is None:
            return ThreadPrefetch(self.source, self.decoder, size)
        return ProcessPrefetch(crew, self.source, self.decoder, size, own=True)

    def _keep(self, ahead: Prefetch) -> None:
        if ahead.kept and ahead.usable and self._kept is None:
            self._kept = ahead
        else:
            ahead.close()

    def close(self) -> None:
        """Ends the processes that only this stream decodes in; the next epoch starts others."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _without(self, bad: list[int], part: Indices, squares: torch.Tensor) -> Indices:
        """Closes the gaps that bad images leave in a batch."""
        self.bad += [BadSample.at(self.part, self.source, int(index)) for index in part[bad]]
        self.samples = np.setdiff1d(self.samples, part[bad])
        keep = np.setdiff1d(np.arange(len(part)), bad)
        squares[: len(keep)] = squares[torch.from_numpy(keep).to(squares.device)]
        return part[keep]


def scan(
    source: ShardSet,
    part: str,
    decoder: Decoder,
    *,
    moments: Moments | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    world: World = World(),
    workers: Workers = "auto",
    crew: DecodeCrew | None = None,
) -> Stream:
    """Decodes a part once without keeping it: finds the bad samples and the pixels' mean and deviation.

    Of several ranks each looks at its share. `workers` and `crew`: of the stream, see `Stream`; a crew that has time
    takes this first look too.

    Raises:
        NothingDecoded: no image of the part is readable.
        WorkerLost: a process that decodes was ended from outside.
    """
    with closing(_once(source, decoder, crew, world)) as decoded:
        samples, bad = pass_over(source, part, decoded, moments, on_progress, world)
    return Stream(source, part, decoder, samples, bad, workers, crew)


def _once(source: ShardSet, decoder: Decoder, crew: DecodeCrew | None, world: World) -> Generator[Decoded, None, None]:
    """A part in stored order, into memory that is used again and again; of several ranks each has its share."""
    if crew is None or not crew.serves(source, decoder, crew.size):
        squares = torch.empty((DECODE_BATCH, decoder.size, decoder.size, 3), dtype=torch.uint8, device=decoder.device)
        yield from decoded_into(source, decoder, lambda first, last: squares[: last - first], world)
        return
    starts = range(world.rank * crew.size, len(source), world.size * crew.size)
    cut = [np.arange(start, min(start + crew.size, len(source)), dtype=np.int64) for start in starts]
    ahead = ProcessPrefetch(crew, source, decoder, crew.size)
    try:
        with closing(ahead.over(cut)) as decoded:
            for squares, part, bad in decoded:
                yield part, squares, bad
    finally:
        ahead.close()
