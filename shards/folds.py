"""Folds: every sample in one of k parts of the same size and mix of labels, and no group in two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shards.read import permutation

__all__ = ["folds"]


def folds(label_ids: NDArray[np.int64], group_ids: NDArray[np.int64], k: int, seed: int) -> NDArray[np.int64]:
    """The fold of every sample, int64 (N,), from 0 to k - 1.

    Groups are dealt the largest first, each to the fold that has the least of its labels, then the least of all: sizes
    differ by the odd group at most. One walk over the groups.

    Args:
        label_ids, group_ids: int64 (N,); a group may hold several labels.
        k: number of folds, 1 or more.
        seed: decides which group comes when among those of one size.
    """
    n = len(label_ids)
    labels = int(label_ids.max(initial=-1)) + 1
    members: dict[int, list[int]] = {}
    for i in permutation(n, seed, 4).tolist():
        members.setdefault(int(group_ids[i]), []).append(i)
    filled = np.zeros((k, labels), np.int64)
    share = np.maximum(np.bincount(label_ids, minlength=labels), 1)
    fold = np.zeros(n, np.int64)
    for group in sorted(members.values(), key=len, reverse=True):
        need = np.bincount(label_ids[group], minlength=labels)
        full = (filled / share) @ need
        best = np.lexsort((filled.sum(axis=1), full))[0]
        fold[group] = best
        filled[best] += need
    return fold
