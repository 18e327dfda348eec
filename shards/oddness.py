"""Which samples do not look like the others of their label, and in what.

Odd is what is far from the median of its label, in median absolute deviations (times 1.4826, which is one standard
deviation of a normal distribution), in the logarithm of one of: aspect (width by height), longer side, bytes a pixel,
and the distance of an 8 x 8 picture from the label's median picture. A near-duplicate with another label is odd
whatever it looks like, and so is what cannot be decoded.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.shard_set import ShardSet

__all__ = ["Odd", "oddness"]

_SIDE = 8
_ALWAYS = 1000.0  # the score of what is odd whatever it looks like
# The least that a deviation is taken for, a fifth: shops serve one size, so that the median deviation is zero.
_LEAST = 0.2


@dataclass(frozen=True, slots=True)
class Odd:
    """How odd every sample is.

    Args:
        scores: float64 (N,): the largest of its deviations.
        reasons: in words, for each sample; "" where nothing is odd about it.
    """

    scores: NDArray[np.float64]
    reasons: list[str]


def oddness(opened: ShardSet, *, look: bool = True) -> Odd:
    """How odd each sample is among those of its label.

    Args:
        opened: the set.
        look: compare the pictures too, which decodes them (0.3 ms each); without it the index is enough.
    """
    rows = opened.index.rows
    n = len(opened)
    scores, reasons = np.zeros(n), [""] * n
    width, height = (np.maximum(1, rows[side].astype(np.float64)) for side in ("width", "height"))
    features: dict[str, tuple[NDArray[np.float64], Callable[[float], str]]] = {
        "aspect": (width / height, lambda value: f"{value:.2f}"),
        "longer side": (np.maximum(width, height), lambda value: f"{value:,.0f}"),
        "bytes a pixel": (rows["size"] / (width * height), lambda value: f"{value:.2f}"),
    }
    labels = opened.label_ids
    broken: dict[int, str] = {}
    if look:
        distance, broken = _distances(opened)
        features["picture"] = (distance, lambda value: f"{value:.0f} levels")
    for name, (values, say) in features.items():
        logs = np.log(np.maximum(values, 1e-9))
        for label in range(len(opened.labels)):
            mine = np.flatnonzero((labels == label) & ((rows["width"] > 0) | (name == "picture")))
            if not len(mine):
                continue
            median = float(np.median(logs[mine]))
            away = np.abs(logs[mine] - median)
            scale = max(1.4826 * float(np.median(away)), _LEAST)
            for i in mine[(away / scale > np.maximum(scores[mine], 1.0))].tolist():
                scores[i] = abs(logs[i] - median) / scale
                what = "distance from the median picture" if name == "picture" else name
                usual = say(float(np.exp(median)))
                reasons[i] = f"{what} {say(float(values[i]))}, usual {usual} ({scores[i]:.1f} deviations)"
    for i, why in _mixed(opened).items():
        scores[i], reasons[i] = _ALWAYS, why
    for i, why in broken.items():
        scores[i], reasons[i] = 2 * _ALWAYS, why
    return Odd(scores, reasons)


def _distances(opened: ShardSet) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Mean distance of each 8 x 8 picture from its label's median picture in levels of 255; what cannot be decoded."""
    small = np.zeros((len(opened), _SIDE, _SIDE, 3), np.uint8)
    broken = {}
    for i in range(len(opened)):
        try:
            with warnings.catch_warnings(), Image.open(io.BytesIO(opened.image(i))) as image:
                warnings.simplefilter("ignore")
                image.draft("RGB", (2 * _SIDE, 2 * _SIDE))  # a JPEG is decoded at an eighth of its size
                plain = image.convert("RGBA")
                flat = Image.new("RGB", plain.size, "white")
                flat.paste(plain, mask=plain.getchannel("A"))
                small[i] = np.asarray(flat.resize((_SIDE, _SIDE), Image.Resampling.BOX))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            broken[i] = f"cannot be decoded: {error}"
    distance = np.ones(len(opened))
    for label in range(len(opened.labels)):
        mine = np.flatnonzero(opened.label_ids == label)
        if len(mine):
            median = np.median(small[mine], axis=0)
            distance[mine] = np.maximum(1.0, np.abs(small[mine] - median).mean(axis=(1, 2, 3)))
    return distance, broken


def _mixed(opened: ShardSet) -> dict[int, str]:
    """Samples of a group whose members have several labels: all but those of its most frequent one."""
    found = {}
    groups = opened.groups
    order = np.argsort(groups, kind="stable")
    for run in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(order) else ():
        counts = np.bincount(opened.label_ids[run])
        if np.count_nonzero(counts) < 2:
            continue
        usual = int(counts.argmax())
        for i in run.tolist():
            if opened.label_ids[i] != usual:
                other = next(j for j in run.tolist() if opened.label_ids[j] == usual)
                found[i] = f"a near-duplicate is {opened.labels[usual]}: {opened.key(other)}"
    return found
