"""Who runs the step: a plain loop, a compiler, or a CUDA graph. All three run the same `Step.train`."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from shards.errors import ConfigError
from trainer.step import Step

__all__ = ["Compiled", "Eager", "Graph", "bare_rate", "open_executor"]


CHUNK_S = 0.02
"""Least time between two waits for the device while a rate is measured."""


class Eager:
    """Calls the step as it is."""

    name = "eager"

    def __init__(self, step: Step) -> None:
        self.step = step

    def prepare(self, counts: Iterable[int]) -> float:
        """Gets ready for batches of these sizes, leaves every weight as it was, and gives the seconds it took.

        What it is ready for already costs nothing: a battery's runs of one shape follow each other on one executor.
        """
        return 0.0

    def run(self, count: int) -> None:
        """One step on the first `count` samples of the step's buffers."""
        self.step.train(count)


class Compiled(Eager):
    """The forward and backward pass compiled by Inductor, one version a batch size; the optimiser is fused already.

    Raises:
        ConfigError: there is no C++ compiler, which Inductor needs on a CPU.
    """

    name = "compiled"

    def __init__(self, step: Step) -> None:
        compiler = os.environ.get("CXX", "g++")
        if step.device.type == "cpu" and shutil.which(compiler) is None:
            raise ConfigError(
                "train.executor", "compiled", f'needs the C++ compiler {compiler}; install it, set CXX, or use "eager"'
            )
        super().__init__(step)
        self._ready: set[int] = set()

    def prepare(self, counts: Iterable[int]) -> float:
        began = time.perf_counter()
        if not self._ready:
            self.step.forward = torch.compile(self.step.forward, dynamic=False)
        with _rehearsal(self.step):
            for count in counts:
                if count not in self._ready:
                    self.step.train(count)
                    self._ready.add(count)
        return time.perf_counter() - began


class Graph(Eager):
    """The whole step, optimiser included, replayed as one CUDA graph a batch size: no launch cost a kernel.

    torch registers the device's generator with the graph, so dropout and augmentation differ from replay to replay.
    """

    name = "graph"

    def __init__(self, step: Step) -> None:
        if step.device.type != "cuda":
            raise ConfigError(
                "train.executor", "graph", 'needs an NVIDIA GPU and there is none here; "eager" or "auto"'
            )
        super().__init__(step)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def prepare(self, counts: Iterable[int]) -> float:
        began = time.perf_counter()
        with _rehearsal(self.step):
            for count in counts:
                if count not in self._graphs:
                    self._graphs[count] = self._capture(count)
        torch.cuda.synchronize(self.step.device)
        return time.perf_counter() - began

    def _capture(self, count: int) -> torch.cuda.CUDAGraph:
        # Warm-up makes cuDNN's plans and cuBLAS's workspaces, which are a stream's own: so capture is on that stream.
        side = torch.cuda.Stream(self.step.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self.step.device))
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step.train(count)
        torch.cuda.current_stream(self.step.device).wait_stream(side)
        self.step.optimiser.clear()  # gradients are then made in the graph's own pool
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            self.step.train(count)
        return graph

    def run(self, count: int) -> None:
        if count in self._graphs:
            self._graphs[count].replay()
        else:  # a stream that lost a bad image makes a batch of another size: too rare to be worth a capture
            self.step.train(count)


@contextmanager
def _rehearsal(step: Step) -> Iterator[None]:
    """Runs steps for practice: afterwards everything they changed holds what it held, in the same memory."""
    kept = {name: tensor.clone() for name, tensor in step.tensors().items()}
    step.start_epoch()
    yield
    step.restore(kept)
    step.start_epoch()


def open_executor(name: str, step: Step) -> Eager:
    """The executor a run file names; `auto` is eager on the CPU and a graph on the GPU.

    Raises:
        ConfigError: a graph was asked for and there is no GPU, or `compiled` and there is no compiler.
    """
    if name == "auto":
        name = "graph" if step.device.type == "cuda" else "eager"
    return {kind.name: kind for kind in (Eager, Compiled, Graph)}[name](step)


def bare_rate(executor: Eager, seconds: float) -> float | None:
    """Images per second of the step on a batch that is there already: what no feed can exceed. Spoils the weights.

    None where fewer than three steps fit into `seconds`.
    """
    step, took, chunk = executor.step, list[float](), 1
    step.start_epoch()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and len(took) < 200:
        began = time.perf_counter()
        for _ in range(chunk):
            executor.run(len(step.images))
        float(step.loss_sum)  # waits for the device
        spent = time.perf_counter() - began
        if spent < CHUNK_S:  # a run waits once an epoch: waiting after each short step would lower its ceiling
            took, chunk = [], chunk * 2
        else:
            took.append(spent / chunk)
    return round(len(step.images) / statistics.median(took), 1) if len(took) >= 3 else None
