"""Run files: inheritance, overrides, errors that name the key, and a resolved file that says the same again."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import ConfigError
from trainer.config import RunConfig, config_hash, load_run, resolve, to_toml

BATTERY = Path(__file__).resolve().parents[2] / "battery"
NET = {"net": {"layers": [{"kernel": 5, "maps": 10}]}}


def test_t5_is_the_original() -> None:
    run = load_run(BATTERY / "T5.toml")
    layer = run.net.layers[0]
    assert (run.name, run.data.size, run.train.batch, run.train.epochs, run.train.seed) == ("T5", 150, 256, 1000, 0)
    assert (run.optim.kind, run.optim.lr, run.optim.momentum, run.optim.schedule) == ("sgd", 0.01, 0.6, "constant")
    assert (len(run.net.layers), layer.kernel, layer.maps, layer.batch_norm, layer.dropout) == (1, 5, 10, True, 0.0)


def test_demo_stands_on_t5() -> None:
    demo, t5 = load_run(BATTERY / "demo.toml"), load_run(BATTERY / "T5.toml")
    assert (demo.name, demo.data.size, demo.train.epochs, demo.net) == ("demo", 64, 10, t5.net)


def test_overrides_reach_every_depth() -> None:
    overrides = ["train.lr=0.02", "net.layers.0.maps=20", "data.decoder=pillow", 'select.metric="val_accuracy"']
    run = load_run(BATTERY / "T5.toml", overrides)
    assert run.optim.lr == 0.02
    assert run.net.layers[0].maps == 20
    assert (run.data.decoder, run.select.metric) == ("pillow", "val_accuracy")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("train.bacth=2", "did you mean 'batch'"),
        ("train.batch=big", "train.batch"),
        ("optim.lr=-1", "greater than 0"),
        ("optim.lr=0..1", "not a TOML value"),
        ("optim.lr", "key=value"),
        ("=3", "key=value"),
        ("net.layers.4.maps=3", "list of 1"),
        ("name.x=3", "not a table"),
        ("data=3", "data"),
        ("optim.lr=1\ntrain.batch=2", "not a TOML value"),
    ],
)
def test_a_wrong_override_says_what_is_wrong(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=r"--set") as caught:
        load_run(BATTERY / "T5.toml", [override])
    assert told in str(caught.value)


def test_a_circle_of_bases_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('base = "b.toml"')
    (tmp_path / "b.toml").write_text('base = "a.toml"')
    with pytest.raises(ConfigError, match=r"a\.toml -> b\.toml -> a\.toml"):
        load_run(tmp_path / "a.toml")


def test_a_missing_base_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('base = "none.toml"')
    with pytest.raises(ConfigError, match=r"none\.toml: no such file"):
        load_run(tmp_path / "a.toml")


runs = st.builds(
    lambda name, size, maps, lr, batch, schedule, flip: resolve(
        {
            "name": name,
            "data": {"size": size},
            "net": {"layers": [{"kernel": 3, "maps": m} for m in maps]},
            "optim": {"lr": lr, "schedule": schedule},
            "train": {"batch": batch},
            "augment": {"flip": flip},
        }
    ),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(1, 4096),
    st.lists(st.integers(1, 512), min_size=1, max_size=4),
    st.floats(1e-300, 1e300, exclude_min=True),
    st.integers(1, 100_000),
    st.sampled_from(["constant", "cosine", "onecycle", "triangular"]),
    st.booleans(),
)


@given(runs)
def test_the_resolved_file_says_the_same_again(run: RunConfig) -> None:
    again = resolve(tomllib.loads(to_toml(run)))
    assert again == run
    assert config_hash(again) == config_hash(run)


@given(st.floats(1e-9, 1e9), st.integers(1, 10**6))
def test_an_override_equals_the_file(lr: float, batch: int) -> None:
    by_set = resolve(NET, [f"optim.lr={lr}", f"train.batch={batch}"])
    assert by_set == resolve({**NET, "optim": {"lr": lr}, "train": {"batch": batch}})


@given(st.text(max_size=30))
def test_any_override_is_taken_or_refused_by_name(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert resolve(NET, [text]).net.layers[0].kernel == 5


def test_the_hash_follows_what_matters() -> None:
    run = resolve({**NET, "name": "one"})
    assert config_hash(run) == config_hash(resolve({**NET, "name": "two"}))
    assert config_hash(run) != config_hash(resolve(NET, ["train.seed=1"]))


def test_reading_a_run_file_imports_no_torch() -> None:
    code = "import sys, trainer.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
