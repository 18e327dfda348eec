"""Bottlenecks planted on purpose, to find out whether `bench stalls` finds them.

Hooks for runs of ours, loaders as other people write them, and a small set to run them on.
"""

from __future__ import annotations

import io
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.stages import Stages
from shards.sample import Sample
from shards.shard_set import finish
from shards.writer import ShardWriter

__all__ = ["FOLDER", "PLANTED", "Planted", "run_of", "write_split"]

FOLDER = "BASSLINE_PLANT_SHARDS"
"""The environment variable that says where the loaders find their tars: a loader is called without arguments."""

_SLOW_S = 0.006
_PIXELS = 128
_SHARDS, _EACH = 4, 128


@dataclass(frozen=True, slots=True)
class Planted:
    """A pipeline, and what must be said of it.

    Attributes:
        names: the verdicts that are right.
        binding: what must be named as binding; empty: anything.
        hook, loader: functions of this module.
        compute: what stands in for the step.
        batch: images a batch, of a run of ours.
        processes: how many decode; 0: one thread does. A hook is called in one process, so that they are real ones.
        seconds: of a window.
    """

    names: tuple[str, ...]
    binding: str = ""
    hook: str = ""
    loader: str = ""
    compute: str = "sleep:1ms"
    batch: int = 8
    processes: int = 0
    seconds: float = 0.12


PLANTED = {
    "disk": Planted(("INPUT_BOUND",), "read", hook="slow_disk"),
    "decode": Planted(("INPUT_BOUND",), "decode", hook="slow_decode", batch=48),
    "processes": Planted(("INPUT_BOUND",), "decode", batch=96, processes=2),
    "step": Planted(("COMPUTE_BOUND",), "step", hook="slow_step", batch=4),
    "copy": Planted(("INPUT_BOUND",), "copy", hook="slow_copy"),
    "shards": Planted(("INPUT_BOUND",), "shards", loader="few_shards"),
    "collate": Planted(("INPUT_BOUND",), "collate", loader="slow_collate"),
    "balanced": Planted(("COMPUTE_BOUND", "UNDECIDED"), hook="balanced", compute="sleep:20ms"),
    "short": Planted(("INSUFFICIENT",), compute="sleep:20ms", seconds=0.005),
}
"""What `bench planted` counts, by name."""


def run_of(planted: Planted) -> dict[str, Any]:
    """The run file it is planted in: one layer on streamed batches, decoded by one thread or by processes."""
    workers = {"threads": planted.processes, "workers": "processes"} if planted.processes else {"threads": 1}
    return {
        "name": "planted",
        "data": {"size": _PIXELS, "decoder": "simplejpeg", "mode": "stream", **workers},
        "net": {"layers": [{"kernel": 5, "maps": 2}]},
        "train": {"batch": planted.batch, "epochs": 1, "device": "cpu"},
    }


def write_split(root: Path) -> None:
    """Writes a split of 512, 8 and 8 pictures (clouds, from a seed) of two labels, 128 x 128; the first in four shards.

    Each is decoded in some 0.06 ms. An epoch of 64 batches keeps what an epoch's start costs from being the finding.
    """
    draw = np.random.default_rng(0)
    for part, shards, each in (("train", _SHARDS, _EACH), ("val", 1, 8), ("test", 1, 8)):
        (root / part).mkdir(parents=True)
        for shard in range(shards):
            with ShardWriter(root / part, shard=shard) as writer:
                for number in range(each):
                    rough = Image.fromarray(draw.integers(0, 256, (_PIXELS // 4, _PIXELS // 4, 3), dtype=np.uint8))
                    data = io.BytesIO()
                    rough.resize((_PIXELS, _PIXELS), Image.Resampling.BICUBIC).save(data, "jpeg")
                    writer.add(Sample(f"{part}-{shard}-{number}", data.getvalue(), "jpg", number % 2, {}))
                writer.seal()
        finish(root / part, ("even", "odd"), source={"bench": "planted"}, split=part).close()


def slow_disk(stages: Stages) -> None:
    """A disk of 5 MB/s: the bytes of a batch come at that rate."""
    inner = stages.read

    def read(images: Any) -> Any:
        time.sleep(sum(len(image) for image in images) / 5e6)
        return inner(images)

    stages.read = read


def slow_decode(stages: Stages) -> None:
    """The real decoder, three times over."""
    inner = stages.decode

    def decode(images: Any, out: Any) -> list[int]:
        inner(images, out)
        inner(images, out)
        return inner(images, out)

    stages.decode = decode


def slow_step(stages: Stages) -> None:
    """A step that takes 24 ms more."""
    inner = stages.step

    def step(size: int) -> None:
        inner(size)
        time.sleep(4 * _SLOW_S)

    stages.step = step


def slow_copy(stages: Stages) -> None:
    """A bus that takes 6 ms a batch."""
    stages.copy = lambda buffer: time.sleep(_SLOW_S)


def balanced(stages: Stages) -> None:
    """A disk that takes 17 ms a batch: with decoding some 17.5 of the 20 that the step takes."""
    inner = stages.read

    def read(images: Any) -> Any:
        time.sleep(0.017)
        return inner(images)

    stages.read = read


def slow_collate() -> Any:
    """A DataLoader whose collate function takes 10 ms a batch."""
    from torch.utils.data import DataLoader, default_collate

    def collate(samples: list[Any]) -> Any:
        time.sleep(0.010)
        return default_collate(samples)

    pictures: Any = _Pictures()
    return DataLoader(pictures, batch_size=8, shuffle=True, collate_fn=collate)


def few_shards() -> Any:
    """A webdataset pipeline over one shard, read by two workers."""
    import webdataset
    from torch.utils.data import DataLoader

    tar = str(min(Path(os.environ[FOLDER]).glob("*.tar")))
    dataset = (
        webdataset.WebDataset([tar], shardshuffle=False, empty_check=False)
        .decode("pil")
        .to_tuple("jpg", "cls")
        .map_tuple(_pixels, int)
        .batched(8)
    )
    return DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)


def _pixels(image: Any) -> Any:
    return np.asarray(image.convert("RGB"))


class _Pictures:
    """Some pictures of the tars, decoded by Pillow, as a dataset with a length."""

    def __init__(self) -> None:
        from shards.shard_set import ShardSet

        with ShardSet.open(Path(os.environ[FOLDER])) as source:
            self._images = [bytes(source.image(number)) for number in range(64)]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> Any:
        with Image.open(io.BytesIO(self._images[number])) as image:
            return np.asarray(image.convert("RGB")), 0
