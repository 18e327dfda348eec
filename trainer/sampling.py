"""Which samples a balanced epoch trains on, and in which order: a function of (seed, epoch), so resuming is exact."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shards.read import permutation

__all__ = ["balanced_order", "balanced_weights"]

Indices = NDArray[np.int64]


def balanced_order(labels: Indices, samples: Indices, seed: int, epoch: int) -> Indices:
    """`samples` drawn so that all labels come equally often (to one sample); as many as there are samples, int64 (M,).

    Each label's samples come round after round, each round in a new order by the reader's `permutation`, and an epoch
    goes on where the one before ended: over the epochs two samples of one label are never more than one showing apart.

    Args:
        labels: of every sample of the set. samples: those that can be used, as `Feed.samples`.
        seed, epoch: epochs count from 1.
    """
    own = labels[samples]
    present = np.unique(own)
    each, over = divmod(len(samples), len(present))
    parts = []
    for place, label in enumerate(present):
        members = samples[own == label]
        # What is left over goes to the labels in turns, so that over epochs none gets more.
        before = (epoch - 1) * each + _turns(place, (epoch - 1) * over, len(present))
        upto = epoch * each + _turns(place, epoch * over, len(present))
        rounds = range(before // len(members), -(-upto // len(members)))
        shown = np.concatenate(
            [members[permutation(len(members), _mixed(seed, int(label)), turn)] for turn in rounds] or [members[:0]]
        )
        first = before - rounds.start * len(members)
        parts.append(shown[first : first + upto - before])
    drawn = np.concatenate(parts)
    return drawn[permutation(len(drawn), seed, epoch)]


def balanced_weights(labels: Indices, kinds: int) -> NDArray[np.float32]:
    """Weight of each label, float32 (kinds,): N / (labels present * N of the label); 0 for one without samples.

    As scikit-learn's `class_weight="balanced"`: their mean over the samples is 1.
    """
    counts = np.bincount(labels, minlength=kinds)
    present = np.count_nonzero(counts)
    return np.where(counts > 0, len(labels) / np.maximum(present * counts, 1), 0).astype(np.float32)


def _turns(place: int, shares: int, players: int) -> int:
    """How many of `shares` dealt in turns from player 0 go to player `place`."""
    return (shares - place + players - 1) // players


def _mixed(seed: int, label: int) -> int:
    """A seed of its own for each label's rounds; unlike the epochs' seed, whose orders they must not follow."""
    return int(np.random.SeedSequence((seed, label, 0xBA1A)).generate_state(1, np.uint64)[0])
