"""Run folders as the trainer writes them, for tests of what reads them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

from shards.sample import Sample
from shards.shard_set import ShardSet
from shards.writer import write_set

RUN_TOML = """name = "{name}"
[net]
kind = "conv"
[[net.layers]]
kernel = 5
maps = 10
stride = 1
padding = 0
batch_norm = true
dropout = 0.0
pool = 2
[select]
metric = "val_loss"
[optim]
lr = 0.01
momentum = 0.6
[train]
batch = 256
"""


def make_split(folder: Path, thumbnails: dict[str, list[Path]]) -> list[tuple[str, str]]:
    """A test part of real thumbnails; returns (key, label) of each sample."""
    labels = sorted(thumbnails)
    samples = [
        Sample(f"{label}-{path.stem}", path.read_bytes(), "jpg", labels.index(label), {})
        for label in labels
        for path in thumbnails[label]
        if path.read_bytes().startswith(b"\xff\xd8")
    ]
    with write_set(folder / "test", samples, labels, source={"kind": "test"}, split="test") as made:
        assert isinstance(made, ShardSet)
    return [(sample.key, labels[sample.label]) for sample in samples]


def make_run(
    folder: Path, name: str, labels: Sequence[str], answers: Sequence[tuple[str, str]], *, always: str | None = None
) -> Path:
    """A finished run over `answers` (key, label): right four times in five, or always saying one label."""
    draw = random.Random(name)
    folder.mkdir(parents=True)
    index = {label: number for number, label in enumerate(labels)}
    confusion = [[0] * len(labels) for _ in labels]
    lines = []
    for key, label in answers:
        said = always or (label if draw.random() < 0.8 else draw.choice(labels))
        confusion[index[label]][index[said]] += 1
        sure = 0.5 + draw.random() / 2
        rest = (1 - sure) / max(len(labels) - 1, 1)
        probabilities = [sure if other == said else rest for other in labels]
        line = {"key": key, "label": label, "predicted": said, "probability": sure, "probabilities": probabilities}
        lines.append(json.dumps(line))
    total = len(answers)
    accuracy = sum(confusion[i][i] for i in range(len(labels))) / total
    majority = max(sum(row) for row in confusion) / total
    recalls = [row[i] / sum(row) for i, row in enumerate(confusion) if sum(row)]
    history = [
        {
            "epoch": epoch,
            "lr": 0.01,
            "train_loss": 2 * math.exp(-epoch / 9) + 0.1,
            "val_loss": 2 * math.exp(-epoch / 8) + 0.2 + 0.01 * epoch,
            "train_accuracy": 1 - 0.7 * math.exp(-epoch / 5),
            "val_accuracy": 0.95 - 0.6 * math.exp(-epoch / 4),
            "seconds": 3.1,
            "images_per_s": 1450.0,
        }
        for epoch in range(1, 21)
    ]
    result = {
        "run": name, "labels": list(labels), "single_class": always,
        "val": {"majority_rate": 0.125}, "best_epoch": 13, "min_loss": 0.4521,
        "test": {
            "accuracy": accuracy, "ci95": [max(accuracy - 0.08, 0), min(accuracy + 0.06, 1)], "majority_rate": majority,
            "balanced_accuracy": sum(recalls) / len(recalls), "macro_f1": 0.71, "confusion": confusion,
        },
        "time_to_best_s": 48.2, "total_s": 75.4,
        "time_s": {"start": 3.4, "decode": 1.9, "compile": None, "train": 62.0, "validate": 7.5},
        "images_per_s": 1451.3, "device": "cpu", "precision": "fp32", "config_hash": "0123456789abcdef",
        "data_digest": "f" * 64, "bad_samples": [],
    }  # fmt: skip
    (folder / "run.toml").write_text(RUN_TOML.format(name=name))
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    (folder / "test.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder
