"""A target is reached, missed or not proven by the bounds of its interval, whichever side it lies on."""

from __future__ import annotations

import pytest

from bench.stats import Summary, summarise
from bench.targets import MISSED, NOT_MEASURED, NOT_PROVEN, REACHED, Target, shortfall, together


@pytest.mark.parametrize(
    ("low", "high", "least", "most"),
    [
        (2.1, 2.3, REACHED, MISSED),
        (1.7, 1.9, MISSED, REACHED),
        (1.9, 2.3, NOT_PROVEN, NOT_PROVEN),  # the middle is beyond 2, and that is not enough
        (2.0, 2.2, REACHED, NOT_PROVEN),
        (1.8, 2.0, NOT_PROVEN, REACHED),
    ],
)
def test_the_whole_interval_decides(low: float, high: float, least: str, most: str) -> None:
    found = Summary((low, high), (low + high) / 2, low, high)
    assert Target(2.0).verdict(found) == least
    assert Target(2.0, below=True).verdict(found) == most


def test_one_value_proves_nothing() -> None:
    assert Target(2.0).verdict(summarise([9.0])) == NOT_PROVEN
    assert Target(2.0, below=True).verdict(summarise([9.0])) == NOT_PROVEN


def test_a_record_says_what_is_not_known() -> None:
    assert Target(2.0).to_json(None) == {
        "value": 2.0, "below": False, "found": None, "ci95": None, "met": None, "verdict": NOT_MEASURED,
    }  # fmt: skip
    one = Target(2.0, below=True).to_json(summarise([1.5]))
    assert (one["found"], one["ci95"], one["met"], one["verdict"]) == (1.5, [None, None], None, NOT_PROVEN)
    assert Target(2.0, below=True).to_json(summarise([1.5, 1.5]))["met"] is True
    assert Target(1.0, below=True).to_json(summarise([1.5, 1.5]))["met"] is False


def test_several_targets_are_told_together() -> None:
    assert together([REACHED, NOT_PROVEN, MISSED]) == "missed"
    assert together([REACHED, NOT_PROVEN, NOT_MEASURED]) == "not proven"
    assert together([REACHED, NOT_MEASURED]) == "met"
    words = {"a": MISSED, "b": NOT_PROVEN, "c": REACHED, "d": MISSED, "e": NOT_MEASURED}
    assert shortfall({name: {"verdict": word} for name, word in words.items()}) == ["missed: a, d", "not proven: b"]
