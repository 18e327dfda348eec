"""`bench stalls` whole on a small real set: ceilings, predictions, their verification and the noise floor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bassline.bench_page import verified_told
from bench.plants import write_split
from bench.runs import Plan
from bench.stalls import PRELOAD, find_stalls
from bench.zygote import Zygote
from trainer.config import RunConfig, resolve


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stalls") / "split"
    write_split(root)
    return root


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote(PRELOAD) as mother:
        yield mother


def _config(size: int, **train: Any) -> RunConfig:
    return resolve({
        "name": "stalls",
        "data": {"size": size, "decoder": "simplejpeg", "threads": 2, "workers": "processes", "mode": "stream"},
        "net": {"layers": [{"kernel": 5, "maps": 2}]},
        "train": {"batch": 16, "epochs": 1, "device": "cpu", **train},
    })  # fmt: skip


@pytest.fixture(scope="module")
def verdict(zygote: Zygote, split: Path) -> dict[str, Any]:
    """Two processes decode, and the step is nearly nothing: a resident set brings much."""
    plan = Plan(
        _config(128), split, compute="sleep:200us", seconds=0.04, apart=False, tax=False, aa=True,
    )  # fmt: skip
    record = find_stalls(plan, verify=True, zygote=zygote).to_json()
    assert record["settings"]["decoded_in"] == "2 processes"
    return {**record["verdict"], "noise": record["noise"]}


@pytest.mark.timeout(120)
def test_decoding_in_processes_is_no_slower_alone_than_the_whole_supply(verdict: dict[str, Any]) -> None:
    roofs = {roof["name"]: roof for roof in verdict["roofline"]}
    assert "in 2 processes" in roofs["decode"]["about"]
    assert roofs["decode"]["rate"] > 0.75 * roofs["supply"]["rate"]  # one thread's would be half of it


def test_the_best_prediction_is_measured_and_its_gain_is_of_its_size(verdict: dict[str, Any]) -> None:
    assert verdict["name"] == "INPUT_BOUND"
    found = verdict["what_if"]
    assert [each["gain"] for each in found] == sorted((each["gain"] for each in found), reverse=True)
    assert all(each["gain_low"] <= each["gain"] <= each["gain_high"] for each in found)
    assert found[0]["settings"] == {"data.mode": "resident"}
    verified = verdict["verified"]
    assert verified["predicted"]["gain"] == found[0]["gain"]
    measured = verified["gain"]["median"]
    assert measured > 1.5
    assert measured / 3 < found[0]["gain"] < measured * 3
    assert verified["said"] in ("agrees", "too high", "too low")
    assert verified["inside"] == (verified["said"] == "agrees")
    assert f"measured {measured:.2f} x now" in verified_told(verdict)


def test_the_noise_floor_is_known_of_every_mode(verdict: dict[str, Any]) -> None:
    assert verdict["noise"].keys() == {"synthetic", "replayed", "warm", "drained", "shadow"}
    assert all(0 < share < 10 for share in verdict["noise"].values())


def test_nothing_is_predicted_from_too_little(zygote: Zygote, split: Path) -> None:
    plan = Plan(_config(128), split, compute="sleep:1ms", seconds=0.02, repeats=1, steps=4, apart=False, tax=False)
    found = find_stalls(plan, verify=True, zygote=zygote).verdict
    assert found is not None
    assert (found["name"], found["what_if"], found["verified"]) == ("INSUFFICIENT", [], None)
    assert "INSUFFICIENT" in verified_told(dict(found))
