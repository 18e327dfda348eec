"""Samples whose label is doubted most: confident learning (Northcutt, Jiang, Chuang; JAIR 70, 2021) by a small model.

A logistic regression is asked about every sample by a fold that has not seen it, nor a near-duplicate of it. A class's
threshold is the mean probability that its own samples get for it. A sample is placed in the likeliest class whose
threshold it reaches; where that is not its own, it is off the diagonal of the confident joint: a suspect. Suspects are
ranked by how much surer the model is of the other label than of the given one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shards.blas import one_thread
from shards.duplicates import groups
from shards.errors import ConfigError
from shards.features import features
from shards.folds import folds
from shards.shard_set import ShardSet
from shards.split import hashes_of

__all__ = ["Suspect", "SuspectProgress", "Suspects", "confident_joint", "out_of_fold", "suspects"]

_STRENGTH = 0.03  # inverse of the ridge: of 0.01 to 1, the most right answers on held-out thumbnails
_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class SuspectProgress:
    """How far it is: stage "hash", "look" or "doubt"; samples, or folds, done and in all."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """A sample whose label is doubted.

    Args:
        index, key: of the sample.
        label: the one given.
        suspected: the one the model is surer of.
        p_label, p_suspected: out-of-fold probabilities of both.
        rank: from 1, the most doubted.
    """

    index: int
    key: str
    label: str
    suspected: str
    p_label: float
    p_suspected: float
    rank: int

    @property
    def margin(self) -> float:
        """How much surer the model is of the other label, -1 to 1."""
        return self.p_suspected - self.p_label


@dataclass(frozen=True, slots=True)
class Suspects:
    """What `suspects` found.

    Args:
        found: the suspects, the most doubted first.
        joint: how many samples of each given label (row) are placed with confidence in each (column), int64 (L, L).
        thresholds: of each label: the mean out-of-fold probability of it over its own samples; NaN where it has none.
        accuracy: share of out-of-fold answers that are the given label: how much this model's doubt is worth.
        majority: share of the commonest label, what a blind model would reach.
        folds: how many there were.
        unreadable: numbers of samples that could not be decoded, and were not judged.
        labels: names, in the order of the joint.
    """

    found: tuple[Suspect, ...]
    joint: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    accuracy: float
    majority: float
    folds: int
    unreadable: tuple[int, ...]
    labels: tuple[str, ...]


def _nothing_to_confuse(source: ShardSet) -> ConfigError:
    problem = "expected two labels or more with several unlike images each; there is nothing to confuse"
    return ConfigError("shards suspects", str(source.folder), problem)


def suspects(
    source: ShardSet,
    *,
    fold_count: int = 5,
    seed: int = 0,
    on_progress: Callable[[SuspectProgress], None] | None = None,
) -> Suspects:
    """Finds the samples whose label a cross-validated small model doubts; nothing is changed.

    About 3 ms a sample on one core, nearly all of it looking at the image; 512 bytes of memory a sample.

    Args:
        source: an opened set.
        fold_count: of the cross-validation.
        seed: decides the folds.

    Raises:
        ConfigError: there are less than two labels with samples in two folds, so that nothing can be compared.
    """
    report = on_progress or (lambda progress: None)
    n = len(source)
    if len(np.unique(source.label_ids)) < 2:
        raise _nothing_to_confuse(source)
    hashes, _ = hashes_of(source, lambda done: report(SuspectProgress("hash", done, n)))
    group_ids = groups(hashes)
    with one_thread():
        columns, readable = features(
            source, seed=seed, on_progress=lambda done: report(SuspectProgress("look", done, n))
        )
        chosen = np.flatnonzero(readable)
        label_ids = source.label_ids[chosen]
        fold = folds(label_ids, group_ids[chosen], fold_count, seed)
        torn = np.array([len(np.unique(fold[label_ids == n])) for n in range(len(source.labels))])
        if (torn > 1).sum() < 2:
            raise _nothing_to_confuse(source)
        told = out_of_fold(
            columns[chosen],
            label_ids,
            fold,
            len(source.labels),
            lambda done: report(SuspectProgress("doubt", done, fold_count)),
        )
    joint, thresholds, placed = confident_joint(told, label_ids)
    own = told[np.arange(len(chosen)), label_ids]
    doubted = np.flatnonzero((placed >= 0) & (placed != label_ids))
    margins = told[doubted, placed[doubted]] - own[doubted]
    ranked = doubted[np.lexsort((source.index.keys[chosen[doubted]], -margins))]
    found = tuple(
        Suspect(
            index=int(chosen[i]),
            key=source.key(int(chosen[i])),
            label=source.labels[label_ids[i]],
            suspected=source.labels[placed[i]],
            p_label=float(own[i]),
            p_suspected=float(told[i, placed[i]]),
            rank=rank,
        )
        for rank, i in enumerate(ranked.tolist(), 1)
    )
    return Suspects(
        found=found,
        joint=joint,
        thresholds=thresholds,
        accuracy=float((told.argmax(axis=1) == label_ids).mean()),
        majority=float(np.bincount(label_ids).max() / len(label_ids)),
        folds=fold_count,
        unreadable=tuple(np.flatnonzero(~readable).tolist()),
        labels=source.labels,
    )


def out_of_fold(
    columns: NDArray[np.float32],
    label_ids: NDArray[np.int64],
    fold: NDArray[np.int64],
    labels: int,
    on_progress: Callable[[int], None] | None = None,
) -> NDArray[np.float64]:
    """Probabilities of every label for every sample, from a model that was fitted without the sample's fold.

    Labels weigh alike however many samples they have: a rare one is not doubted for being rare.

    Args:
        columns: float32 (N, D).
        label_ids, fold: int64 (N,).
        labels: L; one that a model was not shown has probability 0 there.

    Returns:
        float64 (N, L).
    """
    from sklearn.linear_model import LogisticRegression  # costs a second to import

    told = np.zeros((len(columns), labels))
    for number in range(int(fold.max(initial=-1)) + 1):
        held = fold == number
        known = np.unique(label_ids[~held])
        if held.any() and len(known) == 1:
            told[held, known[0]] = 1
        elif held.any() and len(known):
            model = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=_ROUNDS, tol=1e-3)
            model.fit(columns[~held], label_ids[~held])
            told[np.ix_(held, known)] = model.predict_proba(columns[held])
        if on_progress:
            on_progress(number + 1)
    return told


def confident_joint(
    told: NDArray[np.float64], label_ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Counts given against confidently predicted labels (equation 1 of the paper).

    A sample is placed in the most probable of the labels whose threshold it reaches: the mean probability that the
    samples given that label get for it. A sample that reaches none is placed nowhere.

    Args:
        told: out-of-fold probabilities, float64 (N, L).
        label_ids: the given labels, int64 (N,).

    Returns:
        The joint, int64 (L, L); the thresholds, float64 (L,), NaN for a label without samples; where each sample is
        placed, int64 (N,), -1: nowhere.
    """
    labels = told.shape[1]
    thresholds = np.full(labels, np.nan)
    for label in np.unique(label_ids):
        thresholds[label] = told[label_ids == label, label].mean()
    sure = told >= np.where(np.isnan(thresholds), np.inf, thresholds)
    placed = np.where(sure, told, -1.0).argmax(axis=1)
    placed = np.where(sure.any(axis=1), placed, -1)
    joint = np.zeros((labels, labels), np.int64)
    np.add.at(joint, (label_ids[placed >= 0], placed[placed >= 0]), 1)
    return joint, thresholds, placed
