"""Bottlenecks planted on purpose: hooks for runs of ours, loaders as other people write them."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Any

from bench.stages import Stages

SLOW_S = 0.006
FOLDER = "BASSLINE_PLANT_SHARDS"
"""Where the loaders find their tars: a loader is called without arguments."""


def slow_disk(stages: Stages) -> None:
    """A disk of 2 MB/s: the bytes of a batch come at that rate."""
    inner = stages.read

    def read(images: Any) -> Any:
        time.sleep(sum(len(image) for image in images) / 2e6)
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
        time.sleep(4 * SLOW_S)

    stages.step = step


def slow_copy(stages: Stages) -> None:
    """A bus that takes 6 ms a batch."""
    stages.copy = lambda buffer: time.sleep(SLOW_S)


def balanced(stages: Stages) -> None:
    """A disk that keeps pace with a step of 12 ms, and not much more."""
    inner = stages.read

    def read(images: Any) -> Any:
        time.sleep(0.005)
        return inner(images)

    stages.read = read


def slow_collate() -> Any:
    """A DataLoader whose collate function takes 6 ms a batch."""
    from torch.utils.data import DataLoader, default_collate

    def collate(samples: list[Any]) -> Any:
        time.sleep(SLOW_S)
        return default_collate(samples)

    return DataLoader(_Pictures(), batch_size=8, shuffle=True, collate_fn=collate)


def few_shards() -> Any:
    """A webdataset pipeline over one shard, read by two workers."""
    import webdataset
    from torch.utils.data import DataLoader

    tar = str(next(Path(os.environ[FOLDER]).glob("*.tar")))
    dataset = (
        webdataset.WebDataset([tar], shardshuffle=False, empty_check=False)
        .decode("pil")
        .to_tuple("jpg", "cls")
        .map_tuple(_pixels, int)
        .batched(8)
    )
    return DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)


def _pixels(image: Any) -> Any:
    import numpy as np

    return np.asarray(image.convert("RGB"))


class _Pictures:
    """The pictures of the tars, decoded by Pillow, as a dataset with a length."""

    def __init__(self) -> None:
        from shards.shard_set import ShardSet

        with ShardSet.open(Path(os.environ[FOLDER])) as source:
            self._images = [bytes(source.image(number)) for number in range(16)]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> Any:
        import numpy as np
        from PIL import Image

        with Image.open(io.BytesIO(self._images[number])) as image:
            return np.asarray(image.convert("RGB").resize((64, 64))), 0
