"""The whole road, small: what `make demo` does, and what a person who presses Ctrl-C in the middle of it gets."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bassline.demo import FRACTIONS, ORIGINAL_COUNTS, _Folder
from shards.errors import ConfigError
from shards.shard_set import ShardSet
from shards.split import open_split
from shards.verify import verify
from tests.forks import Warm

PRODUCTS = 160


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thumbnails are drawn once for this file."""
    return tmp_path_factory.mktemp("cache")


def _demo(python: Warm, folder: Path, cache: Path, *arguments: str) -> list[str]:
    environment = f"XDG_CACHE_HOME={cache}"
    return ["env", environment, str(python), "-m", "bassline", "demo", "--out", str(folder), *arguments]


@pytest.mark.timeout(240)
def test_the_road_is_whole_and_survives_an_interruption(tmp_path: Path, cache: Path, warm_python: Warm) -> None:
    out = tmp_path / "demo"
    command = _demo(warm_python, out, cache, "--products", str(PRODUCTS), "--json")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        deadline = time.monotonic() + 100
        while not (out / "set" / "crawl.sqlite").exists() and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        first.send_signal(signal.SIGINT)
        said = first.communicate()[1]
    assert first.returncode == 130, said
    assert "run the same command again to go on" in said
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert "going on with the interrupted demo" in second.stderr
    result = json.loads(second.stdout.splitlines()[-1])
    assert result == json.loads((out / "run" / "result.json").read_text())
    # The majority rate is the same for any guess: what the run says of itself must fit what is on disk.
    with ShardSet.open(out / "set") as made:
        assert len(made) >= PRODUCTS
        assert set(made.labels) == {"guitar", "bass"}
    assert verify(out / "set") == []
    parts = open_split(out / "split")
    assert sum(len(part) for part in parts.parts.values()) == len(made)
    assert sum(map(sum, result["test"]["confusion"])) == len(parts.parts["test"])
    assert result["samples"]["train"] == len(parts.parts["train"])
    spent = json.loads((out / "demo.json").read_text())
    assert spent["bassline_demo"]["finished"]
    assert list(spent["stages"]) == ["shop", "crawl", "split", "train", "bench", "report"]
    html = (out / "report.html").read_text()
    assert "Where each second went" in html
    assert json.loads((out / "bench.json").read_text())["verdict"]["name"]


@pytest.mark.timeout(240)
def test_the_road_over_photographs(
    tmp_path: Path, cache: Path, thumbnails: dict[str, list[Path]], warm_python: Warm
) -> None:
    photographs = tmp_path / "photographs"
    for label in ("banjo", "drum", "flute"):
        (photographs / label).mkdir(parents=True)
        for path in thumbnails[label]:
            shutil.copy(path, photographs / label)
    (photographs / "banjo" / "broken.jpg").write_bytes(thumbnails["banjo"][0].read_bytes()[:900])
    (photographs / "drum" / "notes.jpg").write_text("not an image")
    shutil.copy(thumbnails["flute"][0], photographs / "flute" / "again.jpg")
    out = tmp_path / "demo"
    done = subprocess.run(
        _demo(warm_python, out, cache, "--images", str(photographs)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    drops = [json.loads(line) for line in (out / "set" / "drops.jsonl").read_text().splitlines()]
    assert sorted(drop["reason"] for drop in drops) == ["broken", "duplicate", "not-an-image"]
    with ShardSet.open(out / "set") as made:
        assert made.counts == {"banjo": 8, "drum": 8, "flute": 8}
    assert "Where each second went" in done.stdout
    assert "report:" in done.stdout


def test_a_folder_that_is_no_demos_is_left_alone(tmp_path: Path, cache: Path, warm_python: Warm) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = subprocess.run(_demo(warm_python, tmp_path, cache), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "not a demo's folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("marker", ['{"name": "mine"}', "", "[]", '{"bassline_demo": {}, "settings": 1}'])
def test_a_marker_that_is_not_ours_deletes_nothing(tmp_path: Path, marker: str) -> None:
    (tmp_path / "demo.json").write_text(marker)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="name another folder"):
        _Folder(tmp_path, {"products": 1}).open()
    assert (tmp_path / "run" / "thesis.txt").read_text() == "mine"
    assert (tmp_path / "demo.json").read_text() == marker


def test_the_original_counts_are_those_of_the_original() -> None:
    assert [sum(parts) for parts in zip(*ORIGINAL_COUNTS.values(), strict=True)] == [4500, 1500, 2000]
    assert {label: sum(parts) for label, parts in ORIGINAL_COUNTS.items()} == {"guitar": 6924, "bass": 1076}
    assert sum(FRACTIONS) == 1
