"""Small real shard sets for this room's tests."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.sample import Sample, sniff
from shards.shard_set import ShardSet
from shards.writer import write_set

Draw = Callable[..., bytes]
Make = Callable[..., Sample]


def _draw(seed: int, kind: str = "JPEG", size: tuple[int, int] = (40, 32)) -> bytes:
    """A picture of its own for each seed: blocks of one color, light and dark, on white; no two are near-duplicates."""
    rng = np.random.default_rng(seed)
    shade = np.where(rng.random((16, 16, 1)) < 0.5, 1.0, rng.uniform(0.2, 0.8, (16, 16, 1)))
    color = np.where(shade < 1, rng.permutation([90, 160, 220]), 255)
    blocks = (shade * color).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(out, kind)
    return out.getvalue()


def _make(seed: int, label: int = 0, **meta: object) -> Sample:
    image = _draw(seed)
    return Sample(hashlib.sha256(image).hexdigest()[:20], image, "jpg", label, {"seed": seed, **meta})


@pytest.fixture(scope="session")
def draw() -> Draw:
    return _draw


@pytest.fixture(scope="session")
def make() -> Make:
    """A sample with an image of its own for each seed."""
    return _make


@pytest.fixture
def small(tmp_path: Path) -> Iterator[ShardSet]:
    """Ten samples of two labels in three shards, one PNG and one WebP among them."""
    samples = [_make(seed, seed % 2) for seed in range(8)]
    samples += [Sample("a-png", _draw(8, "PNG"), "png", 0, {"seed": 8}), Sample("a_webp", _draw(9, "WEBP"), "webp", 1)]
    with write_set(tmp_path / "small", samples, ["guitar", "bass"], source={"kind": "test"}, shard_samples=4) as made:
        yield made


@pytest.fixture(scope="session")
def real(thumbnails: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Eighty real thumbnails of ten labels in four shards."""

    def samples() -> Iterator[Sample]:
        for label, files in enumerate(thumbnails.values()):
            for file in files:
                data = file.read_bytes()
                yield Sample(hashlib.sha256(data).hexdigest()[:20], data, sniff(data) or "", label, {"name": file.name})

    folder = tmp_path_factory.mktemp("real") / "set"
    return write_set(folder, samples(), list(thumbnails), source={"kind": "test"}, shard_samples=20)
