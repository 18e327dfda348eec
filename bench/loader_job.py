"""What a contender of `bench loaders` is, and what it is asked to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["DEVIATION", "MEAN", "Batches", "Contender", "Job"]

Batches = Iterator[tuple[Any, Any]]
"""uint8 (B, S, S, 3), or float32 (B, 3, S, S) of a contender that `normalises`, and int64 (B,), tensors or arrays; good
until the next is asked for.
"""

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's channels, between 0 and 1: what torchvision's documentation normalises by."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a contender is to do.

    Attributes:
        shards: folder of the shard set.
        formats: folder in which the same samples lie in other formats, each under its name (`loader_formats.py`).
        size: side S in pixels.
        batch: samples a batch.
        workers: processes or threads the contender may use.
        seed: of the shuffling.
        uniform: whether all images are S x S pixels, so that nothing has to be resized.
    """

    shards: str
    formats: str
    size: int
    batch: int
    workers: int
    seed: int = 0
    uniform: bool = False

    def path(self, name: str) -> Path:
        """Of the samples in a format."""
        return Path(self.formats) / name


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to load the set.

    Attributes:
        name: what tables call it.
        about: one line on what it is.
        open: prepares it in this process; the returned function gives one epoch's batches.
        needs: modules that must be installed.
        formats: what it reads, where that is not the tars.
        gpu: whether it needs one.
        ours: whether it is Bassline's own.
        normalises: whether it gives float32 planes by `MEAN` and `DEVIATION`: more work than uint8 and four times the
            bytes.
    """

    name: str
    about: str
    open: Callable[[Job], Callable[[int], Batches]]
    needs: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("tars",)
    gpu: bool = False
    ours: bool = False
    normalises: bool = False
