"""The decomposition, the rules and the what-ifs on made-up numbers: all of it is pure."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.model import Change, Evidence, agreement, decompose, predict, resupplied, roofline
from bench.record import read_record
from bench.stats import summarise
from bench.verdict import RULES, judge


def _near(value: float, share: float = 0.005) -> list[float]:
    return [value * (1 + share * step) for step in (-2, -1, 0, 1, 2)]


def _evidence(step: float, wait: float, *, copy: float = 0.0, beside: float = 0.0, rest: float = 0.0) -> Evidence:
    """Seconds an image; `wait` has the copy in it."""
    return Evidence(
        seconds={
            "synthetic": _near(step), "replayed": _near(step + copy), "shadow": _near(step + beside),
            "warm": _near(step + beside + wait + rest), "drained": _near(max(wait - copy, step / 2)),
        },
        waits=_near(wait), cpu={"synthetic": step, "drained": step / 4}, steps=50, cores=2,
        ladder={"untar": 1e-6, "read": 1e-5, "decode": 1e-3, "collate": 1e-6, "copy": copy + 1e-6},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("evidence", "name", "binding"),
    [
        (_evidence(1e-3, 1e-3), "INPUT_BOUND", "decode"),
        (_evidence(1e-3, 1e-3, copy=0.9e-3), "INPUT_BOUND", "copy"),
        (_evidence(1e-3, 1e-4), "INPUT_LIMITED", "decode"),
        (_evidence(1e-3, 1e-5), "COMPUTE_BOUND", "step"),
        (_evidence(1e-3, 1e-5, beside=2e-4), "CONTENDED", "cores"),
        (replace(_evidence(1e-3, 1e-5, beside=2e-4), cpu={"drained": 2e-5}), "COMPUTE_BOUND", "step"),  # others' doing
        (_evidence(1e-3, 1e-5, rest=3e-4), "UNEXPLAINED", ""),
        (replace(_evidence(1e-3, 1e-3), foreign=True, alone=0.8e-3), "INPUT_BOUND", "decode"),
        (replace(_evidence(1e-3, 1e-3), foreign=True, alone=0.2e-3, restarts=True), "INPUT_BOUND", "restarts"),
        (replace(_evidence(1e-3, 1e-3), foreign=True, alone=0.2e-3), "INPUT_BOUND", "handing"),
        (replace(_evidence(1e-3, 1e-3), workers=(1, 2), shards=1), "INPUT_BOUND", "shards"),
        (replace(_evidence(1e-3, 1e-3), workers=(1, 4), shards=None), "INPUT_BOUND", "workers"),
        (replace(_evidence(1e-3, 1e-3), steps=19), "INSUFFICIENT", ""),
        (replace(_evidence(1e-3, 1e-3), warm_read=0.5), "INSUFFICIENT", ""),
        (replace(_evidence(1e-3, 1e-3), seconds={}), "INSUFFICIENT", ""),
        (replace(_evidence(1e-3, 1e-3), resident=True), "INPUT_BOUND", "gather"),
        (replace(_evidence(1e-3, 1e-3), ladder={}), "INPUT_BOUND", "loader"),
    ],
)
def test_the_first_rule_that_holds_names_it(evidence: Evidence, name: str, binding: str) -> None:
    found = judge(evidence)
    assert (found.name, found.binding) == (name, binding)
    assert found.sentence.startswith(f"{name}: ")


def test_an_interval_over_a_line_is_undecided_and_says_how_many_repeats_it_needs() -> None:
    wide = replace(_evidence(1e-3, 2.5e-4), waits=[1e-4, 2e-4, 2.6e-4, 3e-4, 4.5e-4])
    found = judge(wide)
    assert found.name == "UNDECIDED"
    assert "repeats would tell" in found.sentence


def test_four_repeats_are_too_few() -> None:
    whole = _evidence(1e-3, 1e-3)
    few = replace(whole, seconds={mode: values[:4] for mode, values in whole.seconds.items()}, waits=whole.waits[:4])
    assert judge(few).name == "INSUFFICIENT"
    assert "4 repeats" in judge(few).sentence


positive = st.floats(1e-6, 1e-1)


@given(positive, positive, st.floats(0, 1), st.floats(0, 0.5))
def test_the_parts_add_up_to_the_epoch(step: float, wait: float, share: float, beside: float) -> None:
    parts = decompose(_evidence(step, wait, copy=wait * share, beside=step * beside))
    whole = parts["epoch"]
    assert whole is not None
    known = [parts[name] for name in ("step", "contention", "copy", "preparation", "unexplained")]
    assert sum(part.median for part in known if part) == pytest.approx(whole.median, rel=0.05)


@given(positive, positive, st.floats(0, 1), st.floats(0, 0.5), st.integers(0, 40))
def test_every_evidence_gets_one_verdict(step: float, wait: float, share: float, beside: float, steps: int) -> None:
    evidence = replace(_evidence(step, wait, copy=wait * share, beside=step * beside), steps=steps)
    assert judge(evidence).name in {name for name, _ in RULES}


def test_on_a_gpu_the_wait_is_a_difference() -> None:
    on_gpu = replace(_evidence(1e-3, 1e-3), host_step=False, waits=_near(1e-9))
    parts = decompose(on_gpu)
    assert parts["unexplained"] is None
    assert parts["preparation"] is not None
    assert parts["preparation"].median == pytest.approx(1e-3, rel=0.05)
    assert judge(on_gpu).name == "INPUT_BOUND"


def test_the_roofline_is_sorted_and_complete() -> None:
    roofs = roofline(replace(_evidence(1e-3, 2e-3), disk=50_000.0))
    assert [roof.rate for roof in roofs] == sorted(roof.rate for roof in roofs)
    assert {"disk", "read", "cores", "decode", "copy", "supply", "model"} <= {roof.name for roof in roofs}
    assert roofs[0].name == "supply"


def test_predictions_scale_what_binds() -> None:
    evidence = replace(_evidence(1e-3, 1e-3), cpu={})  # warm 2 ms, drained 1 ms: half as fast as the model's best
    faster, none = predict(evidence, [Change("half the step", step=5e-4), Change("half the copy", copy=0.0)])
    assert (faster.name, none.gain) == ("half the step", 1.0)
    slow = replace(evidence, seconds={**evidence.seconds, "drained": _near(2e-3)})
    (found,) = predict(slow, [Change("twice the threads", supply=1e-3)])
    assert found.gain == pytest.approx(2.0, rel=0.01)
    assert found.low <= found.rate <= found.high
    assert found.rate == pytest.approx(1000, rel=0.02)


@pytest.mark.parametrize(
    ("decode", "share", "after"), [(8e-5, 0.5, 6e-5), (8e-5, 2.0, 1.8e-4), (1.3e-4, 1.0, 1e-4), (1.3e-4, 0.1, 1e-5)]
)
def test_decoding_is_at_most_all_of_the_supply(decode: float, share: float, after: float) -> None:
    assert resupplied(1e-4, decode, share) == pytest.approx(after)


def test_a_loader_with_nothing_to_do_slows_no_step() -> None:
    evidence = _evidence(1e-3, 1e-4, beside=2e-4)  # warm 1.3 ms: 1.0 of step, 0.2 of contention, 0.1 of jitter
    changes = [
        Change("resident", supply=1e-6, cpu=1e-3, beside=0.0),
        Change("half the decoding", supply=2.5e-4, cpu=1.125e-3, beside=0.5),
        Change("nothing"),
    ]
    resident, half, nothing = predict(evidence, changes)
    assert [resident.name, half.name, nothing.name] == ["resident", "half the decoding", "nothing"]
    assert resident.gain == pytest.approx(1.3, rel=0.01)
    assert half.gain == pytest.approx(1.3 / 1.15, rel=0.01)
    assert nothing.gain == 1.0
    assert resident.rate == pytest.approx(1 / 1e-3, rel=0.01)


def test_parts_that_overlap_bring_no_more_than_the_epoch_took() -> None:
    """The loader's parts sum to 0.3 ms, and the epoch took 0.2 more than its step."""
    evidence = _evidence(1e-3, 1e-4, beside=2e-4, rest=-1e-4)
    resident, nothing = predict(evidence, [Change("resident", supply=1e-6, cpu=1e-3, beside=0.0), Change("nothing")])
    assert resident.gain == pytest.approx(1.2, rel=0.01)
    assert nothing.gain == 1.0


def test_what_nothing_explains_stays_after_a_change() -> None:
    evidence = _evidence(1e-3, 1e-4, beside=2e-4, rest=3e-4)
    (resident,) = predict(evidence, [Change("resident", supply=1e-6, cpu=1e-3, beside=0.0)])
    assert resident.gain == pytest.approx(1.6 / 1.3, rel=0.01)


def test_a_spread_that_a_prediction_does_not_use_makes_it_no_wider() -> None:
    evidence = _evidence(1e-3, 1e-4)
    wild = replace(evidence, seconds={**evidence.seconds, "cold": _near(1e-2, 0.3)})
    changes = [Change("half the step", step=5e-4)]
    assert predict(wild, changes) == predict(evidence, changes)


def test_a_gain_is_as_uncertain_as_the_repeats_differ_in_it() -> None:
    """A machine that slows down slows all of a repeat alike: its gain stays. Waits that come and go do not."""
    moody = _evidence(1e-3, 1e-3)
    moods = (0.7, 0.9, 1.0, 1.2, 1.5)
    slowed = {mode: [v * m for v, m in zip(each, moods, strict=True)] for mode, each in moody.seconds.items()}
    waits = [wait * mood for wait, mood in zip(moody.waits, moods, strict=True)]
    changes = [Change("twice the loader", supply=5e-4, beside=0.5, cpu=0.0)]
    (found,) = predict(replace(moody, seconds=slowed, waits=waits, cpu={}), changes)
    assert found.gain_high / found.gain_low < 1.1
    (wide,) = predict(
        replace(moody, waits=[wait * mood for wait, mood in zip(moody.waits, moods, strict=True)]), changes
    )
    assert wide.gain_high - wide.gain_low > found.gain_high - found.gain_low


@pytest.mark.parametrize(
    ("predicted", "said"),
    [
        ((1.1, 1.3), "agrees"),
        ((1.21, 1.4), "agrees"),
        ((1.3, 1.5), "too high"),
        ((0.9, 1.1), "too low"),
        ((0.8, 2.0), "cannot tell"),
    ],
)
def test_a_gain_is_held_against_the_gain(predicted: tuple[float, float], said: str) -> None:
    assert agreement(predicted, summarise([1.18, 1.19, 1.2, 1.21, 1.22])) == said


@pytest.mark.parametrize("name", ["2026-11-28-stalls", "2026-11-29-stalls"])
def test_what_records_measured_of_a_resident_set_is_what_is_predicted_of_it(name: str) -> None:
    """Both were predicted too high by the model of their day, which took the loader's parts at their sum."""
    record = read_record(Path(__file__).parents[2] / "bench" / "records" / f"{name}.json")
    told = record.verdict
    assert told is not None
    modes = ("synthetic", "replayed", "shadow", "warm", "drained")
    seconds = {mode: [1 / rate for rate in record.measurements[mode]["values"]] for mode in modes}
    waits = [
        copy + rest
        for copy, rest in zip(
            *(told["decomposition"]["parts"][part]["values"] for part in ("copy", "preparation")), strict=True
        )
    ]
    evidence = Evidence(seconds, waits, told["evidence"]["cpu_s_per_image"], {}, steps=32, cores=2)
    step = statistics.median(seconds["synthetic"])
    resident = Change("resident", step=step, copy=0.0, supply=1e-6, cpu=evidence.cpu["synthetic"], beside=0.0)
    (found,) = predict(evidence, [resident])
    low, high = told["verified"]["gain"]["ci95"]
    assert low <= found.gain <= high < told["verified"]["predicted"]["gain"]
