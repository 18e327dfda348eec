"""A run with everything on: taken up again it is the undisturbed run, and the model file gives the tested answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shards.errors import ConfigError
from shards.shard_set import ShardSet
from trainer.config import RunConfig, resolve
from trainer.fit import fit
from trainer.predict import load
from trainer.progress import Progress

WALL = {"seconds", "images_per_s"}


def everything(*overrides: str) -> RunConfig:
    data: dict[str, Any] = {
        "name": "everything",
        "data": {"size": 24, "decoder": "simplejpeg", "threads": 2},
        "net": {"kind": "residual", "widths": [4, 6], "whiten": True, "dropout": 0.1, "init": "dirac"},
        "optim": {
            "kind": "muon", "lr": 0.02, "momentum": 0.9, "nesterov": True, "schedule": "triangular", "clip": 5.0,
            "class_weights": "balanced", "label_smoothing": 0.1, "weight_decay": 0.01, "decay_norms": False,
        },
        "average": {"kind": "ema", "decay": 0.9, "every": 2},
        "augment": {
            "alternating_flip": True, "shift": 2, "rotation": 10, "zoom": 0.1, "hue": 10, "contrast": 0.1, "cutout": 4,
            "mixup": 0.2,
        },
        "train": {"batch": 16, "epochs": 4, "sampling": "balanced", "checkpoint_s": 0},
        "test": {"flip": True},
    }  # fmt: skip
    return resolve(data, overrides)


def numbers(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in WALL} for line in lines]


class Stop(Exception):
    pass


def stopping_after(epoch: int) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        if progress.stage == "train" and progress.epoch > epoch:
            raise Stop

    return tell


def test_everything_resumes_exactly_and_predicts_what_was_tested(split: Path, tmp_path: Path) -> None:
    undisturbed = fit(everything(), split, tmp_path / "one")
    with pytest.raises(Stop):
        fit(everything(), split, tmp_path / "two", on_progress=stopping_after(2))
    assert fit(everything(), split, tmp_path / "two")["test"] == undisturbed["test"]
    assert numbers(tmp_path / "two") == numbers(tmp_path / "one")
    model_files = [(tmp_path / name / "best.safetensors").read_bytes() for name in ("one", "two")]
    assert model_files[0] == model_files[1]
    assert undisturbed["views"] == 2
    # The model file alone gives the test's answers: averaged weights, both views.
    model = load(tmp_path / "one")
    assert model.card.flip
    lines = [json.loads(line) for line in (tmp_path / "one" / "test.jsonl").read_text().splitlines()]
    with ShardSet.open(split / "test") as test:
        found = model.predict([bytes(test.image(i)) for i in range(len(test))])
    for line, prediction in zip(lines, found, strict=True):
        assert list(prediction.probabilities.values()) == pytest.approx(line["probabilities"], abs=1e-4)


def test_weights_of_a_run_start_another(split: Path, tmp_path: Path) -> None:
    fit(everything("train.epochs=1"), split, tmp_path / "one")
    weights = tmp_path / "one" / "best.safetensors"
    started = fit(everything("train.epochs=1", f'net.weights="{weights}"'), split, tmp_path / "two")
    assert started["config"]["net"]["weights"] == str(weights)
    assert started["min_loss"] != json.loads((tmp_path / "one" / "result.json").read_text())["min_loss"]


def test_class_weights_of_another_number_of_labels_are_refused(split: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"2 numbers; 3 were expected.*guitar, violin, drum"):
        fit(everything("optim.class_weights=[1.0, 2.0]"), split, tmp_path)


def test_a_torchvision_model_trains(split: Path, tmp_path: Path) -> None:
    config = everything("train.epochs=1", "data.size=32")
    tables = config.model_dump(mode="json") | {
        "net": {"kind": "torchvision", "name": "shufflenet_v2_x0_5"},
        "optim": {"lr": 0.01},
    }
    result = fit(resolve(tables), split, tmp_path)
    assert result["parameters"] > 100_000
    assert torch.isfinite(torch.tensor(result["min_loss"]))
