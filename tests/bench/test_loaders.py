"""Loaders in turns over a few pictures: what the record says, what is refused, and that nobody wins by cheating."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import loaders, worker
from bench.contenders import CONTENDERS, Job
from bench.errors import BenchError
from bench.loader_peers import PINS, loader_peers
from bench.loader_targets import judge
from bench.loaders import Loaders, compare_loaders
from bench.record import Record
from bench.zygote import MeasurementFailed
from shards.errors import ConfigError


@pytest.fixture(scope="module")
def record(split: Path) -> Record:
    told: list[str] = []
    plan = Loaders(names=("stream-simplejpeg", "resident", "tensor"), size=64, batch=32, epochs=2, seconds=0, repeats=2)
    found = compare_loaders(split / "train", plan, lambda done, total, name: told.append(name))
    assert next(name for name in told if name.startswith("round 2")) == "round 2: tensor, cold"  # forth and back
    return found


def test_a_record_has_what_was_asked_of_each(record: Record) -> None:
    assert list(record.measurements) == ["resident", "stream-simplejpeg", "tensor"]
    for found in record.measurements.values():
        assert len(found["values"]) == record.settings["repeats"] == 2
        assert min(found["first_batch_s"], found["peak_mib"]) > 0
        assert found["cpu_s_per_1000"] >= 0  # 64 images are less than one of the clock's ticks
        assert found["first_epoch"]["median"] > 0
        assert found["cold_epoch"]["cache"] in ("cold", "cache_unverified")
        assert found["pixels"]["levels"] < 0.1
        assert found["pixels"]["labels"] == 1
        assert found["same_pixels"]
    assert record.measurements["tensor"]["converted_bytes"] > 96 * 64 * 64 * 3
    assert record.settings["samples"] == 96
    assert record.settings["tars"] == 8
    assert record.settings["left_out"] == {}
    assert record.ratios["resident/resident"]["values"] == [1.0, 1.0]
    wanted = {target["name"] for target in record.verdict["targets"]} if record.verdict else set()
    assert {"resident / tensor", "stream-simplejpeg: first batch", "stream-simplejpeg: extra memory"} <= wanted


SLOWER = [9_000.0, 9_010, 8_990]
RATES = {"stream-simplejpeg": [13_000.0, 13_100, 12_900], "imagefolder-float32": [1_800.0, 1_810, 1_790]}


@pytest.mark.parametrize(
    ("rates", "name", "verdict"),
    [
        ({}, "stream-simplejpeg / imagefolder-float32", "reached"),
        ({"imagefolder-float32": [3_000.0, 3_010, 2_990]}, "stream-simplejpeg / imagefolder-float32", "missed"),
        ({"imagefolder-float32": [1_500.0, 2_200, 3_000]}, "stream-simplejpeg / imagefolder-float32", "not proven"),
        ({}, "stream-simplejpeg", "reached"),
        ({"stream-simplejpeg": SLOWER}, "stream-simplejpeg", "missed"),
        # 1.2 times DALI's own will do instead
        (
            {"stream-simplejpeg": SLOWER, "dali": [7_000.0, 7_010, 6_990]},
            "stream-simplejpeg",
            "reached",
        ),
        (
            {"stream-simplejpeg": SLOWER, "dali": [8_000.0, 8_010, 7_990]},
            "stream-simplejpeg",
            "missed",
        ),
        (
            {"stream-simplejpeg": [13_000.0], "imagefolder-float32": [1_000.0]},
            "stream-simplejpeg / imagefolder-float32",
            "not proven",
        ),
    ],
)
def test_a_target_is_reached_where_the_whole_interval_is(rates: dict[str, Any], name: str, verdict: str) -> None:
    targets = {target["name"]: target for target in judge({**RATES, **rates}, [], [])["targets"]}
    assert targets[name]["verdict"] == verdict


def test_times_and_memory_have_upper_bounds() -> None:
    found = judge(RATES, [0.2, 0.21, 0.22], [300.0, 301, 302])
    verdicts = {target["name"]: target["verdict"] for target in found["targets"]}
    assert verdicts["stream-simplejpeg: first batch"] == "reached"
    assert verdicts["stream-simplejpeg: extra memory"] == "missed"
    assert "3 of 4 targets reached" in found["sentence"]


def test_a_target_beyond_decoding_alone_is_said_to_be() -> None:
    rates = {**RATES, "imagefolder-float32": [3_000.0, 3_010, 2_990], "decode": [15_000.0, 15_100, 14_900]}
    found = judge(rates, [], [])
    target = next(one for one in found["targets"] if one["name"] == "stream-simplejpeg / imagefolder-float32")
    assert target["ceiling"] == pytest.approx(5, abs=0.05)
    assert "stream-simplejpeg / imagefolder-float32 (missed: decoding alone would be 5.0" in found["sentence"]
    assert "decoding alone" not in judge(rates | {"decode": [30_000.0, 30_100, 29_900]}, [], [])["sentence"]


def test_normalised_batches_are_the_same_pictures(split: Path) -> None:
    plan = Loaders(
        names=("stream-float32", "imagefolder-float32"), size=64, batch=32, epochs=2, seconds=0, repeats=1, cold=False
    )
    for found in compare_loaders(split / "train", plan).measurements.values():
        assert found["dtype"] == "float32"
        assert found["pixels"]["levels"] < 0.1
        assert found["pixels"]["labels"] == 1


def test_a_target_of_unlike_work_has_the_like_ones_beside_it() -> None:
    rates = {**RATES, "imagefolder": [3_250.0, 3_275, 3_225], "stream-float32": [9_000.0, 9_050, 8_950]}
    found = judge(rates, [], [])
    target = next(one for one in found["targets"] if one["name"].endswith("imagefolder-float32"))
    assert {pair: round(ratio, 1) for pair, ratio in target["alike"].items()} == {
        "stream-simplejpeg / imagefolder": 4.0,
        "stream-float32 / imagefolder-float32": 5.0,
    }
    assert found["sentence"].endswith(
        "; stream-simplejpeg / imagefolder-float32 is as each is used; the same work: 4.0 as uint8, 5.0 as float32"
    )
    assert judge(RATES, [], [])["sentence"].endswith("the same work: not measured")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Any, Any]:
    """Forty pictures as the reference decode, and a job that finds it."""
    root = tmp_path_factory.mktemp("reference")
    (root / "npy").mkdir()
    images = np.random.default_rng(0).integers(0, 250, (40, 4, 4, 3), np.uint8).repeat(5, 1).repeat(5, 2)
    labels = np.arange(40) % 2
    np.save(root / "npy" / "images.npy", images)
    np.save(root / "npy" / "labels.npy", labels)
    worker.write_features(str(root / "npy"))
    return Job("", str(root), 20, 8, 1), images, labels


def test_pictures_are_found_in_any_order_under_any_names(reference: tuple[Job, Any, Any]) -> None:
    job, images, labels = reference
    order = np.random.default_rng(1).permutation(40)
    found = worker._checked(iter([(images[order] + np.uint8(2), 7 - labels[order])]), job)
    assert found == {"levels": 2.0, "near": 1.0, "labels": 1.0, "names": 2}


def test_worse_pixels_and_other_labels_are_seen(reference: tuple[Job, Any, Any]) -> None:
    job, images, labels = reference
    coarse = images // 16 * 16
    assert worker._checked(iter([(coarse, labels)]), job)["levels"] > 5
    assert worker._checked(iter([(images, labels[::-1] * 0 + (np.arange(40) < 20))]), job)["labels"] < 0.7


class _Loses:
    """Answers as a process whose loader left out a sample would."""

    dtype = "uint8"

    def run(self, target: str, job: dict[str, Any], *, limit_s: float) -> dict[str, Any]:
        return {"images": [96, 95], "dtype": self.dtype, "read_bytes": 0, "seconds": [1, 1], "checked": None}


def test_a_loader_that_loses_samples_is_no_contender() -> None:
    with pytest.raises(BenchError, match=r"gave \[96, 95\] images an epoch of 96"):
        loaders._run(_Loses(), "tensor", loaders._Data((), 1), {}, 96, cold=False)  # type: ignore[arg-type]


def test_a_loader_of_another_dtype_is_no_contender() -> None:
    with pytest.raises(BenchError, match="imagefolder-float32 gives uint8"):
        loaders._run(_Loses(), "imagefolder-float32", loaders._Data((), 1), {}, 96, cold=False)  # type: ignore[arg-type]


def test_a_peer_that_fails_takes_nothing_from_the_others() -> None:
    job, homes, left_out = Job("", "", 64, 8, 1), dict[str, Path | None](mds=None, tensor=None), dict[str, str]()

    class Fails:
        def run(self, target: str, job: dict[str, Any], *, limit_s: float) -> dict[str, Any]:
            if job["format"] == "mds":
                raise MeasurementFailed("mds", "no room")
            return {"needed": 1}

    zygote: Any = Fails()
    formats = loaders._converted(
        Loaders(), homes, left_out, job, zygote, {None: zygote}, lambda done, total, name: None
    )
    assert (list(homes), list(formats)) == (["tensor"], ["npy"])
    assert "no room" in left_out["mds"]
    with pytest.raises(MeasurementFailed):
        loaders._converted(Loaders(names=("mds",)), {"mds": None}, {}, job, zygote, {None: zygote}, lambda *_: None)


def test_what_cannot_be_measured_is_said(split: Path) -> None:
    with pytest.raises(ConfigError, match="unknown contender"):
        Loaders(names=("warp",))
    with pytest.raises(ConfigError, match="at least 2 and 1"):
        Loaders(epochs=1)
    with pytest.raises(ConfigError, match=r"--batch: 1000000: 4,000,000 pictures of 150 pixels are 270 GB, and"):
        compare_loaders(split / "train", Loaders(batch=1_000_000))
    with pytest.raises(
        ConfigError, match=r"--size: 100000: \d+ pictures of 100000 pixels are [\d,]+ GB, and \d+ GB are"
    ):
        compare_loaders(split / "train", Loaders(size=100_000, batch=8))
    with pytest.raises(ConfigError, match="pictures that are all 32x32"):
        compare_loaders(split / "train", Loaders(names=("ffcv",), size=32))
    if "litdata" not in loader_peers(Path(sys.executable)):
        with pytest.raises(ConfigError, match="--peers install"):
            compare_loaders(split / "train", Loaders(names=("litdata",), size=64))


def test_peers_are_pinned_and_known() -> None:
    assert all("==" in pin for pin in PINS)
    assert loader_peers(Path("/nowhere/python")) == {}
    assert "webdataset" in loader_peers(Path(sys.executable))
    assert {kind for contender in CONTENDERS.values() for kind in contender.formats} == {
        "tars", *loaders.FORMATS
    }  # fmt: skip
    assert asdict(Job("a", "b", 1, 1, 1))["seed"] == 0
