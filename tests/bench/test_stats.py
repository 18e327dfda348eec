import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from bench.stats import _T95, ratio, summarise

finite = st.floats(0.1, 1e6)


def test_the_t_table_is_scipys() -> None:
    assert list(_T95) == [pytest.approx(stdtrit(degrees, 0.975), abs=6e-4) for degrees in range(1, 31)]


@given(st.lists(finite, min_size=2, max_size=31))
def test_the_interval_is_scipys_t_interval(values: list[float]) -> None:
    found = summarise(values)
    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    half = stdtrit(len(values) - 1, 0.975) * error
    assert found.low == pytest.approx(mean - half, rel=1e-3, abs=max(half, 1e-9) * 1e-3 + 1e-6)
    assert found.high == pytest.approx(mean + half, rel=1e-3, abs=max(half, 1e-9) * 1e-3 + 1e-6)
    assert min(values) <= found.median <= max(values)


def test_one_value_has_no_interval() -> None:
    found = summarise([3.0])
    assert (found.median, found.low, found.high) == (3.0, -math.inf, math.inf)
    assert found.to_json() == {"values": [3.0], "median": 3.0, "ci95": [None, None]}


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draw = random.Random(0)
    covered = 0
    for _ in range(1000):
        found = summarise([draw.gauss(10, 2) for _ in range(5)])
        covered += found.low <= 10 <= found.high
    assert 930 <= covered <= 970


def test_a_ratio_pairs_the_runs_of_a_round() -> None:
    # The machine slowed down by half in the middle: each round's ratio is still 2.
    assert ratio([20.0, 20.0, 10.0, 10.0], [10.0, 10.0, 5.0, 5.0]).values == (2.0, 2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


def test_no_values_is_an_error() -> None:
    with pytest.raises(ValueError, match="no measurements"):
        summarise([])
