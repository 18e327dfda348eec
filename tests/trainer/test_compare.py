"""McNemar's test against scipy, the interval against Newcombe's own example."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trainer.compare import EXACT_BELOW, compare, mcnemar


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_agrees_with_scipy(first: int, second: int) -> None:
    found, method = mcnemar(first, second)
    if not first + second:
        assert (found, method) == (1.0, "exact binomial")
    elif first + second < EXACT_BELOW:
        assert method == "exact binomial"
        assert found == pytest.approx(stats.binomtest(first, first + second).pvalue)
    else:
        assert method.startswith("chi-square")
        square = max(abs(first - second) - 1, 0) ** 2 / (first + second)
        assert found == pytest.approx(stats.chi2.sf(square, 1))
    assert mcnemar(second, first)[0] == found


def _compared(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    rows = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second + [(False, False)] * neither
    return [a for a, _ in rows], [b for _, b in rows]


def test_newcombes_example() -> None:
    found = compare(*map(np.array, _compared(36, 12, 2, 0)))  # table II of the paper: 0.0569 to 0.3404
    assert found.difference == pytest.approx(0.2)
    assert found.ci95 == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert (found.both, found.first, found.second, found.neither, found.samples) == (36, 12, 2, 0, 50)


@given(*[st.integers(0, 40)] * 4)
def test_an_interval_holds_its_difference(both: int, first: int, second: int, neither: int) -> None:
    if not both + first + second + neither:
        return
    one, other = (np.array(each, bool) for each in _compared(both, first, second, neither))
    found, turned = compare(one, other), compare(other, one)
    assert -1 <= found.ci95[0] <= found.difference <= found.ci95[1] <= 1
    assert turned.difference == pytest.approx(-found.difference)
    assert turned.ci95 == pytest.approx((-found.ci95[1], -found.ci95[0]))
