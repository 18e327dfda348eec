"""Does a map mean anything? The same map of the same net with random weights answers (Adebayo et al. 2018, 1810.03292).

A map that looks alike whatever the weights are shows the image, not what was learned: an edge detector does that.
Weights are drawn anew all at once, several times, and from the head downwards, module after module.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

__all__ = ["Sanity", "judge", "spearman", "ssim"]

Floats = NDArray[np.float32]
Verdict = Literal["learned", "partly", "image", "empty"]

LEARNED, IMAGE = 0.4, 0.7
"""Rank correlations with random weights' maps up to which a map is called learned, and from which it is the image's.

The paper has no thresholds. At 0.4 the two maps share a sixth of their ranks' variance, at 0.7 half of it.
"""

_STEPS = 4
"""Most modules that are drawn anew one after another; a net of more is taken in this many groups."""


@dataclass(frozen=True, slots=True)
class Step:
    """Maps after the modules down to `name` were drawn anew: mean rank correlation and SSIM with the trained net's."""

    name: str
    correlation: float
    ssim: float


@dataclass(frozen=True, slots=True)
class Sanity:
    """What random weights did to a method's maps.

    Args:
        method: whose maps.
        images, draws: how many images, and how often all weights were drawn.
        correlation: mean rank correlation (Spearman) of the trained net's maps with those of random weights; ci95: its
            95 % interval over the images (normal).
        ssim: mean structural similarity of the two maps' strengths, as the eye sees them.
        steps: from the head downwards.
        verdict: learned, partly, image, or empty (the trained net's maps are blank).
        said: the same in words.
    """

    method: str
    images: int
    draws: int
    correlation: float
    ci95: tuple[float, float]
    ssim: float
    steps: tuple[Step, ...]
    verdict: Verdict
    said: str

    def to_json(self) -> dict[str, Any]:
        """As an object of JSON."""
        return {**asdict(self), "ci95": list(self.ci95), "steps": [asdict(step) for step in self.steps]}


def judge(
    method: str,
    maps_of: Callable[[nn.Module], Floats],
    trained: nn.Module,
    fresh: Callable[[int], nn.Module],
    *,
    counted: NDArray[np.bool_] | None = None,
    draws: int = 3,
) -> Sanity:
    """Holds a method's maps against those of random weights.

    Args:
        maps_of: maps float32 (B, S, S) of fixed images for fixed labels, by a given net.
        trained: the net.
        fresh: a net of the same kind with weights drawn from a seed.
        counted: pixels that are compared, bool (B, S, S); all by default. Where a map is zero for any weights
            (integrated gradients on the baseline's colour) agreement says nothing.
        draws: how often all weights are drawn.
    """
    ours = maps_of(trained)
    kept = np.array([float(np.ptp(each)) > 0 for each in ours], bool)
    if not kept.any():
        said = "The maps are blank: nothing in these images moves the answer."
        return Sanity(method, len(ours), draws, 0.0, (0.0, 0.0), 0.0, (), "empty", said)
    known = [bool(each) for each in kept]

    def alike(net: nn.Module) -> tuple[Floats, Floats]:
        theirs = maps_of(net)
        rows = [i for i, keep in enumerate(known) if keep]
        ranks = [_correlation(ours[i], theirs[i], None if counted is None else counted[i]) for i in rows]
        return np.array(ranks, np.float32), np.array([ssim(ours[i], theirs[i]) for i in rows], np.float32)

    pairs = [alike(fresh(seed)) for seed in range(draws)]
    each = np.mean([ranks for ranks, _ in pairs], 0)  # by image
    mean, half = float(each.mean()), float(1.96 * each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else 1.0
    seen = float(np.mean([structure for _, structure in pairs]))
    steps = []
    for name, net in _downwards(trained, fresh(draws)):
        ranks, structure = alike(net)
        steps.append(Step(name, float(ranks.mean()), float(structure.mean())))
    verdict = _verdict(mean)
    return Sanity(
        method, len(each), draws, mean, (max(-1.0, mean - half), min(1.0, mean + half)), seen, tuple(steps), verdict,
        _said(verdict, mean, seen),
    )  # fmt: skip


def _verdict(correlation: float) -> Verdict:
    if correlation >= IMAGE:
        return "image"
    return "learned" if correlation <= LEARNED else "partly"


def _said(verdict: Verdict, correlation: float, structure: float) -> str:
    rank = f"rank correlation {correlation:.2f}, where 1 is the same map and 0 is chance"
    if verdict == "image":
        return (
            f"Means nothing here: with random weights the maps are nearly the same ({rank}). They show the image, not "
            "what the net learned."
        )
    if verdict == "partly":
        return (
            f"To be read with care: with random weights the maps stay half alike ({rank}). Part of them is the image's "
            "own shape."
        )
    said = f"Shows what was learned: with random weights the maps are others ({rank})."
    if structure >= 0.5:
        said += (
            f" But the outline stays (SSIM {structure:.2f}): it is the product's own and would be there for any net. "
            "Read the signs and where it is strongest, not the shape."
        )
    return said


def _downwards(trained: nn.Module, drawn: nn.Module) -> list[tuple[str, nn.Module]]:
    """The trained net with more and more of its modules from the drawn one, from the last to the first."""
    names = [name for name, child in trained.named_children() if next(iter(child.parameters()), None) is not None]
    names.reverse()
    groups = [list(group) for group in np.array_split(np.array(names), min(_STEPS, len(names)))]
    other, net, made = dict(drawn.named_children()), copy.deepcopy(trained), []
    for group in groups:
        for name in group:
            getattr(net, str(name)).load_state_dict(other[str(name)].state_dict())
        made.append((str(group[-1]), copy.deepcopy(net)))
    return made


def _correlation(first: Floats, second: Floats, counted: NDArray[np.bool_] | None) -> float:
    if counted is not None:
        first, second = first[counted], second[counted]
    return spearman(first.ravel(), second.ravel())


def spearman(first: Floats, second: Floats) -> float:
    """Rank correlation, equal values sharing their mean rank; 0 where one of them is constant."""
    if not len(first):
        return 0.0
    ranks = [_ranks(values) for values in (first, second)]
    centred = [values - values.mean() for values in ranks]
    scale = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / scale if scale > 0 else 0.0


def _ranks(values: Floats) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    upto = np.cumsum(counts)
    ranks: NDArray[np.float64] = ((2 * upto - counts + 1) / 2)[place]
    return ranks


def ssim(first: Floats, second: Floats, window: int = 7) -> float:
    """Structural similarity (Wang et al. 2004) of two maps' strengths |x| / max |x|, flat window; 1 is the same."""
    pair = torch.from_numpy(np.stack([_strength(first), _strength(second)]))[:, None].double()
    window = min(window, pair.shape[2] // 2 * 2 - 1, pair.shape[3] // 2 * 2 - 1)
    mean = functional.avg_pool2d(pair, window, 1)
    squared = functional.avg_pool2d(pair**2, window, 1)
    product = functional.avg_pool2d(pair[:1] * pair[1:], window, 1)[0]
    variance, both = squared - mean**2, product - mean[0] * mean[1]
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean[0] * mean[1] + c1) * (2 * both + c2)
    return float((top / ((mean[0] ** 2 + mean[1] ** 2 + c1) * (variance[0] + variance[1] + c2))).mean())


def _strength(values: Floats) -> Floats:
    strength = np.abs(values)
    most = float(strength.max())
    return (strength / most if most > 0 else strength).astype(np.float32)
