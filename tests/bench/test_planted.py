"""Planted bottlenecks are named, balanced pipelines are not accused, short runs say so: the truth of `bench stalls`.

The suite looks at four; `bassline bench planted` runs all of them twenty times and wants nineteen right.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bassline import bench_page
from bassline.__main__ import app
from bench import planted
from bench.plants import FOLDER, PLANTED, run_of
from bench.record import Record, read_record
from bench.runs import Plan, Runs, evidence_of, measure_runs
from bench.stalls import PRELOAD, record_of
from bench.verdict import COLD
from bench.zygote import Zygote
from trainer.config import resolve

TRIES = 2  # one run of twenty may err: a suite that runs one may ask again


@pytest.fixture(scope="module")
def zygote(planted_split: Path) -> Iterator[Zygote]:
    """One mother of measuring processes for all tests: torch is imported there once."""
    os.environ[FOLDER] = str(planted_split / "train")
    with Zygote((*PRELOAD, "bench.plants")) as mother:
        yield mother


@pytest.mark.timeout(120)
@pytest.mark.parametrize("what", ["disk", "copy", "processes"])
def test_a_planted_bottleneck_is_named(what: str, zygote: Zygote, planted_split: Path) -> None:
    told = []
    for _ in range(TRIES):
        told.append(planted.judged(PLANTED[what], zygote, planted_split, apart=False))
        if planted.is_right(PLANTED[what], told[-1].name, told[-1].binding):
            return
    pytest.fail("\n".join(each.sentence for each in told))


def test_too_short_a_run_is_insufficient(zygote: Zygote, planted_split: Path) -> None:
    found = planted.judged(PLANTED["short"], zygote, planted_split, apart=False)
    assert (found.name, found.binding) == ("INSUFFICIENT", "")
    assert "20 (--seconds)" in found.sentence


def test_a_tally_goes_on_where_it_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counting, not the measuring: `_one` is what the tests above run."""
    said: list[str] = []

    def one(name: str, zygote: Zygote, split: Path) -> dict[str, object]:
        said.append(name)
        wrong = name == "disk" and len(said) > 2
        return {"name": "X", "binding": "", "sentence": "X: said", "right": not wrong, "seconds": 1.0}

    class Nothing:
        def __init__(self, preload: object) -> None: ...
        def __enter__(self) -> Nothing:
            return self

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(planted, "_one", one)
    monkeypatch.setattr(planted, "Zygote", Nothing)
    monkeypatch.setattr(planted, "write_split", lambda root: None)
    monkeypatch.delenv(FOLDER, raising=False)
    out = tmp_path / "tally.json"
    first = planted.count_planted(1, ["disk", "copy"], out)
    assert said == ["disk", "copy"]
    assert first.verdict is not None
    assert first.verdict["name"] == "INSUFFICIENT"
    done = CliRunner().invoke(
        app, ["bench", "planted", "--runs", "20", "--only", "disk", "--only", "copy", "--out", str(out), "--json"]
    )
    assert done.exit_code == 1  # 1 of 20
    assert len(said) == 40
    found = json.loads(done.stdout.splitlines()[-1])["verdict"]
    assert (found["name"], found["tally"]["disk"]["right"], found["tally"]["copy"]["right"]) == ("MISSED", 1, 20)
    assert read_record(out).verdict == found


@pytest.fixture(scope="module")
def looked_at(zygote: Zygote, planted_split: Path) -> Record:
    """A balanced pipeline, looked at three times for haste, with everything in the record."""
    plan = Plan(
        resolve(run_of(PLANTED["balanced"])), planted_split, hook="bench.plants:balanced", compute="sleep:20ms",
        repeats=1, most=3, seconds=0.02, steps=4, apart=False,
    )  # fmt: skip
    asked: list[int] = []

    def is_open(runs: Runs) -> bool:
        asked.append(len(runs.windows["warm"]))
        return True

    runs = measure_runs(zygote, plan, is_open=is_open)
    assert asked == [1, 2]  # few looks: after one repeat, after two, and no more at the most
    assert len(runs.windows["warm"]) == len(runs.windows["bare"]) == 3
    return record_of(plan, runs, evidence_of(runs), [], None)


def test_the_tax_is_below_two_percent(looked_at: Record) -> None:
    assert looked_at.verdict is not None
    assert 0 <= looked_at.verdict["tax"]["median"] < 0.02


def test_the_page_has_the_decomposition_the_ceilings_and_the_steps(looked_at: Record, tmp_path: Path) -> None:
    bench_page.write_page(looked_at.to_json(), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    for part in ("preparation", "contention", "model", "decode", "<svg", "warm: waiting", "own tax", "INSUFFICIENT"):
        assert part in page


def test_cold_epochs_are_cold_and_end_before_the_second(zygote: Zygote, planted_split: Path) -> None:
    tars = sorted((planted_split / "train").glob("*.tar"))
    probed = zygote.run("bench.probe:disk_rate", {"paths": [str(tar) for tar in tars], "seconds": 1})
    if probed["share"] < COLD:
        pytest.skip("here the page cache cannot be emptied")
    plan = Plan(resolve(run_of(PLANTED["disk"])), planted_split, compute="sleep:1ms", seconds=5)
    cold = zygote.run("bench.window:measure", plan.job(["cold"]))
    assert cold["cold"]["images"] == 512
    assert cold["cold"]["read_bytes"] >= COLD * 512 * cold["about"]["tar_bytes"]


def test_cold_is_cold_where_processes_have_decoded_before(zygote: Zygote, planted_split: Path) -> None:
    tars = sorted((planted_split / "train").glob("*.tar"))
    probed = zygote.run("bench.probe:disk_rate", {"paths": [str(tar) for tar in tars], "seconds": 1})
    if probed["share"] < COLD:
        pytest.skip("here the page cache cannot be emptied")
    config = resolve(run_of(PLANTED["disk"]), ["data.threads=2", "data.workers=processes"])
    plan = Plan(config, planted_split, compute="sleep:1ms", seconds=1)
    told = zygote.run("bench.window:measure", plan.job(["drained", "cold"]))  # in one process, unlike `bench stalls`
    assert told["cold"]["read_bytes"] >= COLD * told["cold"]["images"] * told["about"]["tar_bytes"]


def test_a_hook_is_called_though_processes_were_asked_for(zygote: Zygote, planted_split: Path) -> None:
    config = resolve(run_of(PLANTED["disk"]), ["data.threads=2", "data.workers=processes"])
    plan = Plan(config, planted_split, compute="sleep:1ms", hook="bench.plants:slow_disk", seconds=0.3)
    told = zygote.run("bench.window:measure", plan.job(["drained"]))["drained"]
    encoded = sum(tar.stat().st_size for tar in (planted_split / "train").glob("*.tar")) / 512
    assert told["images"] / told["seconds"] < 5e6 / encoded * 2, "its disk gives 5 MB/s"
