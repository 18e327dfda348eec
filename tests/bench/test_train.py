"""`bench train` on a small real split: our run and the plain loop do the same work; the record says what it took."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bassline.__main__ import app
from bench.common_loss import Common, common_loss
from bench.stats import summarise
from bench.train import TARGETS, gaps_of, judge, measure_training, trace_steps
from shards.errors import ConfigError
from shards.sample import Sample
from shards.shard_set import finish
from shards.writer import ShardWriter
from tests.forks import Warm
from trainer.config import RunConfig, resolve


@pytest.fixture(scope="module")
def parts(thumbnails: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parts")
    for part, chosen in (("train", slice(0, 5)), ("val", slice(5, 7)), ("test", slice(7, 8))):
        (root / part).mkdir()
        writer = ShardWriter(root / part)
        for label, (name, files) in enumerate(thumbnails.items()):
            for number, file in enumerate(files[chosen]):
                writer.add(Sample(f"{name}-{part}-{number}", file.read_bytes(), "jpg", label, {}))
        writer.seal()
        writer.close()
        finish(root / part, list(thumbnails), source={"test": "bench"}, split=part)
    return root


def run(*overrides: str) -> RunConfig:
    data = {
        "name": "small",
        "data": {"size": 24, "decoder": "simplejpeg"},
        "net": {"layers": [{"kernel": 5, "maps": 4, "batch_norm": True}]},
        "optim": {"lr": 0.01, "momentum": 0.6},
        "train": {"batch": 16, "epochs": 2, "device": "cpu"},
    }
    return resolve(data, overrides)


def test_ours_and_the_plain_loop_do_the_same_work(
    parts: Path, warm_python: Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(warm_python))  # what is measured here is not looked at
    # A batch holds the whole part, so the order of samples is none of the differences.
    config = run("train.batch=64", "train.epochs=4", "optim.lr=0.003")
    record = measure_training(config, parts, repeats=2, workers=1, seconds=0.05).to_json()
    json.dumps(record, allow_nan=False)
    ours, plain = (record["measurements"][f"epochs {name}"] for name in ("ours", "plain"))
    assert ours["median"] > 0
    assert plain["median"] > 0
    assert record["settings"]["seeds"] == [0, 1]
    bests = {name: record["measurements"][f"to best {name}"] for name in ("ours", "plain")}
    assert bests["ours"]["best_val_losses"] == pytest.approx(bests["plain"]["best_val_losses"], rel=1e-3)
    assert bests["ours"]["best_val_losses"][0] != pytest.approx(bests["ours"]["best_val_losses"][1], rel=1e-3)
    assert bests["ours"]["best_epochs"] == bests["plain"]["best_epochs"]
    common = [record["measurements"][f"to common loss {name}"] for name in ("ours", "plain")]
    assert common[0]["losses"] == common[1]["losses"]
    assert len(record["ratios"]["best loss ours-plain"]["values"]) == 2
    assert {"start", "import", "train", "validate"} <= set(record["measurements"]["to best plain"]["parts_s"])
    assert {"start", "import", "decode", "compile", "train", "validate"} <= set(
        record["measurements"]["to best ours"]["parts_s"]
    )
    steps = record["measurements"]["step"]["percentiles"]
    assert 0 < steps["50"] <= steps["90"] <= steps["99"]
    assert {"epochs ours/plain", "to common loss plain/ours"} <= set(record["ratios"])
    verdict = record["verdict"]
    assert set(verdict["targets"]) == set(TARGETS)
    assert (verdict["name"], "2 repeats" in verdict["sentence"]) == ("INSUFFICIENT", True)


def curves(seconds: float, *bests: float) -> list[list[dict[str, float]]]:
    return [
        [{"epoch": n, "val_loss": loss, "ended_s": n * seconds} for n, loss in ((1, 0.9), (2, best))] for best in bests
    ]


ALIKE = common_loss(curves(1, *[0.4, 0.5] * 3), curves(4, *[0.5, 0.4] * 3))
WORSE = common_loss(curves(1, *[0.5, 0.51] * 3), curves(4, *[0.2, 0.21] * 3))


@pytest.mark.parametrize(
    ("rates", "common", "name", "told"),
    [
        ([4.0, 4.1, 4.2], ALIKE, "MET", "not apart beyond noise"),
        ([4.0, 4.1, 4.2], WORSE, "MET", "our best, the worse of both: the plain loop goes on to 0.2"),
        ([2.8, 3.1, 3.4], ALIKE, "NOT PROVEN", "not proven: epochs ours/plain"),  # the middle is beyond 3
        ([1.0, 1.1, 1.2], ALIKE, "MISSED", "missed: epochs ours/plain"),
    ],
)
def test_a_verdict_goes_by_intervals_and_says_whose_model_is_worse(
    rates: list[float], common: Common, name: str, told: str
) -> None:
    ratios = {
        "epochs ours/plain": summarise(rates),
        "to common loss plain/ours": common.sooner,
        "epochs/step": summarise([0.95, 0.96, 0.97]),
    }
    found = judge(ratios, 6, common, size=64)
    assert found["name"] == name
    assert told in found["sentence"]
    assert judge(ratios, 4, common, size=64)["name"] == "INSUFFICIENT"


def test_what_the_plain_loop_does_not_have_is_refused(parts: Path) -> None:
    for override in (
        "augment.flip=true", "optim.schedule=cosine", "optim.clip=1.0", "net.head.dropout=0.5",
        "train.sampling=balanced", "select.patience=3", "average.kind=ema", "test.flip=true",
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="--peer none"):
            measure_training(run(override), parts)
    with pytest.raises(ConfigError, match="at least 2"):
        measure_training(run("train.epochs=1"), parts)


def test_a_trace_opens_in_chrome_and_names_gaps(parts: Path, tmp_path: Path) -> None:
    gaps = trace_steps(run(), parts, tmp_path / "trace.json", seconds=0.05)
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {"next batch", "step"} <= {event.get("name") for event in events}
    assert 1 <= len(gaps) <= 5
    assert all(gap["us"] > 0 and gap["after"] and gap["before"] for gap in gaps)


def test_gaps_are_those_of_the_busiest_lane_or_of_the_gpu() -> None:
    def event(name: str, cat: str, ts: float, dur: float, tid: int = 1) -> dict[str, object]:
        return {"ph": "X", "name": name, "cat": cat, "ts": ts, "dur": dur, "pid": 1, "tid": tid}

    host = [event("a", "cpu_op", 0, 10), event("inner", "cpu_op", 2, 3), event("b", "cpu_op", 40, 5)]
    host += [event("c", "cpu_op", 46, 5), event("beside", "cpu_op", 0, 1, tid=2)]
    host += [event("next batch", "user_annotation", 12, 26), event("step", "user_annotation", 39, 6)]
    assert gaps_of(host) == [
        {"us": 30, "at_us": 10, "during": "next batch", "after": "a", "before": "b"},
        {"us": 1, "at_us": 45, "during": "", "after": "b", "before": "c"},
    ]
    kernels = [event("k", "kernel", 5, 1), event("m", "gpu_memcpy", 9, 1)]
    assert [gap["us"] for gap in gaps_of(host + kernels)] == [3]
    assert gaps_of([]) == []


def test_a_trace_is_no_measurement(parts: Path, tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "battery" / "demo.toml"
    both = ["--trace", str(tmp_path / "a.json"), "--out", str(tmp_path / "b.json")]
    done = CliRunner().invoke(app, ["bench", "train", str(path), "--data", str(parts), *both])
    assert done.exit_code == 2
    assert "--trace: measures nothing" in done.stderr
    assert list(tmp_path.iterdir()) == []
