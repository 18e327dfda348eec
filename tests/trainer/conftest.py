"""Small real splits and runs for the trainer's tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from shards.sample import Sample, sniff
from shards.shard_set import ShardSet, finish
from shards.writer import ShardWriter
from trainer.config import RunConfig, resolve

LABELS = ("guitar", "violin", "drum")


def write_part(folder: Path, samples: Sequence[Sample], labels: Sequence[str] = LABELS) -> ShardSet:
    folder.mkdir(parents=True)
    writer = ShardWriter(folder)
    for sample in samples:
        writer.add(sample)
    writer.seal()
    writer.close()
    return finish(folder, labels, source={"test": "trainer"}, split=folder.name)


def sample_of(key: str, image: bytes, label: int) -> Sample:
    return Sample(key, image, sniff(image[:64]) or "jpg", label, {})


@pytest.fixture(scope="session")
def split(instruments10: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three real labels, 24 thumbnails each in train/ (one of which is damaged), 8 in val/, 8 in test/."""
    root = tmp_path_factory.mktemp("split")
    parts: dict[str, list[Sample]] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(LABELS):
        for i, file in enumerate(sorted((instruments10 / name).iterdir())[:40]):
            part = "train" if i < 24 else "val" if i < 32 else "test"
            parts[part].append(sample_of(f"{name}-{i}", file.read_bytes(), label))
    truncated = parts["train"][5]
    parts["train"][5] = sample_of(truncated.key, truncated.image[: len(truncated.image) // 2], truncated.label)
    for part, samples in parts.items():
        write_part(root / part, samples)
    return root


@pytest.fixture
def write() -> Callable[..., ShardSet]:
    """Makes a shard set: (folder, samples, labels)."""
    return write_part


@pytest.fixture
def tiny() -> Callable[..., RunConfig]:
    """A run of a few seconds at most: 32 pixels, 3 epochs; takes overrides as the command line does."""

    def make(*overrides: str) -> RunConfig:
        data = {
            "name": "tiny",
            "data": {"size": 32, "decoder": "simplejpeg", "threads": 2},
            "net": {"layers": [{"kernel": 5, "maps": 4, "batch_norm": True, "dropout": 0.2}]},
            "optim": {"lr": 0.02, "momentum": 0.6},
            "train": {"batch": 16, "epochs": 3},
        }
        return resolve(data, overrides)

    return make
