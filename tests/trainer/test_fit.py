"""Whole runs on real thumbnails: what they write, that a kill changes nothing, and that two runs are never mixed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shards.errors import ConfigError
from shards.sample import Sample
from shards.shard_set import ShardSet
from tests.forks import Warm
from trainer.config import RunConfig, load_run, to_toml
from trainer.errors import LabelsDiffer, LossNotFinite, RunChanged, SplitIncomplete
from trainer.fit import Progress, fit
from trainer.predict import load

Make = Callable[..., RunConfig]
Write = Callable[..., ShardSet]
WALL = {"seconds", "images_per_s"}


def numbers(out: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what the clock says."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in WALL} for line in lines]


def test_a_run_folder_tells_everything(split: Path, tiny: Make, tmp_path: Path) -> None:
    told: list[Progress] = []
    result = fit(tiny(), split, tmp_path, started=time.monotonic() - 1.5, on_progress=told.append)
    assert result == json.loads((tmp_path / "result.json").read_text())
    assert {"run", "best_epoch", "min_loss", "time_to_best_s", "images_per_s", "device", "precision"} <= set(result)
    test = result["test"]
    assert {"accuracy", "ci95", "majority_rate", "balanced_accuracy", "macro_f1", "confusion"} <= set(test)
    assert sum(map(sum, test["confusion"])) == test["samples"] == 24
    # The parts add up to the total, and the residual says by how much they do not.
    assert {"start", "decode", "compile", "train", "validate"} <= set(result["time_s"])
    assert sum(result["time_s"].values()) + result["residual_s"] == pytest.approx(result["total_s"], abs=1e-3)
    assert 0 <= result["residual_s"] < 0.5
    assert result["time_s"]["start"] >= 1.5
    assert result["time_to_best_s"] <= result["total_s"]
    assert sum(result["time_to_best_parts_s"].values()) == pytest.approx(result["time_to_best_s"], abs=1e-3)
    # One damaged thumbnail is named, and every count is exact without it.
    assert [(bad["part"], bad["shard"], bad["key"]) for bad in result["bad_samples"]] == [
        ("train", "shard-000000.tar", "guitar-5")
    ]
    assert result["samples"] == {"train": 71, "val": 24, "test": 24}
    lines = numbers(tmp_path)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert {line["images"] for line in lines} == {71}
    assert result["min_loss"] == min(line["val_loss"] for line in lines)
    assert lines[result["best_epoch"] - 1]["val_loss"] == result["min_loss"]
    assert told[0].stage == "decode"
    assert told[-1].stage == "test"
    # The resolved run file says the same run again.
    assert load_run(tmp_path / "run.toml") == tiny()
    assert result["config_hash"] in (tmp_path / "run.toml").read_text()


def test_the_model_file_alone_predicts_the_same(split: Path, tiny: Make, tmp_path: Path) -> None:
    fit(tiny(), split, tmp_path)
    model = load(tmp_path / "best.safetensors")
    lines = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    with ShardSet.open(split / "test") as test:
        assert [line["key"] for line in lines] == [test.key(i) for i in range(len(test))]
        assert [line["label"] for line in lines] == [test.labels[label] for label in test.label_ids]
        found = model.predict([bytes(test.image(i)) for i in range(len(test))])
    for line, prediction in zip(lines, found, strict=True):
        assert prediction.label == line["predicted"]
        assert prediction.probability == pytest.approx(line["probability"], abs=1e-4)
        assert list(prediction.probabilities.values()) == pytest.approx(line["probabilities"], abs=1e-4)
        assert sum(line["probabilities"]) == pytest.approx(1, abs=1e-4)


def test_streaming_gives_the_same_numbers(split: Path, tiny: Make, tmp_path: Path) -> None:
    resident = fit(tiny("data.mode=resident"), split, tmp_path / "resident")
    stream = fit(tiny("data.mode=stream"), split, tmp_path / "stream")
    assert (resident["mode"], stream["mode"]) == ("resident", "stream")
    assert numbers(tmp_path / "resident") == numbers(tmp_path / "stream")
    assert resident["test"] == stream["test"]
    assert resident["bad_samples"] == stream["bad_samples"]


def test_dali_decodes_a_run(split: Path, tiny: Make, tmp_path: Path) -> None:
    result = fit(tiny("data.decoder=dali", "train.epochs=1"), split, tmp_path)
    assert result["decoder"] == "dali (cpu)"
    assert [bad["key"] for bad in result["bad_samples"]] == ["guitar-5"]
    assert result["samples"]["train"] == 71


def test_a_finished_run_is_not_run_again(split: Path, tiny: Make, tmp_path: Path) -> None:
    result = fit(tiny(), split, tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert fit(tiny(), split, tmp_path) == result
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    with pytest.raises(RunChanged, match="another configuration"):
        fit(tiny("train.seed=1"), split, tmp_path)


def test_other_data_are_refused(split: Path, tiny: Make, write: Write, tmp_path: Path) -> None:
    fit(tiny("train.epochs=1"), split, tmp_path / "run")
    other = tmp_path / "other"
    with ShardSet.open(split / "val") as val:
        samples = list(val)
    for part in ("train", "val", "test"):
        write(other / part, samples)
    with pytest.raises(RunChanged, match="another data set"):
        fit(tiny("train.epochs=1"), other, tmp_path / "run")


KILLED = """
import os, signal, sys
from pathlib import Path
from trainer.config import load_run
from trainer.fit import fit

out, kill_after = Path(sys.argv[3]), int(sys.argv[4])

def tell(progress):
    if kill_after and progress.stage == "train" and progress.epoch > kill_after:
        os.kill(os.getpid(), signal.SIGKILL)

fit(load_run(Path(sys.argv[1])), Path(sys.argv[2]), out, on_progress=tell)
"""


def test_a_kill_changes_nothing(split: Path, tiny: Make, tmp_path: Path, warm_python: Warm) -> None:
    """Killed in the middle of epochs, without and with a state kept, and run again: bit for bit the undisturbed run."""
    config = tiny(
        "train.epochs=5", "train.checkpoint_s=0", "augment.flip=true", "augment.shift=2", "optim.schedule=cosine"
    )
    (tmp_path / "run.toml").write_text(to_toml(config))
    undisturbed = fit(config, split, tmp_path / "undisturbed")

    def run(kill_after: int) -> int:
        command = [warm_python, "-c", KILLED, tmp_path / "run.toml", split, tmp_path / "killed", str(kill_after)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(_threads())}
        return subprocess.run([str(word) for word in command], check=False, env=environment).returncode

    assert run(2) == -signal.SIGKILL
    assert 2 <= len(numbers(tmp_path / "killed")) < 5  # one line more than last.pt knows of is cut again
    assert run(0) == 0
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "undisturbed")
    result = json.loads((tmp_path / "killed" / "result.json").read_text())
    for key in ("best_epoch", "min_loss", "test", "val", "epochs", "config_hash", "data_digest"):
        assert result[key] == undisturbed[key]
    assert (tmp_path / "killed" / "test.jsonl").read_bytes() == (tmp_path / "undisturbed" / "test.jsonl").read_bytes()
    assert (tmp_path / "killed" / "best.safetensors").read_bytes() == (
        tmp_path / "undisturbed" / "best.safetensors"
    ).read_bytes()
    assert sum(result["time_s"].values()) + result["residual_s"] == pytest.approx(result["total_s"], abs=1e-3)


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def test_a_line_written_before_the_kill_is_cut(split: Path, tiny: Make, tmp_path: Path) -> None:
    config = tiny("train.epochs=4", "train.checkpoint_s=1000")
    undisturbed = fit(config, split, tmp_path / "one")

    class Stop(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.epoch == 3:
            raise Stop

    with pytest.raises(Stop):
        fit(config, split, tmp_path / "two", on_progress=stop)
    assert not (tmp_path / "two" / "last.pt").exists()  # nothing kept yet: it starts afresh
    assert fit(config, split, tmp_path / "two")["min_loss"] == undisturbed["min_loss"]
    assert numbers(tmp_path / "two") == numbers(tmp_path / "one")


def test_early_stop(split: Path, tiny: Make, tmp_path: Path) -> None:
    result = fit(tiny("optim.lr=1e-30", "optim.momentum=0", "select.patience=2", "train.epochs=50"), split, tmp_path)
    assert result["epochs"] == result["best_epoch"] + 2 < 50


def test_collapse_to_one_label_is_said(split: Path, tiny: Make, write: Write, tmp_path: Path) -> None:
    lopsided = tmp_path / "lopsided"
    for part, few in (("train", 2), ("val", 1), ("test", 1)):
        with ShardSet.open(split / part) as source:
            samples = [sample for sample in source if sample.label == 0]
            samples += [sample for sample in source if sample.label == 1][:few]
        write(lopsided / part, samples)
    config = tiny("net.layers.0.batch_norm=false", "optim.lr=0.001", "train.epochs=2")
    result = fit(config, lopsided, tmp_path / "run")
    assert result["single_class"] == "guitar"
    assert result["test"]["accuracy"] == result["test"]["majority_rate"]
    assert numbers(tmp_path / "run")[-1]["val_single_class"] == "guitar"


def test_a_run_that_diverges_is_named(split: Path, tiny: Make, tmp_path: Path) -> None:
    with pytest.raises(LossNotFinite, match=r"lower optim\.lr"):
        fit(tiny("optim.lr=1e30", "net.layers.0.batch_norm=false"), split, tmp_path)


def test_a_graph_needs_a_gpu(split: Path, tiny: Make, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="GPU"):
        fit(tiny("train.executor=graph"), split, tmp_path / "a")
    with pytest.raises(ConfigError, match="GPU"):
        fit(tiny("train.device=cuda"), split, tmp_path / "b")
    with pytest.raises(ConfigError, match="fp32"):
        fit(tiny("train.precision=bf16"), split, tmp_path / "c")


def test_a_split_that_is_none(tiny: Make, write: Write, tmp_path: Path) -> None:
    with pytest.raises(SplitIncomplete, match="train/ is missing"):
        fit(tiny(), tmp_path, tmp_path / "run")
    write(tmp_path / "train", [Sample("a", b"\xff\xd8\xff", "jpg", 0)])
    write(tmp_path / "val", [Sample("a", b"\xff\xd8\xff", "jpg", 0)], labels=("drum", "guitar"))
    with pytest.raises(LabelsDiffer, match="val/ has the labels drum"):
        fit(tiny(), tmp_path, tmp_path / "run")
