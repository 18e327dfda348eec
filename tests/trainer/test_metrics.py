"""Measures against scikit-learn, the Wilson interval against its definition, and the original's blind spot."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from trainer.metrics import confusion_of, measure, wilson

LABELS = ("a", "b", "c", "d")
answers = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=200)


@settings(max_examples=40)
@given(answers)
def test_agrees_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, answer = np.array(pairs, np.int64).T
    found = measure(truth, answer, LABELS)
    assert found.accuracy == pytest.approx(peer.accuracy_score(truth, answer))
    assert np.array_equal(found.confusion, peer.confusion_matrix(truth, answer, labels=range(4)))
    assert found.macro_f1 == pytest.approx(peer.f1_score(truth, answer, average="macro", zero_division=0))
    recall = peer.recall_score(truth, answer, labels=np.unique(truth), average="macro", zero_division=0)
    assert found.balanced_accuracy == pytest.approx(recall)
    precision = peer.precision_score(truth, answer, labels=range(4), average=None, zero_division=0)
    for name, expected in zip(LABELS, precision, strict=True):
        assert (found.per_label[name]["precision"] or 0) == pytest.approx(expected)
    assert found.majority_rate == np.bincount(truth).max() / len(truth)
    assert found.ci95[0] <= found.accuracy <= found.ci95[1]


@given(st.integers(0, 3000), st.integers(1, 3000))
def test_wilson_solves_its_equation(right: int, samples: int) -> None:
    right = min(right, samples)
    low, high = wilson(right, samples)
    share = right / samples
    assert 0 <= low <= share <= high <= 1
    for edge in (low, high):  # the edges are the shares p for which (share - p)^2 = z^2 p (1 - p) / n
        if 0 < edge < 1:
            variance = edge * (1 - edge) / samples
            assert (share - edge) ** 2 == pytest.approx(1.959963984540054**2 * variance, rel=1e-6, abs=1e-12)


def test_wilson_of_the_best_run() -> None:
    low, high = wilson(1985, 2000)  # T6: 99.25 %, FACTS.md section 4
    assert (round(low, 4), round(high, 4)) == (0.9877, 0.9954)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_originals_collapse_is_called_one() -> None:
    truth = np.array([0] * 1733 + [1] * 267, np.int64)
    found = measure(truth, np.zeros(2000, np.int64), ("guitar", "bass"))
    assert found.single_class == "guitar"
    assert found.accuracy == found.majority_rate == 0.8665
    assert found.balanced_accuracy == 0.5
    assert found.per_label["bass"]["precision"] is None
    assert not math.isnan(found.macro_f1)


def test_confusion_rows_are_the_truth() -> None:
    assert confusion_of(np.array([0, 0, 1]), np.array([1, 1, 1]), 2).tolist() == [[0, 2], [0, 1]]
