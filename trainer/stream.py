"""A part that does not fit in memory: decoded again every epoch, a few batches ahead of whoever takes them.

It gives the step what a store would give it, in the same order, batch for batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import torch

from shards.read import gather
from shards.shard_set import ShardSet
from trainer.decode import Decoder
from trainer.distributed import World
from trainer.store import DECODE_BATCH, BadSample, Feed, Indices, Moments, pass_over

__all__ = ["Stream", "scan"]

AHEAD = 3  # batches being decoded beside the one in use: enough to ride out a slow one, and a bound on memory
_HOST = torch.device("cpu")


class Stream(Feed):
    """Decodes batches of an order in the background; build one with `scan`."""

    def __init__(self, source: ShardSet, part: str, decoder: Decoder, samples: Indices, bad: list[BadSample]) -> None:
        self.source, self.part, self.decoder, self.samples, self.bad = source, part, decoder, samples, bad
        self.labels, self.device = source.label_ids, torch.device(decoder.device)
        self._kept: list[torch.Tensor] = []

    def batches(self, order: Indices, images: torch.Tensor, labels: torch.Tensor) -> Iterator[Indices]:
        for squares, part in self.views(order, len(images)):
            if images.device == squares.device == _HOST:  # a third of the processor time of torch's threaded copy
                np.copyto(images[: len(part)].numpy(), squares.numpy())
            else:
                images[: len(part)].copy_(squares)
            labels[: len(part)].copy_(torch.from_numpy(self.labels[part]))
            yield part

    def views(self, order: Indices, size: int) -> Iterator[tuple[torch.Tensor, Indices]]:
        """Batches of `size` samples of `order` where they were decoded, which saves `batches` its copy.

        Yields:
            uint8 (B, S, S, 3) on the decoder's device, good until the next batch is asked for; the B samples' numbers.
        """
        cut = [order[start : start + size] for start in range(0, len(order), size)]
        free = self._buffers(size, min(AHEAD + 1, len(cut)))
        begun: deque[tuple[torch.Tensor, Indices, Callable[[], list[int]]]] = deque()
        coming = iter(cut)
        try:
            for _ in cut:
                while free and (part := next(coming, None)) is not None:
                    squares = free.pop()
                    begun.append((squares, part, self.decoder.begin(gather(self.source, part), squares[: len(part)])))
                squares, part, wait = begun[0]
                bad = wait()
                begun.popleft()
                if bad:  # readable when scanned, so the file changed since; the epoch goes on without it
                    part = self._without(bad, part, squares)
                if len(part):
                    yield squares[: len(part)], part
                free.append(squares)
        finally:
            for squares, _, wait in begun:  # nobody may write into memory that is let go
                with suppress(Exception):
                    wait()
                free.append(squares)
            self._kept = free

    def _buffers(self, size: int, count: int) -> list[torch.Tensor]:
        """Those of the epoch before where they fit: fresh memory costs a page fault every 4 KiB."""
        kept, self._kept = self._kept, []
        if len(kept) >= count and all(len(squares) == size for squares in kept):
            return kept
        shape = (size, self.decoder.size, self.decoder.size, 3)
        return [torch.empty(shape, dtype=torch.uint8, device=self.decoder.device) for _ in range(count)]

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
) -> Stream:
    """Decodes a part once without keeping it: finds the bad samples and the pixels' mean and deviation.

    Of several ranks each looks at its share.

    Raises:
        NothingDecoded: no image of the part is readable.
    """
    squares = torch.empty((DECODE_BATCH, decoder.size, decoder.size, 3), dtype=torch.uint8, device=decoder.device)
    samples, bad = pass_over(
        source, part, decoder, lambda first, last: squares[: last - first], moments, on_progress, world
    )
    return Stream(source, part, decoder, samples, bad)
