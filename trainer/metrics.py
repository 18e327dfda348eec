"""What a test says, with its uncertainty and with what always answering the commonest label would have reached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Metrics", "auroc", "brier", "calibration_error", "confusion_of", "measure", "wilson"]

_Z95 = 1.959963984540054  # the normal distribution's 97.5 % point
BINS = 15
"""Bins of the calibration error, as in Guo et al. 2017."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Measures of one test; the mean over labels leaves out labels that the test set does not have.

    Args:
        samples: how many were tested.
        accuracy: share labelled right, with ci95, its 95 % Wilson interval.
        majority_rate: accuracy of always answering the commonest label of this very set.
        balanced_accuracy: mean of the labels' recalls.
        macro_f1: mean of the labels' F1 scores.
        loss: mean cross-entropy in nats, None where there were no probabilities.
        confusion: confusion[truth][answer] counts.
        per_label: precision, recall, f1 and support by label; precision is None for a label never answered.
        single_class: the only label ever answered, None where there are several.
        auroc: mean over labels of the area under the ROC curve, label against rest; None where not measured.
        calibration_error: 0 to 1, over 15 bins of confidence; None where not measured.
        brier: 0 to 2, mean squared distance of the probabilities from the truth; None where not measured.
    """

    samples: int
    accuracy: float
    ci95: tuple[float, float]
    majority_rate: float
    balanced_accuracy: float
    macro_f1: float
    loss: float | None
    confusion: list[list[int]]
    per_label: dict[str, dict[str, float | int | None]]
    single_class: str | None
    auroc: float | None = None
    calibration_error: float | None = None
    brier: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As the `test` object of result.json."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {**fields, "ci95": list(self.ci95)}


def wilson(right: int, samples: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927, without continuity correction); (0, 1) of no samples."""
    if not samples:
        return 0.0, 1.0
    share, z2 = right / samples, _Z95**2
    centre = (share + z2 / (2 * samples)) / (1 + z2 / samples)
    half = _Z95 / (1 + z2 / samples) * math.sqrt(share * (1 - share) / samples + z2 / (4 * samples**2))
    low = 0.0 if right == 0 else max(0.0, centre - half)
    return low, 1.0 if right == samples else min(1.0, centre + half)


def confusion_of(truth: NDArray[np.int64], answer: NDArray[np.int64], labels: int) -> NDArray[np.int64]:
    """Counts by truth (row) and answer (column), int64 (labels, labels)."""
    return np.bincount(truth * labels + answer, minlength=labels * labels).reshape(labels, labels).astype(np.int64)


def auroc(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float | None:
    """Macro one-vs-rest area under the ROC curve of probabilities (N, labels).

    A label's area is the chance that one of its samples gets more of its probability than one of another label, ties
    counting half (Mann and Whitney 1947). Labels without samples, or without others', have no area and are left out;
    None where all are.
    """
    areas = []
    for label in range(probabilities.shape[1]):
        own = truth == label
        positive, negative = int(own.sum()), int((~own).sum())
        if not positive or not negative:
            continue
        # the mean rank of equal values is the middle between those below and those up to them
        _, place, counts = np.unique(probabilities[:, label], return_inverse=True, return_counts=True)
        upto = np.cumsum(counts)
        rank = ((2 * upto - counts + 1) / 2)[place]
        areas.append((rank[own].sum() - positive * (positive + 1) / 2) / (positive * negative))
    return float(np.mean(areas)) if areas else None


def calibration_error(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    """How far confidence is from accuracy (Guo et al. 2017, arXiv 1706.04599): expected calibration error.

    Samples are binned by the probability of their answer, 15 bins of equal width, open below and closed above; the
    gaps between a bin's mean confidence and its accuracy are averaged by the bins' shares. 0 of no samples.
    """
    if not len(truth):
        return 0.0
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == truth
    number = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gap = np.bincount(number, confidence - right, BINS)
    return float(np.abs(gap).sum() / len(truth))


def brier(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    """Mean over samples of the summed squared differences to the truth (Brier 1950), 0 to 2; 0 of no samples."""
    if not len(truth):
        return 0.0
    exact = np.eye(probabilities.shape[1])[truth]
    return float(np.square(probabilities - exact).sum(1).mean())


def measure(
    truth: NDArray[np.int64],
    answer: NDArray[np.int64],
    labels: Sequence[str],
    loss: float | None = None,
    probabilities: NDArray[np.float32] | None = None,
) -> Metrics:
    """Measures answers, int64 (N,), against the truth, int64 (N,); with probabilities, (N, labels), those too."""
    table = confusion_of(truth, answer, len(labels))
    support, answered, right = table.sum(1), table.sum(0), np.diag(table)
    samples = int(table.sum())
    present = support > 0
    recall = right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(support + answered, 1)
    counted = present | (answered > 0)  # as scikit-learn: a label answered but absent counts as F1 0
    seen = [name for name, count in zip(labels, answered, strict=True) if count]
    return Metrics(
        samples=samples,
        accuracy=float(right.sum() / max(samples, 1)),
        ci95=wilson(int(right.sum()), samples),
        majority_rate=float(support.max(initial=0) / max(samples, 1)),
        balanced_accuracy=float(recall[present].mean()) if samples else 0.0,
        macro_f1=float(f1[counted].mean()) if samples else 0.0,
        loss=loss,
        confusion=table.tolist(),
        per_label={
            name: {
                "precision": float(right[i] / answered[i]) if answered[i] else None,
                "recall": float(recall[i]) if support[i] else None,
                "f1": float(f1[i]) if counted[i] else None,
                "support": int(support[i]),
            }
            for i, name in enumerate(labels)
        },
        single_class=seen[0] if len(seen) == 1 and len(labels) > 1 else None,
        auroc=None if probabilities is None else auroc(truth, probabilities),
        calibration_error=None if probabilities is None else calibration_error(truth, probabilities),
        brier=None if probabilities is None else brier(truth, probabilities),
    )
