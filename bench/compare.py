"""Two records of one bench held against each other: faster, slower, or cannot tell. Pure.

A slowdown is old/new of a rate and new/old of a time. Its interval is Welch's t over the logarithms of the repeats.
What is judged:

- ours against a peer or a ceiling of the same run, as a ratio, where both records have the two: beyond `RATIO`. A
  shared machine's rates vary by a quarter from hour to hour, such ratios by a few percent.
- a measurement alone, only where its noise is known, from A/A runs or from the caller: beyond max(`LEAST`, noise).

Others' own rates are shown and never judged, and nothing is held against a peer that changed its version.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.errors import BenchError
from bench.record import Record
from bench.stats import t95

__all__ = ["LEAST", "RATIO", "Compared", "Comparison", "compare"]

LEAST = 0.02
"""A difference below this is none, however small the noise."""

RATIO = 0.05
"""The same of a ratio: two records of one day on one machine have 0.95 and 0.97 of FFCV."""

# What was measured is another thing where one of these differs; repeats, paths and dates may differ.
_SAME = (
    "data_digest", "config_hash", "loader", "samples", "image_bytes", "images", "batch", "size", "workers", "mode",
    "device", "precision", "compute", "hook", "cache", "epochs", "seeding",
)  # fmt: skip

# bench -> ours -> what it is held against; where a bench marks its measurements with `ours`, they say it themselves.
_PAIRS: Mapping[str, Mapping[str, str]] = {
    "train": {"epochs ours": "epochs plain", "to common loss ours": "to common loss plain"},
    "shards": {"write": "tarfile"},
    "crawl-hosts": {"together": "alone"},
}
_THEIRS = frozenset({"epochs plain", "to best plain", "to common loss plain", "tarfile"})
_PACKAGE = {"mds": "mosaicml-streaming"}  # the others' measurements begin with their package's name


@dataclass(frozen=True, slots=True)
class Compared:
    """One measurement of both records, or one of ours against one of theirs.

    Attributes:
        name, unit: as in the records; "ours / theirs" and "ratio".
        old, new: medians.
        slowdown: new against old, 1.1 is a tenth slower; (low, high) its 95 % interval, None with too few repeats.
        threshold: what a difference has to be beyond; None where it is not known.
        verdict: "faster", "slower", "cannot tell", or "" where none is given.
        why: why it cannot be told, or is not judged; else "".
    """

    name: str
    unit: str
    old: float
    new: float
    slowdown: float
    low: float | None
    high: float | None
    threshold: float | None
    verdict: str
    why: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that both records measured.

    Attributes:
        rows: one a measurement, in the old record's order, then one a ratio of ours to theirs.
        differing: why no verdict is given: parts of the fingerprint and settings that are not the same; empty: verdicts
            are given.
        peers: peers of another version, or of one that a record does not know: nothing is held against them.
        only_old, only_new: measured in one of them.
        noise_known: whether one of the records has A/A runs, or the noise was given.
    """

    rows: tuple[Compared, ...]
    differing: tuple[str, ...]
    peers: tuple[str, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    noise_known: bool

    @property
    def regressed(self) -> tuple[str, ...]:
        """What is slower."""
        return tuple(row.name for row in self.rows if row.verdict == "slower")


def compare(old: Record, new: Record, *, noise: float | None = None) -> Comparison:
    """Compares.

    Args:
        old: the measure.
        new: what is judged.
        noise: how far two measurements of the same thing lie apart on this machine, as a share. Where there were A/A
            runs, the larger counts.

    Raises:
        BenchError: the records are of different benches or have nothing in common, or the noise is none.
    """
    if old.kind != new.kind:
        raise BenchError(f"one record is of bench {old.kind}, the other of bench {new.kind}; compare like with like")
    if noise is not None and not 0 <= noise < math.inf:
        raise BenchError(f"a noise of {noise}; expected a share such as 0.05")
    differing = _differing(old, new)
    both = {}
    for name, before in old.measurements.items():
        after = new.measurements.get(name)
        if before is not None and after is not None and before["unit"] == after["unit"]:
            both[name] = (before, after)
    changed = {name: versions for name in both if _theirs(name, *both[name]) and (versions := _changed(old, new, name))}
    rows: list[Compared | None] = []
    for name, (before, after) in both.items():
        found = [share for record in (old, new) if (share := record.noise.get(name)) is not None]
        known = [*found, *([] if noise is None else [noise])]
        threshold = max(LEAST, *known) if known else None
        why = "theirs" if _theirs(name, before, after) else "" if known else "no A/A runs"
        rows.append(_row(name, before["unit"], before["values"], after["values"], threshold, why))
    for ours, theirs in _pairs(old, both, changed):
        before, after = (_ratios(both[ours][at]["values"], both[theirs][at]["values"]) for at in (0, 1))
        rate = _is_rate(both[ours][0]["unit"])
        rows.append(_row(f"{ours} / {theirs}", "ratio", before, after, RATIO, "", rate=rate))
    told = [row for row in rows if row is not None]
    if not told:
        raise BenchError("the records have no measurement in common that could be compared")
    return Comparison(
        tuple(replace(row, verdict="", why="") for row in told) if differing else tuple(told),
        differing,
        tuple(dict.fromkeys(changed.values())),
        tuple(name for name in old.measurements if name not in new.measurements),
        tuple(name for name in new.measurements if name not in old.measurements),
        bool(old.noise or new.noise) or noise is not None,
    )


def _theirs(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return name in _THEIRS or before.get("ours") is False or after.get("ours") is False


def _changed(old: Record, new: Record, name: str) -> str:
    """The peer's versions, where they are not the same; else ""."""
    known = [{**(record.environment.get("packages") or {}), **_peers(record)} for record in (old, new)]
    wanted = _PACKAGE.get(name, name)
    packages = [each for each in known[0] | known[1] if wanted == each or wanted.startswith(f"{each}-")]
    told = [
        f"{each} {known[0].get(each)} and {known[1].get(each)}"
        for each in packages
        if known[0].get(each) != known[1].get(each)
    ]
    return ", ".join(told)


def _peers(record: Record) -> Mapping[str, Any]:
    found: Mapping[str, Any] = record.settings.get("peers") or {}
    return found


def _pairs(old: Record, both: Mapping[str, tuple[Any, Any]], changed: Mapping[str, str]) -> list[tuple[str, str]]:
    """Each of ours with the one of theirs that it is held against: the record's reference, else the first."""
    fixed = _PAIRS.get(old.kind)
    if fixed is not None:
        return [(ours, theirs) for ours, theirs in fixed.items() if ours in both and theirs in both]
    steady = [name for name, pair in both.items() if _theirs(name, *pair) and name not in changed]
    if not steady:
        return []
    reference = old.settings.get("reference")
    theirs = reference if reference in steady else steady[0]
    return [(name, theirs) for name, pair in both.items() if all(each.get("ours") is True for each in pair)]


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours by theirs, run by run; empty where the runs are no pairs, or one has no ratio."""
    if len(ours) != len(theirs) or not all(theirs):
        return []
    return [a / b for a, b in zip(ours, theirs, strict=True)]


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


def _is_rate(unit: str) -> bool:
    return unit.endswith("/s")


def _row(
    name: str,
    unit: str,
    old: Sequence[float],
    new: Sequence[float],
    threshold: float | None,
    why: str,
    *,
    rate: bool | None = None,
) -> Compared | None:
    """One row; `why` forestalls a verdict, `rate` says whether more is better where the unit does not."""
    if not old or not new or not all(0 < value < math.inf for value in (*old, *new)):
        return None  # no ratio of what is zero or less
    # a slowdown above 1 is worse in both: rates are turned round
    turn = -1 if (_is_rate(unit) if rate is None else rate) else 1
    slow, base = ([turn * math.log(value) for value in values] for values in (new, old))
    middle = _exp(statistics.median(slow) - statistics.median(base))
    bounds = _welch(slow, base)
    low, high = (None, None) if bounds is None else (_exp(bounds[0]), _exp(bounds[1]))
    verdict = "" if why == "theirs" else "cannot tell"
    if not why and threshold is not None:
        if low is None or high is None:
            why = "too few repeats"
        elif low > 1 + threshold:
            verdict = "slower"
        elif high * (1 + threshold) < 1:
            verdict = "faster"
        else:
            why = "within the noise"
    return Compared(
        name, unit, statistics.median(old), statistics.median(new), middle, low, high, threshold, verdict, why
    )


def _exp(power: float) -> float:
    """As far as a float goes."""
    return math.exp(max(min(power, 700.0), -700.0))


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
