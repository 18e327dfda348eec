"""From windows to a decomposition, a roofline and what-ifs. Pure: reads no clock and no file.

Per image, with t the seconds of a mode and a repeat's own values taken together:

    step         t(synthetic)
    contention   t(shadow) - t(synthetic): the step while the loader works beside it
    copy         t(replayed) - t(synthetic)
    preparation  what else of an epoch the step waited for its batch. Where the host waits for the step (a CPU, or a
                 stand-in) that is timed in place; on a GPU it is t(warm) - t(shadow) - copy.
    unexplained  t(warm) less all of these; on a GPU there is no second way to know it, so it is None
    fetch        t(cold) - t(warm), which cold epochs pay on top

The prediction of a change is max(step' + contention' + copy', supply', cpu'/cores) + jitter': a pipeline runs at its
slowest part, parts that share cores add up there, and a loader with less to do slows the step less. Jitter is what the
step waited although the loader is fast enough on the whole; it goes as the loader's time goes. Contention, copy and
jitter are differences that overlap: where they sum to more than an epoch took, they are scaled down to it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.stats import Summary, summarise

__all__ = [
    "AGREES",
    "PARTS",
    "PREPARING",
    "Change",
    "Evidence",
    "Prediction",
    "Roof",
    "agreement",
    "decompose",
    "exposed",
    "predict",
    "resupplied",
    "roofline",
]

PARTS = ("step", "contention", "copy", "preparation", "unexplained")
PREPARING = ("untar", "read", "decode", "collate", "dataset")


@dataclass(frozen=True)
class Evidence:
    """Everything a verdict is drawn from.

    Attributes:
        seconds: mode -> seconds an image, one value a repeat; a mode that was not measured is absent.
        waits: seconds an image that the warm epochs' step waited for its batch, copy included, one a repeat.
        cpu: mode -> CPU seconds an image, medians.
        ladder: stage -> seconds an image of that stage alone.
        steps: fewest steps of any window.
        host_step: whether the host waits for each step.
        resident: whether the decoded set lay on the device.
        foreign: whether the loader is somebody's own: what it reads is not known.
        warm_read, cold_read: bytes fetched from the disk over those of the parts of tars walked; None: not known.
        workers: (idle, all) of a loader's processes; None: it has none.
        shards: how many the loader reads; None: not known.
        alone: seconds an image of somebody's stages one after the other in one process; None: not known.
        restarts: whether somebody's loader starts its workers anew every epoch.
        disk: images/s of the evicted shards read in a row; None: not known.
        cores: that this process may use.
        decoded_in: where a run of ours decodes, such as "2 processes".
    """

    seconds: Mapping[str, Sequence[float]]
    waits: Sequence[float]
    cpu: Mapping[str, float]
    ladder: Mapping[str, float]
    steps: int
    host_step: bool = True
    resident: bool = False
    foreign: bool = False
    warm_read: float | None = None
    cold_read: float | None = None
    workers: tuple[int, int] | None = None
    shards: int | None = None
    alone: float | None = None
    restarts: bool = False
    disk: float | None = None
    cores: int = 1
    decode_device: str = "cpu"
    decoded_in: str = "its threads"

    @property
    def repeats(self) -> int:
        """Of the mode that has fewest."""
        return min((len(values) for values in self.seconds.values()), default=0)


def decompose(evidence: Evidence) -> dict[str, Summary | None]:
    """Seconds an image of each of PARTS, and of "fetch" and "epoch"; None is "not measured"."""
    seconds = evidence.seconds
    if not {"synthetic", "warm"} <= seconds.keys():
        return dict.fromkeys((*PARTS, "fetch", "epoch"))
    step, warm = seconds["synthetic"], seconds["warm"]
    copy = _less(seconds["replayed"], step) if "replayed" in seconds and not evidence.resident else [0.0] * len(step)
    copy = [max(value, 0.0) for value in copy]
    beside = _less(seconds["shadow"], step) if "shadow" in seconds else None
    whole = list(evidence.waits) if evidence.host_step else _less(warm, seconds.get("shadow", step))
    copy = [min(one, max(all_, 0.0)) for one, all_ in zip(copy, whole, strict=True)]
    preparation = [max(all_ - one, 0.0) for all_, one in zip(whole, copy, strict=True)]
    parts: dict[str, Summary | None] = {
        "step": summarise(step),
        "contention": None if beside is None else summarise(beside),
        "copy": summarise(copy) if "replayed" in seconds else None,
        "preparation": summarise(preparation),
        "unexplained": None,
        "fetch": summarise(_less(seconds["cold"], warm)) if "cold" in seconds else None,
        "epoch": summarise(warm),
    }
    if evidence.host_step and beside is not None:
        rest = [w - wait - s - b for w, wait, s, b in zip(warm, whole, step, beside, strict=True)]
        parts["unexplained"] = summarise(rest)
    return parts


def _less(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(a, b, strict=True)]


def exposed(evidence: Evidence) -> Summary:
    """Share of warm epochs that the step waited for its input, copy included, one value a repeat.

    Raises:
        ValueError: warm or synthetic was not measured.
    """
    warm = evidence.seconds["warm"]
    if evidence.host_step:
        return summarise([wait / whole for wait, whole in zip(evidence.waits, warm, strict=True)])
    alone = evidence.seconds.get("shadow", evidence.seconds["synthetic"])
    return summarise([1 - one / whole for one, whole in zip(alone, warm, strict=True)])


@dataclass(frozen=True, slots=True)
class Roof:
    """One ceiling of the input path, images/s; `about` says what it is."""

    name: str
    rate: float
    about: str


def roofline(evidence: Evidence) -> list[Roof]:
    """The ceilings, lowest first: no epoch is faster than the first, and the second says what removing it brings."""
    median = {mode: statistics.median(values) for mode, values in evidence.seconds.items()}
    ladder, roofs = evidence.ladder, []
    if evidence.disk:
        roofs.append(Roof("disk", evidence.disk, "the shards read in a row, out of a cold cache"))
    if ladder.get("read") and not evidence.resident:
        roofs.append(Roof("read", 1 / ladder["read"], "encoded images brought into memory, warm"))
    if "synthetic" in evidence.cpu and "drained" in evidence.cpu:
        together = evidence.cpu["synthetic"] + evidence.cpu["drained"]
        if together > 0:
            roofs.append(Roof("cores", evidence.cores / together, f"all CPU work on {evidence.cores} cores"))
    if ladder.get("decode") and not evidence.resident:
        where = "on the GPU" if evidence.decode_device == "cuda" else f"in {evidence.decoded_in}, as the run does"
        roofs.append(Roof("decode", 1 / ladder["decode"], f"decoding alone, {where}"))
    if ladder.get("dataset"):
        roofs.append(Roof("dataset", 1 / ladder["dataset"], "what the dataset does for its samples, in all workers"))
    if ladder.get("collate", 0) > 1e-9 and not evidence.resident:
        roofs.append(Roof("collate", 1 / ladder["collate"], "batches put together"))
    if ladder.get("copy"):
        roofs.append(Roof("copy", 1 / ladder["copy"], "batches brought into the step's buffers"))
    if "drained" in median:
        name = "gather" if evidence.resident else "supply"
        roofs.append(Roof(name, 1 / median["drained"], "the whole loader without a step"))
    if "synthetic" in median:
        roofs.append(Roof("model", 1 / median["synthetic"], "the step alone, on a batch that is there"))
    return sorted(roofs, key=lambda roof: roof.rate)


@dataclass(frozen=True, slots=True)
class Change:
    """Something that might help.

    Attributes:
        name: in words.
        settings: keys of the run file that make it.
        step, copy, supply: seconds an image afterwards; None: as measured.
        cpu: CPU seconds an image afterwards; None: as measured.
        beside: the loader's CPU time afterwards, as a share of what it takes now.
    """

    name: str
    settings: Mapping[str, object] = field(default_factory=dict)
    step: float | None = None
    copy: float | None = None
    supply: float | None = None
    cpu: float | None = None
    beside: float = 1.0


def resupplied(supply: float, decode: float, share: float) -> float:
    """Seconds an image of a loader whose decoding takes `share` of the time it takes now.

    Decoding is at most all that the loader does: what a noisy machine measured beyond that is none of it.
    """
    decoding = min(decode, supply)
    return supply - decoding + decoding * share


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a change would bring: images/s and the gain over now (1 is none), each with an interval."""

    name: str
    settings: Mapping[str, object]
    rate: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float


@dataclass(frozen=True, slots=True)
class _Now:
    """The model of a run as it is, seconds an image; `missed`: how far it was off before it was fitted, as a share."""

    step: float
    beside: float
    copy: float
    jitter: float
    supply: float
    work: float
    rest: float
    missed: float

    @classmethod
    def of(
        cls, step: float, beside: float, copy: float, waited: float, supply: float, work: float, measured: float
    ) -> _Now:
        """What the model says too much goes off the loader's parts, what it says too little is the rest."""
        beside = max(beside, 0.0)
        jitter = max(waited - max(supply - step - beside - copy, 0.0), 0.0)
        base = max(step + beside + copy, supply, work) + jitter
        missed = abs(base - measured) / measured
        if (loader := beside + copy + jitter) > 0:
            kept = 1 - min(max(base - measured, 0.0) / loader, 1.0)
            beside, copy, jitter = beside * kept, copy * kept, jitter * kept
        base = max(step + beside + copy, supply, work) + jitter
        return cls(step, beside, copy, jitter, supply, work, max(measured - base, 0.0), missed)

    def gain(self, change: Change, middle: _Now, cores: int) -> float:
        """Over now; `middle` has the medians, which the change was measured against."""
        step = self.step if change.step is None else change.step * self.step / middle.step
        supply = self.supply if change.supply is None else change.supply * self.supply / middle.supply
        copy = self.copy if change.copy is None else change.copy
        work = self.work if change.cpu is None else change.cpu / cores
        after = max(step + self.beside * change.beside + copy, supply, work)
        after += self.jitter * min(supply / self.supply, 1.0)
        # Where the model still says too much, only its ratio is believed.
        now = max(self.step + self.beside + self.copy, self.supply, self.work) + self.jitter
        return (now + self.rest) / (after + self.rest)


def predict(evidence: Evidence, changes: Sequence[Change]) -> list[Prediction]:
    """Predicts each change, best first.

    The model is held against what was measured as it is now. What it says too much goes off the parts that the loader
    makes, which overlap; what it says too little stays on top after a change. A gain's interval is that of the gains of
    the repeats, each of which has a mood of its own, and as much wider as the model missed by.
    """
    parts, warm = decompose(evidence), evidence.seconds["warm"]
    steps, supplies = evidence.seconds["synthetic"], evidence.seconds["drained"]
    beside, copy, waited = (
        part.values if (part := parts[name]) else (0.0,) * len(warm) for name in ("contention", "copy", "preparation")
    )
    work = (evidence.cpu.get("synthetic", 0.0) + evidence.cpu.get("drained", 0.0)) / evidence.cores
    each = zip(steps, beside, copy, waited, supplies, warm, strict=True)
    repeats = [_Now.of(one, b, c, w, supply, work, whole) for one, b, c, w, supply, whole in each]
    median = statistics.median
    measured = median(warm)
    middle = _Now.of(median(steps), median(beside), median(copy), median(waited), median(supplies), work, measured)
    found = []
    for change in changes:
        gain = middle.gain(change, middle, evidence.cores)
        gains = summarise([one.gain(change, middle, evidence.cores) for one in repeats])
        spread = (gains.high - gains.low) / (2 * gains.median)
        error = min(middle.missed + spread, 0.95)
        bounds = gain * (1 - error), gain / (1 - error)
        low, high = (bound / measured for bound in bounds)
        found.append(Prediction(change.name, change.settings, gain / measured, low, high, gain, *bounds))
    return sorted(found, key=lambda prediction: -prediction.gain)


AGREES = "agrees"


_TELLS = 2.0  # the ends of an interval that tells something are not further apart


def agreement(predicted: tuple[float, float], measured: Summary) -> str:
    """Of a predicted gain: "agrees" where its interval and the measured one meet, else "too high" or "too low".

    "cannot tell" where they meet because one of them is so wide that it meets nearly everything.
    """
    low, high = predicted
    if low > measured.high:
        return "too high"
    if high < measured.low:
        return "too low"
    wide = high > _TELLS * low or measured.high > _TELLS * measured.low
    return "cannot tell" if wide else AGREES
