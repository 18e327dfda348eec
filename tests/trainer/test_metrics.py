"""Measures against scikit-learn, the Wilson interval against its definition, and the original's blind spot."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from trainer.metrics import auroc, brier, calibration_error, confusion_of, measure, wilson

LABELS = ("a", "b", "c", "d")
answers = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=200)


@settings(max_examples=25, deadline=None)
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


shares = st.lists(st.lists(st.integers(0, 6), min_size=4, max_size=4), min_size=4, max_size=60)


@settings(max_examples=30, deadline=None)
@given(shares, st.integers(2, 4), st.randoms())
def test_auroc_agrees_with_scikit_learn_ties_too(rows: list[list[int]], labels: int, draw: Random) -> None:
    scores = np.array(rows, np.float64)[:, :labels] + 1  # small whole numbers: many ties
    probabilities = scores / scores.sum(1, keepdims=True)
    truth = np.array([*range(labels), *(draw.randrange(labels) for _ in rows[labels:])])[: len(rows)]
    if labels == 2:
        probabilities[:, 0] = 1 - probabilities[:, 1]
        expected = peer.roc_auc_score(truth, probabilities[:, 1])
    else:
        expected = peer.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro", labels=range(labels))
    assert auroc(truth, probabilities) == pytest.approx(expected)


def test_auroc_of_one_label_is_not_measured() -> None:
    assert auroc(np.zeros(3, np.int64), np.full((3, 2), 0.5, np.float32)) is None
    # the third label is not there: the mean is over the other two
    rows = np.array([[0.8, 0.1, 0.1], [0.3, 0.4, 0.3], [0.1, 0.8, 0.1]], np.float32)
    assert auroc(np.array([0, 1, 1]), rows) == 1.0


@settings(max_examples=25, deadline=None)
@given(shares)
def test_brier_and_calibration_against_their_definitions(rows: list[list[int]]) -> None:
    scores = np.array(rows, np.float64) + 1
    probabilities = scores / scores.sum(1, keepdims=True)
    truth = np.arange(len(rows)) % 4
    pairs = zip(probabilities, truth, strict=True)
    wanted = np.mean([sum((p - (i == t)) ** 2 for i, p in enumerate(row)) for row, t in pairs])
    assert brier(truth, probabilities) == pytest.approx(wanted)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == truth
    gap = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            gap += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert calibration_error(truth, probabilities) == pytest.approx(gap)


def test_a_sure_and_right_model_is_calibrated() -> None:
    truth = np.array([0, 1, 1])
    sure = np.eye(2, dtype=np.float32)[truth]
    assert calibration_error(truth, sure) == brier(truth, sure) == 0
    assert calibration_error(truth, 1 - sure) == 1
    assert brier(truth, 1 - sure) == 2
    assert measure(truth, sure.argmax(1), ("a", "b")).auroc is None
    assert measure(truth, sure.argmax(1), ("a", "b"), None, sure).auroc == 1
