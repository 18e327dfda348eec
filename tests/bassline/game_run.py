"""A small real run and split that need nothing beside the project, for tests of what uses a model."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from shards.sample import Sample
from shards.writer import write_set
from trainer.config import RunConfig
from trainer.fit import fit

__all__ = ["LABELS", "answers", "make", "picture"]

LABELS = ("banjo", "bass", "guitar")


def picture(label: int, seed: int, kind: str = "JPEG") -> bytes:
    """A disc, a bar or a triangle on a chequered ground; its file says in a comment what it is, as shops' files do."""
    rng = np.random.default_rng((label, seed))
    ground = Image.fromarray(rng.integers(120, 256, (5, 4, 3), dtype=np.uint8))
    image = ground.resize((48, 60), Image.Resampling.NEAREST)
    draw, (x, y) = ImageDraw.Draw(image), rng.integers(2, 20, 2).tolist()
    colour = tuple(rng.integers(0, 120, 3).tolist())
    if label == 0:
        draw.ellipse((x, y, x + 24, y + 24), fill=colour)
    elif label == 1:
        draw.rectangle((x, y, x + 7, y + 34), fill=colour)
    else:
        draw.polygon([(x, y + 26), (x + 26, y + 26), (x + 13, y)], fill=colour)
    out = io.BytesIO()
    comment = {"comment": f"{LABELS[label]} truth".encode()} if kind == "JPEG" else {}
    image.save(out, kind, **comment)
    return out.getvalue()


def make(root: Path) -> Path:
    """`root`/split with 30 test images, of which one is damaged, and `root`/run, trained for a few epochs."""
    for part, each, first in (("train", 16, 0), ("val", 6, 100), ("test", 10, 200)):
        samples = [
            Sample(f"{name}-{i}", picture(label, first + i), "jpg", label, {"title": f"Model {i}", "maker": name})
            for i in range(each)
            for label, name in enumerate(LABELS)
        ]
        if part == "test":
            broken = samples[4]
            samples[4] = Sample(broken.key, broken.image[: len(broken.image) // 2], "jpg", broken.label, {})
        with write_set(root / "split" / part, samples, LABELS, source={"kind": "test"}, split=part):
            pass
    config = {
        "name": "tiny",
        "data": {"size": 32, "decoder": "simplejpeg"},
        "net": {"layers": [{"kernel": 5, "maps": 6, "batch_norm": True}]},
        "optim": {"lr": 0.02, "momentum": 0.6},
        "train": {"batch": 16, "epochs": 4},
    }
    recipe = {"recipe": {"names": ["train", "val", "test"]}}
    (root / "split" / "split.json").write_text(json.dumps(recipe))
    fit(RunConfig.model_validate(config), root / "split", root / "run")
    return root


def answers(root: Path) -> dict[str, dict[str, Any]]:
    """What the run itself wrote of each image of the test part, by key."""
    lines = (root / "run" / "test.jsonl").read_text().splitlines()
    return {told["key"]: told for told in map(json.loads, lines)}
