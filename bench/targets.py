"""Whether what was measured reaches its target: by the bound of a 95 % interval, never by its middle. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.stats import Summary

__all__ = ["MISSED", "NOT_MEASURED", "NOT_PROVEN", "REACHED", "Target", "shortfall", "together"]

REACHED, MISSED, NOT_PROVEN, NOT_MEASURED = "reached", "missed", "not proven", "not measured"

_MET = {REACHED: True, MISSED: False}


@dataclass(frozen=True, slots=True)
class Target:
    """What a measurement or ratio is to reach: at least `value`, or at most if `below`."""

    value: float
    below: bool = False

    def verdict(self, found: Summary) -> str:
        """REACHED where the whole interval does, MISSED where none of it does, else NOT_PROVEN: so for one value."""
        if self.below:
            return REACHED if found.high <= self.value else MISSED if found.low > self.value else NOT_PROVEN
        return REACHED if found.low >= self.value else MISSED if found.high < self.value else NOT_PROVEN

    def to_json(self, found: Summary | None) -> dict[str, Any]:
        """One entry of a verdict's `targets`; `met` is null where it is not proven or, `found` None, not measured."""
        verdict = NOT_MEASURED if found is None else self.verdict(found)
        return {
            "value": self.value, "below": self.below, "found": None if found is None else found.median,
            "ci95": None if found is None else found.to_json()["ci95"], "met": _MET.get(verdict), "verdict": verdict,
        }  # fmt: skip


def together(verdicts: Iterable[str]) -> str:
    """Of several: "missed" if one is, else "not proven" if one is, else "met"; what was not measured does not count."""
    found = set(verdicts)
    return next((one for one in (MISSED, NOT_PROVEN) if one in found), "met")


def shortfall(targets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What of a verdict's `targets` is not reached, in words: "missed: a, b", "not proven: c"."""
    found = {word: [name for name, one in targets.items() if one["verdict"] == word] for word in (MISSED, NOT_PROVEN)}
    return [f"{word}: {', '.join(names)}" for word, names in found.items() if names]
