"""Few, noisy numbers said honestly: a median, and a t-interval over runs (steps of one run are not independent)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Summary", "ratio", "summarise", "t95"]

# Two-sided 95 % quantiles of Student's t by degrees of freedom (any handbook; the tests check them against scipy).
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def t95(degrees: int) -> float:
    """Two-sided 95 % quantile of Student's t; the normal one beyond 30 degrees of freedom."""
    return _T95[degrees - 1] if degrees <= len(_T95) else 1.96


@dataclass(frozen=True, slots=True)
class Summary:
    """What repeated measurements of one thing say.

    Attributes:
        values: every measurement, in the order taken.
        median: their median.
        low, high: 95 % t-interval of their mean; (-inf, inf) for one value, which says nothing of its spread.
    """

    values: tuple[float, ...]
    median: float
    low: float
    high: float

    def to_json(self) -> dict[str, object]:
        """A JSON object; an unknown bound is null."""
        bounds = [bound if math.isfinite(bound) else None for bound in (self.low, self.high)]
        return {"values": list(self.values), "median": self.median, "ci95": bounds}


def summarise(values: Sequence[float]) -> Summary:
    """Median and 95 % t-interval of the mean of `values` (one per run).

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no measurements to summarise")
    median = statistics.median(values)
    if len(values) == 1:
        return Summary(tuple(values), median, -math.inf, math.inf)
    mean = statistics.fmean(values)
    degrees = len(values) - 1
    half = t95(degrees) * statistics.stdev(values) / math.sqrt(len(values))
    return Summary(tuple(values), median, mean - half, mean + half)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Summary:
    """The ratio ours/theirs run by run: interleaved runs of one round share the machine's mood, so pairs are divided.

    Raises:
        ValueError: the sequences differ in length or are empty.
    """
    return summarise([a / b for a, b in zip(ours, theirs, strict=True)])
