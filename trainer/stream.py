"""A part that does not fit in memory: decoded again every epoch, by a thread that stays a few batches ahead.

It gives the step what a store would give it, in the same order, batch for batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from queue import Empty, Full, Queue
from typing import Any, TypeVar

import numpy as np
import torch

from shards.read import gather
from shards.shard_set import ShardSet
from trainer.decode import Decoder
from trainer.distributed import World
from trainer.store import DECODE_BATCH, BadSample, Feed, Indices, Moments, pass_over

__all__ = ["Stream", "scan"]

T = TypeVar("T")
AHEAD = 3  # decoded batches that may wait: enough to ride out one slow batch, and a bound on memory


class Stream(Feed):
    """Decodes batches of an order in the background; build one with `scan`."""

    def __init__(self, source: ShardSet, part: str, decoder: Decoder, samples: Indices, bad: list[BadSample]) -> None:
        self.source, self.part, self.decoder, self.samples, self.bad = source, part, decoder, samples, bad
        self.labels, self.device = source.label_ids, torch.device(decoder.device)

    def batches(self, order: Indices, images: torch.Tensor, labels: torch.Tensor) -> Iterator[Indices]:
        cut = [order[start : start + len(images)] for start in range(0, len(order), len(images))]
        free: Queue[torch.Tensor] = Queue()
        ready: Queue[tuple[torch.Tensor, Indices] | BaseException] = Queue(AHEAD)
        for _ in range(min(AHEAD, len(cut))):
            free.put(torch.empty(images.shape, dtype=torch.uint8, device=self.decoder.device))
        stop = threading.Event()
        worker = threading.Thread(
            target=self._decode_ahead, args=(cut, free, ready, stop), name="decode-ahead", daemon=True
        )
        worker.start()
        try:
            for _ in cut:
                got = ready.get()
                if isinstance(got, BaseException):
                    raise got
                squares, part = got
                count = len(part)
                images[:count].copy_(squares[:count])
                labels[:count].copy_(torch.from_numpy(self.labels[part]))
                free.put(squares)
                if count:
                    yield part
        finally:
            stop.set()
            worker.join()

    def _decode_ahead(
        self,
        cut: list[Indices],
        free: Queue[torch.Tensor],
        ready: Queue[tuple[torch.Tensor, Indices] | BaseException],
        stop: threading.Event,
    ) -> None:
        try:
            for part in cut:
                squares = _until(stop, partial(free.get, timeout=0.1))
                if squares is None:
                    return
                bad = self.decoder.decode(gather(self.source, part), squares[: len(part)])
                if bad:  # readable when scanned, so the file changed since; the epoch goes on without it
                    self.bad += [BadSample.at(self.part, self.source, int(index)) for index in part[bad]]
                    self.samples = np.setdiff1d(self.samples, part[bad])
                    keep = np.setdiff1d(np.arange(len(part)), bad)
                    squares[: len(keep)] = squares[torch.from_numpy(keep).to(squares.device)]
                    part = part[keep]
                if _until(stop, partial(_put, ready, (squares, part))) is None:
                    return
        except BaseException as error:  # to be raised where the batch is waited for
            _until(stop, partial(_put, ready, error))


def _put(queue: Queue[Any], item: object) -> bool:
    queue.put(item, timeout=0.1)
    return True


def _until(stop: threading.Event, wait: Callable[[], T]) -> T | None:
    while not stop.is_set():
        try:
            return wait()
        except (Empty, Full):
            continue
    return None


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
