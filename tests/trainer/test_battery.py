"""Batteries on real thumbnails: the numbers of runs alone, nothing done twice, kills and bad runs survived."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from shards.errors import ConfigError
from tests.forks import Warm
from trainer.battery import Battery, BatteryProgress, Outcome, load_battery, run_battery
from trainer.config import config_hash, load_run
from trainer.errors import BatteryBusy
from trainer.fit import fit
from trainer.search import Search, Trial, open_trials

ROOT = Path(__file__).resolve().parents[2]

BASE = """
sort = "val_loss"
[data]
size = 24
decoder = "simplejpeg"
threads = 1
[net]
layers = [{ kernel = 5, maps = 4, batch_norm = true, dropout = 0.2 }]
[optim]
lr = 0.02
momentum = 0.6
[train]
batch = 16
epochs = 3
checkpoint_s = 0
"""
RUNS = """
[[runs]]
name = "one"
[[runs]]
name = "two"
optim.lr = 0.05
train.seed = 7
[[runs]]
name = "three"
data.size = 32
[[runs]]
name = "four"
optim = { lr = 0.01, momentum = 0.3 }
"""


@pytest.fixture
def battery(tmp_path: Path) -> Callable[..., Battery]:
    """Loads a battery of this text."""

    def make(text: str = BASE + RUNS, *overrides: str, only: Sequence[str] = ()) -> Battery:
        (tmp_path / "b.toml").write_text(text)
        return load_battery(tmp_path / "b.toml", overrides, only)

    return make


Make = Callable[..., Battery]


def test_the_seed_battery_is_the_originals() -> None:
    battery = load_battery(ROOT / "battery" / "seed.toml")
    runs = {entry.name: entry for entry in battery.entries}
    assert list(runs) == [f"T{number}" for number in range(1, 11)]
    # The table of DESIGN.md section 1: batch, rate, momentum, loss, epoch, accuracy, minutes, layers.
    rows = {
        "T1": (512, 0.005, 0.6, 0.38, 965, 86.65, 22.68, 23.48, [(5, 5, False, 0)]),
        "T2": (256, 0.01, 0.6, 0.38, 695, 86.65, 16.55, 23.85, [(5, 5, False, 0)]),
        "T3": (64, 0.01, 0.6, 0.38, 448, 86.65, 10.98, 24.45, [(5, 5, False, 0)]),
        "T4": (64, 0.04, 0.6, 0.35, 30, 87.95, 0.80, 25.72, [(5, 10, False, 0)]),
        "T5": (256, 0.01, 0.6, 0.07, 21, 98.45, 0.63, 28.22, [(5, 10, True, 0)]),
        "T6": (32, 0.003, 0.3, 0.04, 561, 99.25, 17.16, 30.60, [(5, 10, True, 0.5)]),
        "T7": (256, 0.01, 0.3, 0.06, 52, 98.75, 1.67, 29.68, [(3, 20, True, 0)]),
        "T8": (512, 0.005, 0.3, 0.24, 19, 95.3, 0.44, 21.55, [(3, 5, False, 0)]),
        "T9": (512, 0.005, 0.3, None, None, None, None, None, [(5, 10, False, 0), (11, 30, False, 0)]),
        "T10": (512, 0.01, 0.6, 0.05, 215, 98.86, 9.60, 70.21, [(5, 10, True, 0), (11, 30, True, 0)]),
    }
    for name, entry in runs.items():
        config, theirs = entry.config, entry.original
        layers = [(each.kernel, each.maps, each.batch_norm, each.dropout) for each in config.net.layers]
        figures = (None,) * 5
        if theirs is not None:
            figures = (theirs.min_loss, theirs.best_epoch, theirs.accuracy, theirs.to_best_min, theirs.total_min)
        assert (config.train.batch, config.optim.lr, config.optim.momentum, *figures, layers) == rows[name]
        assert (config.train.epochs, config.train.seed, config.data.size) == (1000, 0, 150)
        assert {each.pool for each in config.net.layers} == {2}
    assert config_hash(runs["T5"].config) == config_hash(load_run(ROOT / "battery" / "T5.toml"))


def test_the_shipped_batteries_load() -> None:
    sizes = [entry.config.data.size for entry in load_battery(ROOT / "battery" / "downscale.toml").entries]
    assert sizes == [150, 96, 64, 48, 32, 16]
    assert load_battery(ROOT / "battery" / "search.toml").search is not None


def _same(first: dict[str, Any], second: dict[str, Any]) -> None:
    for key in ("min_loss", "best_epoch", "val", "test", "epochs", "config_hash", "data_digest", "parameters"):
        assert first[key] == second[key]


def test_shared_runs_give_the_numbers_of_runs_alone(battery: Make, split: Path, tmp_path: Path) -> None:
    """Four runs, two of them on a step that another used before, on sets decoded once a size."""
    made = battery(BASE + RUNS, "train.epochs=2")
    told: list[BatteryProgress] = []
    ended: list[Outcome] = []
    outcomes = run_battery(made, split, tmp_path / "out", on_progress=told.append, on_outcome=ended.append)
    assert [each.entry.name for each in outcomes] == ["one", "two", "three", "four"]
    assert [each.entry.name for each in ended] == ["one", "two", "four", "three"]  # one size after the other
    assert (told[-1].ended, told[-1].total, told[-1].running) == (4, 4, {})
    assert told[-1].eta_s == 0
    for each in outcomes:
        assert each.result is not None
        alone = fit(each.entry.config, split, tmp_path / "alone" / each.entry.name)
        _same(each.result, alone)
        assert (each.folder / "best.safetensors").read_bytes() == (
            tmp_path / "alone" / each.entry.name / "best.safetensors"
        ).read_bytes()
        assert [bad["key"] for bad in each.result["bad_samples"]] == ["guitar-5"]
    # Again: nothing is run; an edited run is another run, and the others are still finished.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    again = run_battery(made, split, tmp_path / "out")
    assert all(each.before for each in again)
    assert [each.result for each in again] == [each.result for each in outcomes]
    edited = battery(BASE + RUNS.replace("0.05", "0.06"), "train.epochs=2")
    third = run_battery(edited, split, tmp_path / "out")
    assert [each.entry.name for each in third if not each.before] == ["two"]
    assert all(path.stat().st_mtime_ns == at for path, at in before.items() if "runs" in path.parts)


def test_a_part_is_decoded_once(battery: Make, split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer import session

    decoded: list[tuple[str, int]] = []
    real = session.decode_all

    def counted(source: Any, part: str, decoder: Any, *rest: Any, **named: Any) -> Any:
        decoded.append((part, decoder.size))
        return real(source, part, decoder, *rest, **named)

    monkeypatch.setattr(session, "decode_all", counted)
    run_battery(battery(BASE + RUNS, "train.epochs=1"), split, tmp_path / "out")
    assert sorted(decoded) == sorted((part, size) for part in ("train", "val", "test") for size in (24, 32))


def test_processes_share_one_decoded_set(battery: Make, split: Path, tmp_path: Path) -> None:
    """Two at a time; one of them dies by a signal in the middle: it costs its row, and the next call does it."""
    made = battery(BASE + RUNS, only=["one", "two", "four"])
    killed: list[int] = []

    def kill(progress: BatteryProgress) -> None:
        two = progress.running.get("two")
        if two is not None and two.epoch >= 1 and not killed:
            for child in multiprocessing.active_children():
                if child.name == "battery" and child.pid is not None:
                    killed.append(child.pid)
                    os.kill(child.pid, signal.SIGKILL)

    outcomes = run_battery(made, split, tmp_path / "out", jobs=2, on_progress=kill)
    assert killed
    failed = [each for each in outcomes if each.end.state == "failed"]
    assert failed
    assert all("signal 9" in each.end.reason for each in failed)
    assert len(outcomes) == 3
    again = run_battery(made, split, tmp_path / "out")
    assert {each.end.state for each in again} == {"done"}
    assert not (tmp_path / "out" / "decoded").exists()
    for each in again:
        assert each.result is not None
        assert [bad["key"] for bad in each.result["bad_samples"]] == ["guitar-5"]
        assert each.result["samples"] == {"train": 71, "val": 24, "test": 24}


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from trainer.battery import load_battery, run_battery

torch.set_num_threads(int(sys.argv[5]))
seen = set()

def tell(progress):
    for name, each in progress.running.items():
        if each.stage == "train":
            seen.add((name, each.epoch))
            if len(seen) == int(sys.argv[4]):
                os.kill(os.getpid(), signal.SIGKILL)

run_battery(load_battery(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), on_progress=tell)
"""

SEARCH = """
[search]
method = "METHOD"
trials = 5
seed = 3
prune = "median"
startup = 2
warmup = 1
[search.keys]
"optim.lr" = { low = 0.0001, high = 0.3, log = true }
"optim.momentum" = [0.0, 0.6]
"net.layers.0.maps" = { low = 2, high = 6 }
"""


def _summary(outcomes: Sequence[Outcome]) -> list[Any]:
    def of(each: Outcome) -> Any:
        values = each.entry.trial and each.entry.trial.values
        result = each.result and {key: each.result[key] for key in ("min_loss", "best_epoch", "test")}
        return each.entry.name, values, each.end, result

    return [of(each) for each in outcomes]


@pytest.mark.parametrize("method", ["random", "optuna"])
def test_a_search_that_is_killed_goes_on_as_if_it_was_not(
    battery: Make, split: Path, tmp_path: Path, method: str, warm_python: Warm
) -> None:
    """SIGKILL in the middle of a trial; then the same trials, the same of them stopped, the same numbers."""
    import torch

    made = battery(BASE + SEARCH.replace("METHOD", method))
    undisturbed = run_battery(made, split, tmp_path / "undisturbed")
    assert len(undisturbed) == 5
    stopped = [each for each in undisturbed if each.end.state == "stopped"]
    assert stopped, "the rates are so far apart that some trial lags behind"
    for each in stopped:
        assert each.result is None
        assert "validation loss" in each.end.reason
        assert not (each.folder / "test.jsonl").exists(), "what is stopped is not tested"
    epochs = sum(len((each.folder / "metrics.jsonl").read_text().splitlines()) for each in undisturbed)
    words = [KILLED, tmp_path / "b.toml", split, tmp_path / "killed", 2 * epochs // 3, torch.get_num_threads()]
    command = [str(warm_python), "-c", *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    found = run_battery(made, split, tmp_path / "killed")
    assert _summary(found) == _summary(undisturbed)
    assert any(each.before for each in found)
    assert _summary(run_battery(made, split, tmp_path / "killed")) == _summary(undisturbed)


def test_a_grid_takes_all_combinations(battery: Make, split: Path, tmp_path: Path) -> None:
    grid = '[search]\nmethod = "grid"\n[search.keys]\n"optim.lr" = [0.01, 0.02]\n"data.fit" = ["pad", "crop"]\n'
    outcomes = run_battery(battery(BASE + grid, "train.epochs=1"), split, tmp_path / "out")
    tried = [each.entry.trial.values for each in outcomes if each.entry.trial]
    assert tried == [{"optim.lr": lr, "data.fit": fit} for lr in (0.01, 0.02) for fit in ("pad", "crop")]
    assert [each.entry.config.data.fit for each in outcomes] == ["pad", "crop", "pad", "crop"]


def test_draws_stay_within_and_do_not_depend_on_each_other() -> None:
    search = Search.model_validate(
        {
            "method": "random",
            "trials": 200,
            "keys": {"a": {"low": 1e-4, "high": 1.0, "log": True}, "b": {"low": 2, "high": 5}, "c": ["x", "y"]},
        }
    )
    trials = open_trials(search, Path(), "unused")
    drawn: list[Trial] = []
    while (trial := trials.ask()) is not None:
        drawn.append(trial)
    assert len(drawn) == 200
    assert {trial.values["b"] for trial in drawn} == {2, 3, 4, 5}
    assert {trial.values["c"] for trial in drawn} == {"x", "y"}
    assert all(1e-4 <= trial.values["a"] <= 1 for trial in drawn)
    small = sum(trial.values["a"] < 1e-2 for trial in drawn)
    assert 60 < small < 140, "half of them lie in the lower half of the logarithms"


def test_a_bad_run_costs_itself(battery: Make, split: Path, tmp_path: Path) -> None:
    bad = """
[[runs]]
name = "good"
[[runs]]
name = "too-deep"
net.layers = [{ kernel = 23, maps = 2 }, { kernel = 5, maps = 2 }]
[[runs]]
name = "runs-away"
optim.lr = 1e30
net.layers = [{ kernel = 5, maps = 4 }]
[[runs]]
name = "good-too"
train.seed = 1
"""
    made = battery(BASE + bad, "train.epochs=2")
    outcomes = {each.entry.name: each for each in run_battery(made, split, tmp_path / "out")}
    assert [outcomes[name].end.state for name in outcomes] == ["done", "failed", "diverged", "done"]
    assert "layers.1" in outcomes["too-deep"].end.reason
    assert "lower optim.lr" in outcomes["runs-away"].end.reason
    again = {each.entry.name: each for each in run_battery(made, split, tmp_path / "out")}
    assert again["runs-away"].before, "it would run away again"
    assert again["runs-away"].end == outcomes["runs-away"].end
    assert not again["too-deep"].before


def test_two_batteries_do_not_share_a_folder(battery: Make, split: Path, tmp_path: Path) -> None:
    from fcntl import LOCK_EX, flock

    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / "battery.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        with pytest.raises(BatteryBusy, match="another `bassline battery`"):
            run_battery(battery(), split, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no runs: write"),
        ('[[runs]]\nname = "a"\noptim.rl = 1\n', "b.toml: a: optim.rl: unknown key"),
        ('[[runs]]\nname = "a"\n[[runs]]\nname = "a"\n', "'a' is there already"),
        ("[[runs]]\noptim.lr = 1\n", "runs.0: name: expected a name"),
        ('[[runs]]\nname = "../a"\n', "expected a name"),
        ('[[runs]]\nname = "a"\noriginal = { loss = 1 }\n', "did you mean 'min_loss'"),
        ('sort = "speed"\n[[runs]]\nname = "a"\n', "sort: input should be"),
        ('[search]\nmethod = "random"\ntrials = 1\nkeys = { "optim.lr" = { low = 1, high = inf } }\n', "with an end"),
        ('[search]\nmethod = "random"\ntrials = 1000000\nkeys = { "optim.lr" = [1] }\n', "at most 10,000"),
        ('against = "data.sise"\n[[runs]]\nname = "a"\n', "'data.sise' is no number"),
        ('against = "data"\n[[runs]]\nname = "a"\n', "'data' is no number"),
        ('[search]\nmethod = "grid"\nkeys = { "optim.rl" = [1] }\n', "optim.rl: unknown key"),
        ('[search]\nmethod = "grid"\nkeys = { "optim.lr" = { low = 1, high = 2 } }\n', "a grid wants a list"),
        ('[search]\nmethod = "random"\nkeys = { "optim.lr" = [1] }\n', "trials is missing"),
        (
            '[search]\nmethod = "random"\ntrials = 3\nkeys = { "optim.lr" = { low = 0, high = 2, log = true } }\n',
            "above 0",
        ),
    ],
)
def test_a_wrong_battery_is_answered_at_once(battery: Make, text: str, said: str) -> None:
    top = text.startswith(("sort", "against"))  # keys of no table come first
    body = BASE.replace('sort = "val_loss"\n', "") if text.startswith("sort") else BASE
    with pytest.raises(ConfigError) as caught:
        battery(text.replace("[[runs]]", body + "[[runs]]") if top else body + text)
    assert said in str(caught.value)


def test_only_some_runs(battery: Make) -> None:
    assert [entry.name for entry in battery(only=["three", "one"]).entries] == ["one", "three"]
    with pytest.raises(ConfigError, match="no run 'five'; there are one, two"):
        battery(only=["five"])


def test_kept_json_is_whole(battery: Make, split: Path, tmp_path: Path) -> None:
    made = battery(BASE + RUNS, "train.epochs=1", only=["one"])
    (outcome,) = run_battery(made, split, tmp_path / "out")
    assert json.loads((outcome.folder / "result.json").read_text()) == outcome.result
