"""Someone else's loader as something to measure: any iterable of batches, and what can be known about it from outside.

A torch DataLoader over a dataset with `__getitem__` also shows its two stages, and any loader with worker processes
shows which of them work: a worker that got no shard stands idle, whatever the loader's rate.
"""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import nn

from bench.errors import BenchError
from bench.process import child_processes
from bench.stages import Stages, load_function, parse_compute, what_happened
from shards.errors import BasslineError, ConfigError
from trainer.config import RunConfig
from trainer.nets import build_net

__all__ = ["ForeignLoader", "idle_workers"]

_REPLAYED = 4
_END = object()
_BUSY_SHARE = 0.1  # of the busiest worker's CPU time: below it a worker stands idle


class ForeignLoader:
    """Any iterable of batches; a batch is a tensor or array, or a list, tuple or mapping that holds one.

    Args:
        spec: `module:function`; the function is called without arguments and returns the iterable, which is iterated
            once an epoch.
        config: whose net trains on the loader's batches, where `compute` is empty.
        compute: what stands in for a step, such as "sleep:20ms".
        hook: as in `bench.stages`; it sees `collate` (after a batch came), `copy` and `step` only.

    Raises:
        ConfigError: the loader cannot be had, or can be iterated once only; or neither a net nor `compute` was given.
        BenchError: the loader fails, gives nothing, or batches without a tensor.
    """

    fill_s: float | None = None
    host_step: bool

    def __init__(self, spec: str, config: RunConfig | None, compute: str = "", hook: str = "") -> None:
        self.spec = spec
        self.loader = _made(spec)
        if not hasattr(self.loader, "__iter__"):
            raise ConfigError("--loader", spec, f"gave a {type(self.loader).__name__}; expected an iterable of batches")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._running: Iterator[Any] | None = None
        self._keep = list(islice(self._endless(), _REPLAYED))
        images = _images_of(self._keep[0], spec)
        self.batch = self._put(self._keep[0])
        if compute:
            step = parse_compute(compute)
        elif config is None:
            raise ConfigError("--loader", spec, "needs a step: --compute sleep:20ms, or a RUN.toml whose net trains")
        else:
            step = self._own_step(config, images)
        self.host_step = bool(compute) or self.device.type == "cpu"
        self.stages = Stages(decode=lambda images, out: [], step=step)
        if hook:
            load_function(hook, "--hook")(self.stages)

    def _own_step(self, config: RunConfig, images: torch.Tensor) -> Any:
        if images.dim() != 4:
            raise ConfigError("--loader", self.spec, f"gives {tuple(images.shape)}; a net takes four dimensions")
        size = max(images.shape[1:])
        net = build_net(config.net, 1000, size).to(self.device)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.5)

        def step(count: int) -> None:
            seen = self._buffer[:count]
            seen = (seen.permute(0, 3, 1, 2) if seen.shape[-1] == 3 else seen).float()
            optimiser.zero_grad(set_to_none=True)
            targets = torch.zeros(len(seen), dtype=torch.int64, device=self.device)
            loss = nn.functional.cross_entropy(net(seen / 255 - 0.5), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

        return step

    @property
    def about(self) -> dict[str, Any]:
        """What is measured, as far as it can be known."""
        found = {
            "loader": self.spec, "device": self.device.type, "batch": self.batch, "mode": "loader",
            "kind": f"{type(self.loader).__module__}.{type(self.loader).__qualname__}",
            "workers": getattr(self.loader, "num_workers", None), "restarts": _restarts(self.loader),
            "shards": _shards_of(self.loader),
            "host_step": self.host_step,
        }  # fmt: skip
        return found

    def _endless(self) -> Iterator[Any]:
        """Batches, epoch after epoch, of one running iterator: workers are started once."""
        while True:
            given = int(self._running is not None)  # one that runs on may end at once: it gave its batches before
            try:
                if self._running is None:
                    self._running = iter(self.loader)
                while (batch := next(self._running, _END)) is not _END:
                    given += 1
                    yield batch
            except Exception as error:
                raise BenchError(f"--loader {self.spec}: {what_happened(error)}") from error
            self._running = None
            if isinstance(self.loader, Iterator):
                problem = "gave an iterator, which ends once and for all; return what can be iterated again and again"
                raise ConfigError("--loader", self.spec, problem)
            if not given:
                raise BenchError(f"--loader {self.spec}: gave no batch in an epoch")

    def _put(self, batch: Any) -> int:
        """Onto the device, as a training loop would; on a CPU the batch is used where it lies."""
        images = _images_of(batch, self.spec)
        if not len(images):
            raise BenchError(f"--loader {self.spec}: gave a batch of no images")
        self._buffer = images.to(self.device, non_blocking=True)
        return len(images)

    def batches(self) -> Iterator[int]:
        """Sizes of batches that were brought to the step."""
        for batch in self._endless():
            self.stages.collate(batch)
            size = self._put(batch)
            self.stages.copy(self._buffer)
            yield size

    def drain(self) -> Iterator[int]:
        """Batches that go nowhere."""
        for batch in self._endless():
            self.stages.collate(batch)
            yield len(_images_of(batch, self.spec))

    def replay(self) -> Iterator[int]:
        """A few batches kept from before, brought to the step in turn."""
        while True:
            for batch in self._keep:
                size = self._put(batch)
                self.stages.copy(self._buffer)
                yield size

    def stay(self) -> Iterator[int]:
        """The batch that is there already."""
        while True:
            yield self.batch

    def step(self, size: int) -> None:
        """One step."""
        self.stages.step(size)

    def wait(self) -> None:
        """Until the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def worker_seconds(self) -> dict[int, float]:
        """CPU seconds of each worker process so far."""
        return child_processes()

    def ladder(self, seconds: float, least: int) -> dict[str, list[float]]:
        """Seconds a batch of what a DataLoader over a map-style dataset shows: `dataset` and `collate`, in one process.

        Empty for any other loader.
        """
        dataset: Any = getattr(self.loader, "dataset", None)
        collate = getattr(self.loader, "collate_fn", None)
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__") or collate is None:
            return {}
        took: dict[str, list[float]] = {"dataset": [], "collate": []}
        end, at, total = time.perf_counter() + seconds, 0, len(dataset)
        while time.perf_counter() < end or len(took["collate"]) < min(least, 3):
            begun = time.perf_counter()
            samples = [dataset[(at + offset) % total] for offset in range(self.batch)]
            middle = time.perf_counter()
            collate(samples)
            took["dataset"].append(middle - begun)
            took["collate"].append(time.perf_counter() - middle)
            at += self.batch
        return took

    def close(self) -> None:
        """Lets go of the loader's workers."""
        self._running = None


def _made(spec: str) -> Any:
    """What the function of a loader returns."""
    function = load_function(spec, "--loader")
    with contextlib.suppress(ValueError):  # of some that are written in C nothing is known
        try:
            inspect.signature(function).bind()
        except TypeError as error:
            raise ConfigError("--loader", spec, f"is called without arguments, and wants some ({error})") from None
    try:
        return function()
    except BasslineError:
        raise
    except Exception as error:
        raise BenchError(f"--loader {spec}: {what_happened(error)}") from error


def idle_workers(before: Mapping[int, float], after: Mapping[int, float]) -> tuple[int, int]:
    """(idle, all) of the workers that lived through a window, by the CPU seconds each spent in it."""
    spent = [after[pid] - before.get(pid, 0.0) for pid in after]
    busiest = max(spent, default=0.0)
    if busiest <= 0.0:
        return 0, len(spent)
    return sum(each < _BUSY_SHARE * busiest for each in spent), len(spent)


def _images_of(batch: Any, spec: str) -> torch.Tensor:
    """The first tensor or array of a batch, looked for in depth."""
    if isinstance(batch, torch.Tensor):
        if batch.dim():
            return batch
    elif type(batch).__module__ == "numpy" and getattr(batch, "ndim", None):
        return torch.from_numpy(batch)
    elif isinstance(batch, Mapping | list | tuple):
        for part in batch.values() if isinstance(batch, Mapping) else batch:
            try:
                return _images_of(part, spec)
            except BenchError:
                continue
    raise BenchError(f"--loader {spec}: a batch is a {type(batch).__name__} without a tensor in it")


def _restarts(loader: Any) -> bool:
    """Whether a torch DataLoader starts its workers anew every epoch."""
    return bool(getattr(loader, "num_workers", 0)) and not getattr(loader, "persistent_workers", True)


def _shards_of(loader: Any) -> int | None:
    """How many shards a webdataset pipeline reads, wherever in the loader it lies; None for what is none."""
    for holder in (loader, getattr(loader, "dataset", None)):
        for stage in getattr(holder, "pipeline", None) or ():
            urls = getattr(stage, "urls", None)
            if isinstance(urls, list | tuple):
                return len(urls)
    return None
