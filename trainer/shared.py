"""What the runs of a battery share: a part is decoded once, a step is compiled or captured once a shape.

A run that finds something here gives the numbers it gives alone, bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import torch

from shards.files import write_atomic
from shards.shard_set import ShardSet
from trainer.config import RunConfig
from trainer.executor import Eager
from trainer.step import Step
from trainer.store import BadSample, Moments, Store

__all__ = ["Kept", "PartKey", "Shared", "shape_of"]


@dataclass(frozen=True, slots=True)
class PartKey:
    """What the pixels of a decoded part depend on, and where they lie."""

    digest: str
    part: str
    size: int
    fit: str
    decoder: str
    device: str

    @property
    def group(self) -> tuple[str, ...]:
        """The same for all parts of one decoded split."""
        return self.digest, str(self.size), self.fit, self.decoder, self.device

    @property
    def name(self) -> str:
        """As a file name."""
        told = "|".join((*self.group, self.part))
        return f"{self.part}-{self.size}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class Kept:
    """A step that another run of the same shape may take over.

    `fresh` is what the step had before its first epoch; the net's own weights come from the next run's seed.
    """

    step: Step
    executor: Eager
    fresh: dict[str, torch.Tensor]


class Shared:
    """Keeps the decoded parts of one size and the step of one shape; what differs replaces them.

    Args:
        folder: where decoded parts lie as files that several processes map; None keeps them in this process.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._parts: dict[PartKey, tuple[Store, Moments]] = {}
        self._shape: tuple[Any, ...] = ()
        self._kept: Kept | None = None

    def store(self, key: PartKey, source: ShardSet, moments: Moments | None, decode: Callable[[], Store]) -> Store:
        """The decoded part: from here where it is, else by `decode`, which fills `moments`, and kept.

        With a folder the first process decodes and the others wait for it.
        """
        if any(other.group != key.group for other in self._parts):
            self._parts.clear()  # one size at a time: two may not fit
        if key not in self._parts:
            if self.folder is None:
                self._parts[key] = decode(), moments or Moments()
            else:
                self._parts[key] = self._from_file(self.folder, key, source, moments or Moments(), decode)
        store, found = self._parts[key]
        if moments is not None and moments is not found:
            moments.count, moments.total, moments.squares = found.count, found.total, found.squares
        return store

    def _from_file(
        self, folder: Path, key: PartKey, source: ShardSet, moments: Moments, decode: Callable[[], Store]
    ) -> tuple[Store, Moments]:
        folder.mkdir(parents=True, exist_ok=True)
        pixels, card = folder / f"{key.name}.u8", folder / f"{key.name}.json"
        with (folder / f"{key.name}.lock").open("w") as lock:
            flock(lock, LOCK_EX)  # let go of by the kernel if its holder is killed
            if not card.is_file():
                store = decode()
                write_atomic(pixels, [store.images.cpu().numpy().data.cast("B")])
                write_atomic(card, [json.dumps(_card_of(store, moments)).encode()])
        told = json.loads(card.read_text(encoding="utf-8"))
        shape = tuple(told["shape"])
        images = torch.from_file(os.fspath(pixels), shared=True, size=pixels.stat().st_size, dtype=torch.uint8)
        bad = [BadSample(**sample) for sample in told["bad"]]
        good = torch.ones(shape[0], dtype=torch.bool)
        good[told["lost"]] = False
        samples = good.nonzero()[:, 0].numpy()
        store = Store(images.view(shape).to(key.device), source.label_ids, samples, bad)
        sums = (torch.tensor(told[name], dtype=torch.float64) for name in ("total", "squares"))
        return store, Moments(told["count"], *sums)

    def take(self, shape: tuple[Any, ...]) -> Kept | None:
        """The step of this shape, if it is the one kept."""
        return self._kept if self._kept is not None and self._shape == shape else None

    def keep(self, shape: tuple[Any, ...], step: Step, executor: Eager) -> None:
        """Keeps a step that has made no epoch yet, in place of the one before."""
        fresh = {name: tensor.clone() for name, tensor in step.tensors().items() if not name.startswith("net.")}
        self._shape, self._kept = shape, Kept(step, executor, fresh)


def shape_of(config: RunConfig, *rest: Any) -> tuple[Any, ...]:
    """What a step's code depends on: the configuration without the numbers that may differ, and `rest`.

    Rate, schedule, seed, epochs and selection are no part of it. Momentum and weight decay are, where a graph is
    captured, because the graph has them in it; elsewhere only whether there is momentum.
    """
    body = config.model_dump(mode="json", exclude={"name", "select"})
    for name in ("lr", "schedule", "warmup"):
        body["optim"].pop(name, None)
    if config.train.executor != "graph" and "cuda" not in rest:
        body["optim"].pop("weight_decay")
        body["optim"]["momentum"] = body["optim"]["momentum"] > 0
    for name in ("seed", "epochs", "checkpoint_s"):
        body["train"].pop(name, None)
    return json.dumps(body, sort_keys=True), *rest


def _card_of(store: Store, moments: Moments) -> dict[str, Any]:
    rows = torch.ones(len(store.images), dtype=torch.bool)
    rows[torch.from_numpy(store.samples)] = False
    return {
        "shape": list(store.images.shape),
        "lost": rows.nonzero()[:, 0].tolist(),
        "bad": [asdict(sample) for sample in store.bad],
        "count": moments.count,
        "total": moments.total.tolist(),
        "squares": moments.squares.tolist(),
    }
