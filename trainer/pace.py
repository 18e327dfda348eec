"""A run's stages one at a time, for a bench: how fast each is alone, on the run's own data, net and device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count, repeat
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import torch

from shards.read import Batch, BatchReader, permutation
from trainer.clock import Clock
from trainer.config import RunConfig
from trainer.executor import CHUNK_S
from trainer.session import Session
from trainer.split_data import open_split
from trainer.store import Indices
from trainer.stream import Stream

__all__ = ["Pace", "Paced"]

_LONGEST = 10  # windows of `seconds`, for the least number of batches


class Paced(NamedTuple):
    """How fast a stage was: images/s, over so many batches."""

    rate: float
    steps: int


class Pace:
    """Opens a run as `fit` does, without writing anything, and measures its stages; a context manager.

    A method works for about `seconds` and at least `least` batches, but no longer than ten times `seconds`. Weights
    change on the way and are thrown away.

    Args:
        config: the run.
        data: a split folder.

    Raises:
        As `fit`.
    """

    def __init__(self, config: RunConfig, data: Path) -> None:
        self._split = open_split(data)
        try:
            self._run = Session(config, self._split, data, Clock(None), None)
            self._decoder = self._run.open_decoder()
            self._feed, _ = self._run.decode(self._decoder)
            self._run.build(self._feed)
            self._step = self._run.step
            self._batch = len(self._step.images)
            left = len(self._feed.samples) % self._batch
            self._run.executor.prepare([self._batch, left] if left else [self._batch])
        except BaseException:
            self._split.close()
            raise
        self._epochs = count(1)
        self._waited = 0.0

    @property
    def resident(self) -> bool:
        """Whether the decoded set lies in the device's memory."""
        return self._run.mode == "resident"

    @property
    def about(self) -> dict[str, str | int]:
        """What is measured: device, precision, executor, decoder, batch and the data's digest."""
        run = self._run
        return {
            "device": run.device.type, "precision": run.precision, "executor": run.executor.name, "mode": run.mode,
            "decoder": run.decoder_name, "batch": self._batch, "data_digest": self._split.digest,
        }  # fmt: skip

    def read(self, seconds: float, least: int = 1) -> Paced:
        """Encoded images, in permuted order, brought from the page cache into this process."""
        return self._paced(self._reading(), seconds, least)

    def decode(self, seconds: float, least: int = 1) -> Paced:
        """Images read and decoded to the run's size: of a stream ahead, and where the run decodes."""
        return self._paced(self._decoding(), seconds, least)

    def gather(self, seconds: float, least: int = 1) -> Paced:
        """Batches brought into the step's buffers: gathered from the resident set, or streamed."""
        return self._paced(self._batches(), seconds, least)

    def step(self, seconds: float, least: int = 1) -> Paced:
        """The training step on one full batch that stays in its buffers: the model's ceiling."""
        self._step.start_epoch()
        return self._paced(self._stepping(repeat(self._batch)), seconds, least)

    def epochs(self, seconds: float, least: int = 1) -> Paced:
        """The step on batches as an epoch brings them."""
        self._step.start_epoch()
        return self._paced(self._stepping(self._batches()), seconds, least)

    def _paced(self, sizes: Iterator[int], seconds: float, least: int) -> Paced:
        done, begun = 0, time.perf_counter()
        for steps, size in enumerate(sizes, 1):
            done += size
            spent = self._since(begun)
            if (spent >= seconds and steps >= least) or spent >= _LONGEST * seconds:
                return Paced(done / spent, steps)
        raise AssertionError("epochs do not end")

    def traced(self, seconds: float) -> None:
        """As `epochs`, with what waits for a batch and each step marked for a profiler."""
        self._step.start_epoch()
        batches, begun = self._batches(), time.perf_counter()
        while self._since(begun) < seconds:
            with torch.profiler.record_function("next batch"):
                part = next(batches)
            with torch.profiler.record_function("step"):
                self._run.executor.run(part)

    def step_times(self, seconds: float) -> list[float]:
        """Seconds of each step on full batches as an epoch brings them, feed left out; at least one."""
        self._step.start_epoch()
        cuda, took, begun = self._run.device.type == "cuda", list[float](), time.perf_counter()
        for part in self._batches():
            before = time.perf_counter()
            self._run.executor.run(part)
            if cuda:  # here the host waits after every step: the wait is part of what is measured
                torch.cuda.synchronize(self._run.device)
            took.append((now := time.perf_counter()) - before)
            if now - begun >= seconds:
                return took
        raise AssertionError("epochs do not end")

    def _undecoded(self) -> Iterator[Batch]:
        for epoch in self._epochs:
            yield from BatchReader(self._split.train, self._batch, seed=0, epoch=epoch)

    def _reading(self) -> Iterator[int]:
        for batch in self._undecoded():
            for image in batch.images:
                bytes(image)  # a view alone touches nothing
            yield len(batch)

    def _decoding(self) -> Iterator[int]:
        if isinstance(self._feed, Stream):
            for epoch in self._epochs:
                for _, part in self._feed.views(self._order(epoch), self._batch):
                    yield len(part)
        out = torch.empty_like(self._step.images, device=self._decoder.device)
        for batch in self._undecoded():
            self._decoder.decode(batch.images, out[: len(batch)])
            yield len(batch)

    def _stepping(self, sizes: Iterator[int]) -> Iterator[int]:
        for size in sizes:
            self._run.executor.run(size)
            yield size

    def _order(self, epoch: int) -> Indices:
        """Of an epoch, full batches only, as `step` has them."""
        order = self._feed.ordered(permutation(len(self._feed.labels), 0, epoch))
        return order[: max(len(order) // self._batch, 1) * self._batch]

    def _batches(self) -> Iterator[int]:
        """Sizes of the batches in the step's buffers, epoch after epoch."""
        for epoch in self._epochs:
            for part in self._feed.batches(self._order(epoch), self._step.images, self._step.labels):
                yield len(part)

    def _since(self, begun: float) -> float:
        """Seconds since `begun`, once the device has done all it was given; 0 where it is not worth waiting for yet.

        A run waits once an epoch; to wait after each step of a few microseconds would measure the waiting.
        """
        if self._run.device.type == "cuda":
            now = time.perf_counter()
            if now - max(begun, self._waited) < CHUNK_S:
                return 0.0
            torch.cuda.synchronize(self._run.device)
            self._waited = time.perf_counter()
        return time.perf_counter() - begun

    def close(self) -> None:
        """Lets go of the data and the decoder."""
        with closing(self._split):
            self._run.close()
            self._decoder.close()

    def __enter__(self) -> Pace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
