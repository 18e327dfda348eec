"""A small real split for whoever measures."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from bench.plants import write_split
from shards.sample import Sample
from shards.shard_set import finish
from shards.writer import ShardWriter


@pytest.fixture(scope="session")
def planted_split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What bottlenecks are planted in."""
    root = tmp_path_factory.mktemp("planted") / "split"
    write_split(root)
    return root


@pytest.fixture(scope="session")
def split(instruments10: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96, 8 and 8 real thumbnails of two labels, shrunk to 64 pixels, which decode in 0.1 ms; a shard each."""
    root = tmp_path_factory.mktemp("bench-split")
    files = [sorted((instruments10 / name).iterdir())[:56] for name in ("guitar", "violin")]
    for part, first, last in (("train", 0, 48), ("val", 48, 52), ("test", 52, 56)):
        (root / part).mkdir()
        with ShardWriter(root / part) as writer:
            for label, each in enumerate(files):
                for number, file in enumerate(each[first:last]):
                    small = io.BytesIO()
                    with Image.open(file) as image:
                        image.convert("RGB").resize((64, 64)).save(small, "jpeg")
                    writer.add(Sample(f"{label}-{first + number}", small.getvalue(), "jpg", label, {}))
            writer.seal()
        finish(root / part, ("guitar", "violin"), source={"test": "bench"}, split=part).close()
    return root
