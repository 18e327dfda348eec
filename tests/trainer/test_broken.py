"""What was broken by a disk, an editor or a slip of the finger is answered by one line that names it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shards.errors import ConfigError
from trainer.battery import load_battery, run_battery
from trainer.config import RunConfig, resolve, to_toml
from trainer.errors import OutOfMemory, RunDamaged, TrainError
from trainer.fit import fit

Make = Callable[..., RunConfig]
RUN = ("train.epochs=2", "train.checkpoint_s=0", "data.size=24")


@pytest.fixture(scope="module")
def finished(split: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    fit(run_of(), split, out)
    return out


def run_of(*overrides: str) -> RunConfig:
    net = {"layers": [{"kernel": 5, "maps": 4}]}
    return resolve({"name": "broken", "data": {"decoder": "simplejpeg", "threads": 1}, "net": net}, [*RUN, *overrides])


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b"\xff\x00\xfe" * 40])
@pytest.mark.parametrize("name", ["result.json", "last.pt", "metrics.jsonl"])
def test_a_damaged_run_folder_is_named(name: str, damage: bytes, finished: Path, split: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    if name != "result.json":
        (out / "result.json").unlink()
    (out / name).write_bytes(damage)
    with pytest.raises(RunDamaged) as caught:
        fit(run_of(), split, out)
    assert str(out / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert f"remove {out}" in str(caught.value)


def test_a_cut_or_foreign_state_is_named(finished: Path, split: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "result.json").unlink()
    os.truncate(out / "last.pt", 700)
    with pytest.raises(RunDamaged):
        fit(run_of(), split, out)
    torch.save({"config_hash": "0"}, out / "last.pt")
    with pytest.raises(RunDamaged, match="holds no run's state"):
        fit(run_of(), split, out)
    (out / "last.pt").unlink()
    assert fit(run_of(), split, out)["epochs"] == 2  # what is left is overwritten


def test_more_memory_than_there_is(split: Path, tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory, match=r"can't allocate memory.*lower train\.batch"):
        fit(run_of("net.layers.0.padding=100000"), split, tmp_path)


@pytest.mark.parametrize("content", [b"no weights\n", b"", b"\x80\x02."])
def test_weights_that_are_none(content: bytes, split: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"holds no weights|a state dict was expected"):
        fit(run_of(f'net.weights="{file}"'), split, tmp_path / "run")


@pytest.mark.parametrize(
    "override",
    [
        "train.epochs=99999999999999999999", "train.batch=1000000000", "train.seed=18446744073709551616",
        "net.layers.0.maps=1000000000", "data.size=100000", "data.threads=100000", "augment.shift=1000000",
        "augment.mixup=1e300", "train.checkpoint_s=inf",
    ],
)  # fmt: skip
def test_absurd_numbers_are_refused(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_of(override)
    assert caught.value.key == override.partition("=")[0]


@pytest.mark.parametrize("name", ["result.json", "metrics.jsonl", "search.sqlite"])
def test_a_damaged_battery_is_named(name: str, split: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    file, out = tmp_path / "b.toml", tmp_path / "out"
    search = '[search]\nmethod = "optuna"\ntrials = 1\n[search.keys]\n"optim.lr" = [0.1]\n'
    file.write_text(to_toml(run_of("train.epochs=1")) + search)
    run_battery(load_battery(file), split, out)
    path = next(out.rglob(name))
    path.write_bytes(b"{}}\n" * 500)
    with pytest.raises(TrainError, match="remove") as caught:
        run_battery(load_battery(file), split, out)
    assert str(path) in str(caught.value)
