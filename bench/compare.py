"""Two records of one bench held against each other: faster, slower, or cannot tell. Pure.

A slowdown is old/new of a rate and new/old of a time. Its interval is Welch's t over the logarithms of the repeats. A
difference counts only beyond max(2 %, the noise floor): what A/A runs of the same thing differed by, on either side.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import BenchError
from bench.record import Record
from bench.stats import t95

__all__ = ["LEAST", "Compared", "Comparison", "compare"]

LEAST = 0.02
"""A difference below this is none, however small the noise."""

# What was measured is another thing where one of these differs; repeats, paths and dates may differ.
_SAME = (
    "data_digest", "config_hash", "loader", "samples", "image_bytes", "images", "batch", "size", "workers", "mode",
    "device", "precision", "compute", "hook", "cache", "epochs", "seeding",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    """One measurement of both records.

    Attributes:
        name, unit: as in the records.
        old, new: medians.
        slowdown: new against old, 1.1 is a tenth slower; (low, high) its 95 % interval, None with too few repeats.
        threshold: max(2 %, noise floor).
        verdict: "faster", "slower", "cannot tell", or "" where none is given.
    """

    name: str
    unit: str
    old: float
    new: float
    slowdown: float
    low: float | None
    high: float | None
    threshold: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that both records measured.

    Attributes:
        rows: one a measurement, in the old record's order.
        differing: why no verdict is given: parts of the fingerprint and settings that are not the same; empty: verdicts
            are given.
        only_old, only_new: measured in one of them.
        noise_known: whether one of the records has A/A runs.
    """

    rows: tuple[Compared, ...]
    differing: tuple[str, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    noise_known: bool

    @property
    def regressed(self) -> tuple[str, ...]:
        """What is slower."""
        return tuple(row.name for row in self.rows if row.verdict == "slower")


def compare(old: Record, new: Record) -> Comparison:
    """Compares.

    Raises:
        BenchError: the records are of different benches.
    """
    if old.kind != new.kind:
        raise BenchError(f"one record is of bench {old.kind}, the other of bench {new.kind}; compare like with like")
    differing = _differing(old, new)
    rows = []
    for name, before in old.measurements.items():
        after = new.measurements.get(name)
        if before is None or after is None or before["unit"] != after["unit"]:
            continue
        noise = max(old.noise.get(name, 0.0), new.noise.get(name, 0.0))
        row = _row(name, before, after, max(LEAST, noise), judged=not differing)
        if row is not None:
            rows.append(row)
    return Comparison(
        tuple(rows),
        differing,
        tuple(name for name in old.measurements if name not in new.measurements),
        tuple(name for name in new.measurements if name not in old.measurements),
        bool(old.noise or new.noise),
    )


def _differing(old: Record, new: Record) -> tuple[str, ...]:
    found = []
    if old.environment.get("digest") != new.environment.get("digest"):
        for key in sorted(old.environment.keys() | new.environment.keys()):
            if key not in ("digest", "code") and (a := old.environment.get(key)) != (b := new.environment.get(key)):
                found.append(_told(key, a, b))
        found = found or ["fingerprint"]
    for key in _SAME:
        if (a := old.settings.get(key)) != (b := new.settings.get(key)):
            found.append(_told(key, a, b))
    return tuple(found)


def _told(key: str, a: Any, b: Any) -> str:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        inner = [name for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]
        return ", ".join(f"{name}: {a.get(name)} and {b.get(name)}" for name in inner)
    return f"{key}: {a} and {b}"


def _row(name: str, before: Any, after: Any, threshold: float, *, judged: bool) -> Compared | None:
    unit = before["unit"]
    old, new = before["values"], after["values"]
    if not old or not new or min(*old, *new, 0) < 0 or not all((*old, *new)):
        return None  # no ratio of what is zero or less
    rate = unit.endswith("/s") or unit == "ratio"
    # a slowdown above 1 is worse in both: rates are turned round
    slow = [-math.log(value) if rate else math.log(value) for value in new]
    base = [-math.log(value) if rate else math.log(value) for value in old]
    middle = math.exp(statistics.median(slow) - statistics.median(base))
    bounds = _welch(slow, base)
    verdict = ""
    low = high = None
    if bounds is not None:
        low, high = math.exp(bounds[0]), math.exp(bounds[1])
    if judged:
        verdict = "cannot tell"
        if low is not None and low > 1 + threshold:
            verdict = "slower"
        elif high is not None and 1 / high > 1 + threshold:
            verdict = "faster"
    medians = (statistics.median(old), statistics.median(new))
    return Compared(name, unit, *medians, middle, low, high, threshold, verdict)


def _welch(a: Sequence[float], b: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of mean(a) - mean(b) for unequal variances (Welch 1947, Satterthwaite); None: too few."""
    if len(a) < 2 or len(b) < 2:
        return None
    one, other = statistics.variance(a) / len(a), statistics.variance(b) / len(b)
    apart = statistics.fmean(a) - statistics.fmean(b)
    if one + other == 0:
        return apart, apart
    degrees = (one + other) ** 2 / (one**2 / (len(a) - 1) + other**2 / (len(b) - 1))
    half = t95(max(int(degrees), 1)) * math.sqrt(one + other)
    return apart - half, apart + half
