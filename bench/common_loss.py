"""Two runs' validation curves held against each other: how soon is each as good as both become? Pure.

A run that ends on a worse model may well be there sooner; so each pair of runs is timed to one loss that both reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.stats import Summary, ratio, summarise

__all__ = ["Best", "Common", "best_of", "common_loss", "time_to"]

Curve = Sequence[Mapping[str, Any]]
"""An epoch a line: `epoch`, `val_loss`, and `ended_s`, seconds from the process's start to its validation's end."""


@dataclass(frozen=True, slots=True)
class Best:
    """The epoch with a curve's lowest validation loss, the first of several: its loss, number and end in seconds."""

    loss: float
    epoch: int
    ended_s: float


def best_of(curve: Curve) -> Best:
    """The best epoch of a curve."""
    line = min(curve, key=lambda line: float(line["val_loss"]))
    return Best(float(line["val_loss"]), int(line["epoch"]), float(line["ended_s"]))


def time_to(curve: Curve, loss: float) -> float:
    """Seconds to the end of the first epoch whose validation loss is `loss` or lower.

    Raises:
        ValueError: the curve never comes so low.
    """
    for line in curve:
        if line["val_loss"] <= loss:
            return float(line["ended_s"])
    raise ValueError(f"no epoch of this run has a validation loss of {loss:g}")


@dataclass(frozen=True, slots=True)
class Common:
    """What pairs of runs say, ours[k] beside theirs[k] of the same seed.

    Attributes:
        losses: of each pair the higher of both best losses: max(min ours, min theirs).
        ours_s, theirs_s: seconds until each side first was at that loss or below.
        sooner: theirs_s / ours_s, pair by pair.
        apart: our best loss less theirs, pair by pair; above 0 our best model is the worse one.
        ours, theirs: medians of the best losses.
    """

    losses: tuple[float, ...]
    ours_s: Summary
    theirs_s: Summary
    sooner: Summary
    apart: Summary
    ours: float
    theirs: float

    @property
    def sentence(self) -> str:
        """How much sooner, to which loss, and whose best model is the worse one, if that is more than noise."""
        middle = summarise(self.losses).median
        told = f"a common validation loss ({middle:.3g}) is reached {self.sooner.median:.2f} times sooner"
        if self.apart.low > 0:
            return f"{told}; that is our best, the worse of both: the plain loop goes on to {self.theirs:.3g}"
        if self.apart.high < 0:
            return f"{told}; that is the plain loop's best, the worse of both: ours goes on to {self.ours:.3g}"
        best = f"best losses of {self.ours:.3g} and the plain loop's {self.theirs:.3g}"
        if len(self.losses) == 1:
            return f"{told}; {best} are of one repeat, which does not say whose model is better"
        return f"{told}; {best} are not apart beyond noise ({self.apart.low:+.3g} to {self.apart.high:+.3g})"


def common_loss(ours: Sequence[Curve], theirs: Sequence[Curve]) -> Common:
    """Holds pairs of runs against each other.

    Raises:
        ValueError: the sides have different numbers of runs, or none.
    """
    pairs = [(best_of(a).loss, best_of(b).loss) for a, b in zip(ours, theirs, strict=True)]
    losses = [max(pair) for pair in pairs]
    ours_s = [time_to(curve, loss) for curve, loss in zip(ours, losses, strict=True)]
    theirs_s = [time_to(curve, loss) for curve, loss in zip(theirs, losses, strict=True)]
    return Common(
        tuple(losses),
        summarise(ours_s),
        summarise(theirs_s),
        ratio(theirs_s, ours_s),
        summarise([a - b for a, b in pairs]),
        summarise([a for a, _ in pairs]).median,
        summarise([b for _, b in pairs]).median,
    )
