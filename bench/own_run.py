"""A run of ours as something to measure: the trainer's own session, feed and step, with the stages open to a hook."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.decode_rate import decode_rate
from bench.probe import evict
from bench.stages import LADDER, Stages, load_function, parse_compute
from shards.pages import Pages
from shards.read import BatchReader, gather, permutation
from shards.shard_set import ShardSet
from trainer.augment import augment
from trainer.clock import Clock
from trainer.config import RunConfig
from trainer.decode import Decoder
from trainer.device import choose_device
from trainer.prefetch import DecodeCrew, Workers, open_crew
from trainer.session import Session
from trainer.split_data import open_split
from trainer.store import Feed, Moments, free_bytes
from trainer.stream import Stream

__all__ = ["OwnRun"]

_REPLAYED = 4  # host batches that go round: more than a cache holds, few to keep
_LOOKED_AT = 512  # samples for the pixels' mean: the values change nothing that is measured


class _StagedDecoder(Decoder):
    """The run's decoder with the stages around it; only there where a hook asked for it."""

    def __init__(self, stages: Stages, decoder: Decoder) -> None:
        super().__init__(decoder.size, decoder.fit, decoder.threads)
        self.name, self.device, self._stages = decoder.name, decoder.device, stages

    def decode(self, images: Sequence[memoryview | bytes], out: torch.Tensor) -> list[int]:
        bad = self._stages.decode(self._stages.read(images), out)
        self._stages.collate(out)
        return bad


class OwnRun:
    """Opens a run as `fit` does, without writing anything.

    Args:
        config: the run.
        data: a split folder.
        compute: what stands in for the step, such as "sleep:20ms"; empty: the run's own net.
        hook: `module:function`, see `bench.stages`; empty: none.

    Raises:
        As `fit`.
    """

    def __init__(self, config: RunConfig, data: Path, compute: str = "", hook: str = "") -> None:
        self._split = open_split(data)
        try:
            self._open(config, data, compute, hook)
        except BaseException:
            self._split.close()
            raise

    def _open(self, config: RunConfig, data: Path, compute: str, hook: str) -> None:
        source = self._split.train
        device = choose_device(config.train)
        if config.data.mode == "auto":  # as Session.decode does
            need = sum(len(part) for part in (source, self._split.val, self._split.test)) * config.data.size**2 * 3
            mode = "resident" if need < free_bytes(device) // 2 else "stream"
            config = config.model_copy(update={"data": config.data.model_copy(update={"mode": mode})})
        self.config, self.source = config, source
        self.tars = sorted((data / "train").glob("*.tar"))
        session = self._session = Session(config, self._split, data, Clock(None), None)
        self.device, size = session.device, config.data.size
        self.decoder = session.open_decoder()
        self.batch = min(config.train.batch, len(source))
        self.fill_s: float | None = None
        self.crew: DecodeCrew | None = None
        if config.data.mode == "resident":
            begun = time.perf_counter()
            self.feed: Feed = session.decode(self.decoder)[0]
            self.fill_s = time.perf_counter() - begun
        else:
            session.mode, session.decoder_name = "stream", f"{self.decoder.name} ({self.decoder.device})"
            session.mean, session.std = self._moments(source, size)
            samples = np.arange(len(source), dtype=np.int64)
            self._workers: Workers = "threads" if hook else config.data.workers  # a hook is called in this process
            self.feed = Stream(source, "train", self.decoder, samples, [], self._workers, self._hire())
        if compute:
            step = parse_compute(compute)
            self.images = torch.zeros((self.batch, size, size, 3), dtype=torch.uint8, device=self.device)
            self.labels = torch.zeros(self.batch, dtype=torch.int64, device=self.device)
        else:
            session.build(self.feed)
            session.executor.prepare([self.batch])
            session.step.start_epoch()
            self.images, self.labels, step = session.step.images, session.step.labels, session.executor.run
        self.host_step = bool(compute) or self.device.type == "cpu"
        self.stages = Stages(decode=self.decoder.decode, step=step)
        self.hooked = bool(hook)
        if hook:
            load_function(hook, "--hook")(self.stages)
            if isinstance(self.feed, Stream):
                self.feed.decoder = _StagedDecoder(self.stages, self.decoder)
        self._epochs = count(1)
        self._keep: list[tuple[torch.Tensor, torch.Tensor]] = []

    def _hire(self) -> DecodeCrew | None:
        """Processes to decode in, before there is a net."""
        self.crew = open_crew([self.source], self.decoder, self.batch, self._workers)
        return self.crew

    def _moments(self, source: ShardSet, size: int) -> tuple[list[float], list[float]]:
        moments = Moments()
        for batch in islice(BatchReader(source, 256, seed=0), -(-_LOOKED_AT // 256)):
            squares = torch.zeros((len(batch), size, size, 3), dtype=torch.uint8, device=self.decoder.device)
            self.decoder.decode(batch.images, squares)
            moments.add(squares)
        return moments.mean_and_std()

    @property
    def about(self) -> dict[str, Any]:
        """What is measured."""
        session = self._session
        sizes = self.source.index.rows["size"]
        tars = sum(path.stat().st_size for path in self.tars) or int(sizes.sum(dtype=np.int64))
        return {
            "device": self.device.type, "precision": session.precision, "mode": session.mode,
            "decoder": session.decoder_name, "threads": self.decoder.threads, "batch": self.batch,
            "size": self.config.data.size, "samples": len(self.source), "image_bytes": float(sizes.mean()),
            "tar_bytes": tars / len(self.source),
            "data_digest": self._split.digest, "host_step": self.host_step, "shards": len(self.source.tars),
            "decoded_in": f"{self.crew.count} processes" if self.crew else f"{self.decoder.threads} threads",
        }  # fmt: skip

    def batches(self) -> Iterator[int]:
        """Sizes of full batches in the step's buffers, epoch after epoch."""
        return self._fill(self.images, self.labels)

    def drain(self) -> Iterator[int]:
        """The same into other buffers, so that a step may run beside."""
        return self._fill(torch.empty_like(self.images), torch.empty_like(self.labels))

    def _fill(self, images: torch.Tensor, labels: torch.Tensor) -> Iterator[int]:
        for epoch in self._epochs:
            order = self.feed.ordered(permutation(len(self.feed.labels), 0, epoch))
            order = order[: max(len(order) // self.batch, 1) * self.batch]
            for part in self.feed.batches(order, images, labels):
                if self.hooked:
                    self.stages.copy(images)
                yield len(part)

    def replay(self) -> Iterator[int]:
        """A few batches, decoded before, copied into the step's buffers in turn; of a resident set a gather is that."""
        if not isinstance(self.feed, Stream):
            yield from self.batches()
        if not self._keep:
            for size in islice(self.drain(), _REPLAYED):
                del size
                squares = torch.empty(self.images.shape, dtype=torch.uint8, device=self.decoder.device)
                if squares.device.type == "cpu" and self.device.type == "cuda":
                    squares = squares.pin_memory()
                self._keep.append((squares, torch.from_numpy(self.source.label_ids[: self.batch].copy())))
        for squares, labels in _round(self._keep):
            self.images.copy_(squares)
            self.labels.copy_(labels)
            if self.hooked:
                self.stages.copy(self.images)
            yield self.batch

    def stay(self) -> Iterator[int]:
        """The batch that lies in the buffers already."""
        while True:
            yield self.batch

    def step(self, size: int) -> None:
        """One step on the first `size` samples of the buffers."""
        self.stages.step(size)

    def wait(self) -> None:
        """Until the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def chill(self) -> None:
        """Puts the shards out of the page cache: opening the run and its pixels' mean has brought some of them in."""
        if isinstance(self.feed, Stream) and self.crew is not None and self.crew.used:
            self.feed.close()
            self.crew.close()
            self.feed.crew = self._hire()
        Pages(self.source).release()  # what is mapped stays in the cache, here and in processes that decoded
        evict(self.tars)

    def ladder(self, seconds: float, least: int) -> dict[str, list[float]]:
        """Seconds a batch of each stage, one after the other on the same batch: what each costs when it is alone.

        Decoding is measured as the run decodes, ahead and where it does, unless a hook stands in its way.
        """
        if self.hooked or not isinstance(self.feed, Stream):
            return self._in_turn(seconds, least)
        took = self._in_turn(seconds / 2, least)
        return {**took, "decode": [self.batch / decode_rate(self.feed, self.batch, seconds / 2, least)]}

    def _in_turn(self, seconds: float, least: int) -> dict[str, list[float]]:
        took: dict[str, list[float]] = {name: [] for name in LADDER}
        squares = torch.empty(self.images.shape, dtype=torch.uint8, device=self.decoder.device)
        end, first, epoch = time.perf_counter() + seconds, True, 0
        while True:
            epoch += 1
            order = permutation(len(self.source), 1, epoch)
            for start in range(0, len(order) - self.batch + 1, self.batch):
                part = order[start : start + self.batch]
                marks = [time.perf_counter()]

                def mark(marks: list[float] = marks) -> None:
                    self.wait()
                    marks.append(time.perf_counter())

                images = gather(self.source, part)
                mark()
                seen = self.stages.read(images)
                mark()
                self.stages.decode(seen, squares[: len(part)])
                mark()
                self.stages.collate(squares)
                labels = torch.from_numpy(self.source.label_ids[part])
                mark()
                self.images[: len(part)].copy_(squares[: len(part)])
                self.labels[: len(part)].copy_(labels)
                self.stages.copy(self.images)
                mark()
                augment(self.images, self.config.augment)
                mark()
                if not first:  # the first batch warms caches and threads
                    for name, begun, ended in zip(LADDER, marks, marks[1:], strict=False):
                        took[name].append(ended - begun)
                first = False
                if time.perf_counter() > end and len(took["read"]) >= least:
                    return took

    def close(self) -> None:
        """Lets go of the data and the decoder."""
        with closing(self._split):
            self.feed.close()
            if self.crew is not None:
                self.crew.close()
            self.decoder.close()


def _round(things: list[Any]) -> Iterator[Any]:
    while True:
        yield from things
