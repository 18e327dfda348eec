"""`bench stalls` whole on a small real set: ceilings, predictions, their verification and the noise floor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bassline.bench_page import verified_told
from bench.decode_rate import decode_rates
from bench.own_run import OwnRun
from bench.runs import Plan
from bench.stalls import PRELOAD, find_stalls
from bench.zygote import Zygote
from trainer.config import RunConfig, resolve


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote(PRELOAD) as mother:
        yield mother


def _config(**data: Any) -> RunConfig:
    return resolve({
        "name": "stalls",
        "data": {"size": 128, "decoder": "simplejpeg", "mode": "stream", **data},
        "net": {"layers": [{"kernel": 5, "maps": 2}]},
        "train": {"batch": 4, "epochs": 1, "device": "cpu"},
    })  # fmt: skip


PROCESSES = _config(threads=2, workers="processes")


def test_the_ladder_decodes_where_the_run_does(planted_split: Path) -> None:
    with closing(OwnRun(PROCESSES, planted_split, compute="sleep:1ms")) as run:
        assert run.crew
        assert not run.crew.used
        assert run.ladder(0.02, 5)["decode"][0] > 0
        assert run.crew.used


def test_a_decoder_that_the_run_cannot_have_is_left_out(planted_split: Path) -> None:
    job = {
        "data": str(planted_split / "train"),
        "size": 128,
        "fit": "stretch",
        "batch": 16,
        "device": "cpu",
        "seconds": 0.01,
    }
    variants = [["simplejpeg", 2], ["dali", 2]]
    assert decode_rates({**job, "workers": "processes", "variants": variants})["rates"].keys() == {"simplejpeg/2"}


@pytest.fixture(scope="module")
def found(zygote: Zygote, planted_split: Path) -> dict[str, Any]:
    """A slow disk, which sleeps, before a step that sleeps: what else the machine does disturbs neither much."""
    plan = Plan(
        _config(threads=1), planted_split, compute="sleep:1ms", hook="bench.plants:slow_disk", seconds=0.03,
        apart=False, tax=False,
    )  # fmt: skip
    verdict = find_stalls(plan, verify=True, zygote=zygote).verdict
    assert verdict is not None
    return dict(verdict)


@pytest.mark.timeout(300)  # its fixture measures, for some seconds where nobody else does
def test_the_best_prediction_is_measured_and_its_gain_is_of_its_size(found: dict[str, Any]) -> None:
    assert found["name"] == "INPUT_BOUND"
    gains = [each["gain"] for each in found["what_if"]]
    assert gains == sorted(gains, reverse=True)
    assert all(each["gain_low"] <= each["gain"] <= each["gain_high"] for each in found["what_if"])
    best, verified = found["what_if"][0], found["verified"]
    assert best["settings"] == verified["settings"] == {"data.mode": "resident"}
    measured = verified["gain"]["median"]
    assert measured > 1.5
    assert measured / 2 < best["gain"] == verified["predicted"]["gain"] < measured * 2
    assert verified["said"] in ("agrees", "too high", "too low", "cannot tell")
    assert verified["inside"] == (verified["said"] == "agrees")
    assert f"measured {measured:.2f} x now" in verified_told(found)


@pytest.mark.timeout(300)
def test_too_little_has_ceilings_and_a_noise_floor_and_predicts_nothing(zygote: Zygote, planted_split: Path) -> None:
    plan = Plan(PROCESSES, planted_split, compute="sleep:1ms", seconds=0.05, repeats=2, apart=False, tax=False, aa=True)
    record = find_stalls(plan, verify=True, zygote=zygote)
    assert record.verdict is not None
    roofs = {roof["name"]: roof for roof in record.verdict["roofline"]}
    assert roofs["decode"]["about"] == "decoding alone, in 2 processes, as the run does"
    assert roofs["decode"]["rate"] > 0.6 * roofs["supply"]["rate"]  # as fast, but for what else the machine does
    assert record.noise.keys() == {"synthetic", "replayed", "warm", "drained", "shadow"}
    assert all(share > 0 for share in record.noise.values())
    assert (record.verdict["name"], record.verdict["what_if"], record.verdict["verified"]) == ("INSUFFICIENT", [], None)
    assert "INSUFFICIENT" in verified_told(dict(record.verdict))
