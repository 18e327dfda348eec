"""The battery and the comparison from the command line, on real thumbnails."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from shards.sample import Sample
from shards.writer import write_set

from .conftest import Run
from .run_folders import make_run, make_split

LABELS = ("guitar", "violin")
TEXT = """
sort = "file"
against = "data.size"
[data]
size = 24
decoder = "simplejpeg"
threads = 1
[net]
layers = [{ kernel = 5, maps = 3, batch_norm = true }]
[train]
batch = 16
epochs = 2
[[runs]]
name = "A"
original = { min_loss = 0.5, accuracy = 86.65, total_min = 1.5 }
[[runs]]
name = "B.x"
data.size = 16
train.seed = 1
[[runs]]
name = "deep"
net.layers = [{ kernel = 23, maps = 2 }, { kernel = 5, maps = 2 }]
"""
TIMED = {"time_to_best_s", "total_s", "images_per_s"}


@pytest.fixture(scope="module")
def parts(instruments10: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parts")
    for number, part in enumerate(("train", "val", "test")):
        samples = [
            Sample(f"{name}-{file.stem}", file.read_bytes(), "jpg", label, {})
            for label, name in enumerate(LABELS)
            for file in sorted((instruments10 / name).iterdir())[number * 12 : number * 12 + 12]
            if file.read_bytes().startswith(b"\xff\xd8")
        ]
        write_set(root / part, samples, LABELS, source={"kind": "test"}, split=part).close()
    return root


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "battery.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in TIMED} for row in csv.DictReader(file)]


def test_the_same_battery_gives_the_same_table_twice(bassline: Run, parts: Path, tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text(TEXT)
    done = bassline("battery", "b.toml", "--data", parts, "--out", "one", "--json", check=1)
    assert "deep" in done.stderr
    assert "net: layers.1" in done.stderr
    assert "1 of 3 runs failed (deep)" in done.stderr
    bassline("battery", "b.toml", "--data", parts, "--out", "two", check=1)
    assert _rows(tmp_path / "one") == _rows(tmp_path / "two")
    told = json.loads(done.stdout.splitlines()[-1])
    assert [(run["name"], run["state"]) for run in told["runs"]] == [("A", "done"), ("B.x", "done"), ("deep", "failed")]
    first = _rows(tmp_path / "one")[0]
    assert float(first["test_accuracy"]) == told["runs"][0]["result"]["test"]["accuracy"]
    assert (first["original_accuracy"], first["original_min_loss"]) == ("0.8665", "0.5")
    text = (tmp_path / "one" / "battery.txt").read_text()
    assert len(text.splitlines()) == 2 + 3
    lines = (tmp_path / "one" / "battery.md").read_text().splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, "as many cells in every row"
    page = (tmp_path / "one" / "battery.html").read_text()
    assert page.count("<polyline") >= 2 * 4 + 3
    assert "95 % interval" in page
    assert not re.search(r"(src|href)=", page), "no outside asset"
    again = bassline("battery", "b.toml", "--data", parts, "--out", "one", "--only", "A,B.x")
    assert "2 were finished already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "C"], "no run 'C'; there are A, B.x, deep"),
        (["--jobs", "999"], "999 at a time on"),
        (["--set", "train.epoch=3"], "did you mean 'epochs'"),
    ],
)
def test_wrong_usage_is_answered_before_torch(
    bassline: Run, parts: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "b.toml").write_text(TEXT)
    done = bassline("battery", "b.toml", "--data", parts, "--out", "out", *arguments, check=2)
    assert said in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


def test_two_runs_are_compared(bassline: Run, tmp_path: Path, thumbnails: dict[str, list[Path]]) -> None:
    answers = make_split(tmp_path / "parts", thumbnails)
    make_run(tmp_path / "T5", "T5", sorted(thumbnails), answers)
    make_run(tmp_path / "T1", "T1", sorted(thumbnails), answers, always="guitar")
    done = bassline("report", "--compare", "T5", "T1", "--data", "parts", "--json")
    told = json.loads(done.stdout.splitlines()[-1])
    right = {}
    for name in ("T5", "T1"):
        lines = [json.loads(line) for line in (tmp_path / name / "test.jsonl").read_text().splitlines()]
        right[name] = {line["key"] for line in lines if line["label"] == line["predicted"]}
    assert set(told["only_first_right"]) == right["T5"] - right["T1"]
    assert set(told["only_second_right"]) == right["T1"] - right["T5"]
    assert (told["first"], told["second"]) == (len(right["T5"] - right["T1"]), len(right["T1"] - right["T5"]))
    assert told["p_value"] < 0.001
    assert told["ci95"][0] < told["difference"] < told["ci95"][1]
    page = (tmp_path / told["page"]).read_text()
    assert page.count("data:image/jpeg") == told["first"] + told["second"]
    assert "T5 is better" in bassline("report", "--compare", "T5", "T1").stdout
    make_run(tmp_path / "again" / "T5", "T5", sorted(thumbnails), answers)
    told = json.loads(bassline("report", "--compare", "T5", "again/T5", "--json").stdout)
    assert told["runs"] == [f"{tmp_path.name}/T5", "again/T5"]
    assert "are one run; give two" in bassline("report", "--compare", "T5", tmp_path / "T5", check=2).stderr


def test_runs_of_other_data_are_not_compared(bassline: Run, tmp_path: Path, thumbnails: dict[str, list[Path]]) -> None:
    answers = make_split(tmp_path / "parts", thumbnails)
    for name in ("A", "B"):
        make_run(tmp_path / name, name, sorted(thumbnails), answers)
    result = json.loads((tmp_path / "B" / "result.json").read_text())
    (tmp_path / "B" / "result.json").write_text(json.dumps({**result, "data_digest": "0" * 16}))
    done = bassline("report", "--compare", "A", "B", check=1)
    assert "tested on different data" in done.stderr
    assert "give run folders, or --compare" in bassline("report", check=2).stderr
