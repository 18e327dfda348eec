"""Is one model better than another on the same images? Only those where one is right and the other wrong can say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.metrics import wilson

__all__ = ["EXACT_BELOW", "Comparison", "compare", "mcnemar"]

EXACT_BELOW = 25
"""Discordant images below which McNemar's test is the exact binomial one."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on one test set.

    Args:
        both, first, second, neither: images that both, only the first, only the second and none of them names right.
        difference: accuracy of the first less that of the second, with ci95, its interval (Newcombe 1998, method 10).
        p_value: of McNemar's test: how likely a split of the discordant images at least as uneven is, were they alike.
        method: "exact binomial" or "chi-square with continuity correction".
    """

    both: int
    first: int
    second: int
    neither: int
    difference: float
    ci95: tuple[float, float]
    p_value: float
    method: str

    @property
    def samples(self) -> int:
        """Images in the test set."""
        return self.both + self.first + self.second + self.neither

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {**{name: getattr(self, name) for name in self.__slots__}, "ci95": list(self.ci95)}


def compare(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Comparison:
    """Compares by which images, bool (N,), each names right."""
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    one, other = int((first & ~second).sum()), int((~first & second).sum())
    p_value, method = mcnemar(one, other)
    samples = len(first)
    difference = (one - other) / samples if samples else 0.0
    return Comparison(both, one, other, neither, difference, _interval(both, one, other, neither), p_value, method)


def mcnemar(first: int, second: int) -> tuple[float, str]:
    """The two-sided p-value of McNemar's test (1947) for the discordant counts, and which form of it was taken.

    Below 25 discordant images it is the exact binomial test; from there on the chi-square with one degree of freedom
    and Edwards' continuity correction (1948). Without discordant images it is 1.
    """
    discordant, fewer = first + second, min(first, second)
    if discordant < EXACT_BELOW:
        tail = sum(math.comb(discordant, count) for count in range(fewer + 1))
        return min(1.0, 2 * tail / 2**discordant), "exact binomial"
    square = max(abs(first - second) - 1, 0) ** 2 / discordant
    return math.erfc(math.sqrt(square / 2)), "chi-square with continuity correction"


def _interval(both: int, first: int, second: int, neither: int) -> tuple[float, float]:
    """Newcombe's method 10 (Statistics in Medicine 17, 1998): Wilson's limits of both shares, joined by their phi."""
    samples = both + first + second + neither
    if not samples:
        return -1.0, 1.0
    one, other = (both + first) / samples, (both + second) / samples
    low1, high1 = wilson(both + first, samples)
    low2, high2 = wilson(both + second, samples)
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    phi = 0.0
    if product:
        cross = both * neither - first * second
        phi = (max(cross - samples / 2, 0) if cross > 0 else cross) / math.sqrt(product)
    difference = one - other
    down = (one - low1) ** 2 - 2 * phi * (one - low1) * (high2 - other) + (high2 - other) ** 2
    up = (high1 - one) ** 2 - 2 * phi * (high1 - one) * (other - low2) + (other - low2) ** 2
    return max(-1.0, difference - math.sqrt(max(down, 0))), min(1.0, difference + math.sqrt(max(up, 0)))
