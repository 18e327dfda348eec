"""From rates to a sentence: which ceiling binds, how far off the next one is, and whether the step waits for its input.

Pure: reads no clock and no file. The thresholds are those of TensorFlow's input-pipeline analyser (5 % and 20 % of the
time spent waiting), taken on the interval rather than on the point.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.model import PREPARING, Evidence, decompose, exposed
from bench.stats import Summary

__all__ = ["OPEN", "RULES", "Verdict", "judge", "verdict"]

INPUT_BOUND, INPUT_LIMITED = 0.20, 0.05
UNEXPLAINED, CONTENDED = 0.10, 0.05
ROUNDS = 5
STEPS = 20
HANDED = 1.5
"""A loader with workers that is so many times slower than its stages in one process is not slow for their sake."""
COLD, WARM = 0.95, 0.05
"""A cold run read at least this share of the bytes it walked from the device, a warm one at most that."""

_ADVICE = {
    "step": "a faster device, lower precision or a compiled step would help; a faster loader would not",
    "gather": "larger batches, or fewer bytes a pixel, would help",
    "decode": "more cores for decoding, or a decoded set that stays resident, would help",
    "read": "a faster disk, or a set that fits the page cache, would help",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the numbers say.

    Attributes:
        name: COMPUTE_BOUND, INPUT_LIMITED, INPUT_BOUND, UNDECIDED or INSUFFICIENT; `judge` also has UNEXPLAINED and
            CONTENDED.
        binding: the stage with the lowest ceiling on the path the epochs took; empty: it is not known.
        waiting: share of the epoch the step did not run, (low, high), clipped to [0, 1].
        sentence: the evidence and the next thing to do.
    """

    name: str
    binding: str
    waiting: tuple[float, float]
    sentence: str


def verdict(pace: Summary, ceilings: Mapping[str, Summary], *, resident: bool, steps: int) -> Verdict:
    """Judges a run.

    Args:
        pace: rate of the run's epochs over that of the bare step, one ratio a round: both of a round share the
            machine's mood, which independent intervals would count twice.
        ceilings: images/s of each stage alone: "read", "decode", "gather", "step". An epoch over a resident set passes
            only "gather" and "step"; a streaming one passes "read", "decode" and "step".
        resident: whether the decoded set lay on the device.
        steps: fewest of any measurement of the step or of epochs.
    """
    path = ("gather", "step") if resident else ("read", "decode", "step")
    binding = min(path, key=lambda stage: ceilings[stage].median)
    if len(pace.values) < ROUNDS:
        few = f"{len(pace.values)} rounds; a verdict needs {ROUNDS}"
        return Verdict("INSUFFICIENT", binding, (0.0, 1.0), f"INSUFFICIENT: {few} (--repeats)")
    if steps < STEPS:
        few = f"{steps} steps in the shortest window; a verdict needs {STEPS} (--seconds)"
        return Verdict("INSUFFICIENT", binding, (0.0, 1.0), f"INSUFFICIENT: {few}")
    low, high = (min(max(1 - share, 0.0), 1.0) for share in (pace.high, pace.low))
    if low >= INPUT_BOUND:
        name = "INPUT_BOUND"
    elif high < INPUT_LIMITED:
        name = "COMPUTE_BOUND"
    elif low >= INPUT_LIMITED and high < INPUT_BOUND:
        name = "INPUT_LIMITED"
    else:
        name = "UNDECIDED"
    if name in ("INPUT_BOUND", "INPUT_LIMITED") and binding == "step":
        # Alone every input stage is faster, and yet the step waits: they run in series with it, or share its cores.
        binding = min((stage for stage in path if stage != "step"), key=lambda stage: ceilings[stage].median)
    shares = {stage: ceilings[stage].median / ceilings["step"].median for stage in path if stage != "step"}
    nearest = min(shares, key=lambda stage: shares[stage])
    speed = f"epochs run at {pace.median:.0%} of the bare step"
    held = f"{speed}, which waits {low:.0%} to {high:.0%} of the time"
    advice = f"the interval crosses a line: {held}" if name == "UNDECIDED" else f"{held}; {_ADVICE[binding]}"
    rate = f"{nearest} alone runs at {shares[nearest]:.3g} times the step's rate"
    return Verdict(name, binding, (low, high), f"{name}: the {binding} binds ({rate}); {advice}")


@dataclass(frozen=True, slots=True)
class _Case:
    """What the rules look at, all of it intervals over repeats."""

    lacking: str
    waiting: Summary
    rest: tuple[float, float]
    beside: tuple[float, float]


RULES: tuple[tuple[str, Callable[[_Case], bool]], ...] = (
    ("INSUFFICIENT", lambda case: bool(case.lacking)),
    ("INPUT_BOUND", lambda case: case.waiting.low >= INPUT_BOUND),
    ("UNEXPLAINED", lambda case: case.rest[0] > UNEXPLAINED or case.rest[1] < -UNEXPLAINED),
    ("INPUT_LIMITED", lambda case: case.waiting.low >= INPUT_LIMITED and case.waiting.high < INPUT_BOUND),
    ("CONTENDED", lambda case: case.beside[0] >= CONTENDED),
    ("COMPUTE_BOUND", lambda case: case.waiting.high < INPUT_LIMITED),
    ("UNDECIDED", lambda case: True),
)
"""First match. Lines are crossed by the bound of an interval, never by its middle."""

OPEN = ("UNDECIDED", "UNEXPLAINED")
"""What more repeats may change."""

_NEXT = {
    "untar": "larger batches, or fewer and larger shards, would help",
    "read": "a faster disk, or a set that fits the page cache or stays resident, would help",
    "decode": "a faster decoder, more cores, or a decoded set that stays resident, would help",
    "collate": "putting batches together in the workers, or into a buffer that is reused, would help",
    "dataset": "what the dataset does for a sample is the cost: more workers, or a faster decoder in it, would help",
    "copy": "pinned memory, fewer bytes a pixel (uint8), or a set that stays on the device, would help",
    "gather": "larger batches, or fewer bytes a pixel, would help",
    "shards": "write at least as many shards as there are workers, or use fewer workers",
    "workers": "workers stand idle: give each of them something to read, or use fewer",
    "restarts": "they start anew every epoch: persistent_workers=True, longer epochs, or no workers at all would help",
    "handing": "less to hand over (uint8, smaller batches), or no workers at all, would help",
    "loader": "the loader is slower than the step: more workers, or less work a sample, would help",
    "step": "a faster device, lower precision or a compiled step would help; a faster loader would not",
    "cores": "the loader takes cores from the step: fewer decoding threads, or a resident set, would help",
}


def judge(evidence: Evidence) -> Verdict:
    """Judges the differential set by RULES, names what binds, and says the next thing to do."""
    lacking = _lacking(evidence)
    if not {"synthetic", "warm"} <= evidence.seconds.keys():
        return Verdict("INSUFFICIENT", "", (0.0, 1.0), f"INSUFFICIENT: {lacking}")
    parts, waiting = decompose(evidence), exposed(evidence)
    whole = parts["epoch"].median if parts["epoch"] else 1.0
    beside = _share(parts["contention"], whole)
    if evidence.host_step and evidence.decode_device == "cpu":
        # A loader takes no more from the step than it works: on a crowded machine the rest is others' doing.
        most = evidence.cpu.get("drained", whole) / whole
        beside = (min(beside[0], most), min(beside[1], most))
    case = _Case(lacking, waiting, _share(parts["unexplained"], whole), beside)
    name = next(name for name, holds in RULES if holds(case))
    low, high = (min(max(bound, 0.0), 1.0) for bound in (waiting.low, waiting.high))
    binding = _binding(name, evidence, parts)
    held = f"the step waits {low:.0%} to {high:.0%} of an epoch for its input"
    if name == "INSUFFICIENT":
        return Verdict(name, "", (low, high), f"{name}: {lacking}")
    if name == "UNEXPLAINED":
        rest = f"{case.rest[0]:+.0%} to {case.rest[1]:+.0%}"
        sentence = f"{held}, and nothing measured explains {rest} of it: measure longer, on a machine that is quiet"
    elif name == "UNDECIDED":
        sentence = f"{held}, and the interval crosses a line: about {_needed(waiting)} repeats would tell"
    elif name == "CONTENDED":
        slower = f"{case.beside[0]:.0%} to {case.beside[1]:.0%}"
        sentence = f"{held}, but runs {slower} slower beside the loader; {_NEXT[binding]}"
    elif name == "COMPUTE_BOUND":
        sentence = f"{held}: the step binds; {_NEXT[binding]}"
    else:
        sentence = f"{held}, most of it for {_why(binding, evidence)}; {_NEXT[binding]}"
    if evidence.foreign:
        sentence += " (cache not known: what the loader reads is its own affair)"
    return Verdict(name, binding, (low, high), f"{name}: {sentence}")


def _lacking(evidence: Evidence) -> str:
    """Why there can be no verdict, in words; empty where there can."""
    missing = [mode for mode in ("synthetic", "warm", "drained") if mode not in evidence.seconds]
    if missing:
        return f"not measured: {', '.join(missing)}"
    if evidence.repeats < ROUNDS:
        return f"{evidence.repeats} repeat{'s' * (evidence.repeats != 1)}; a verdict needs {ROUNDS} (--repeats)"
    if evidence.steps < STEPS:
        return f"{evidence.steps} steps in the shortest window; a verdict needs {STEPS} (--seconds)"
    if evidence.warm_read is not None and evidence.warm_read > WARM:
        return (
            f"cache_unverified: warm epochs fetched {evidence.warm_read:.0%} of their bytes from the disk; the set "
            "does not stay in the page cache"
        )
    return ""


def _share(part: Summary | None, whole: float) -> tuple[float, float]:
    return (0.0, 0.0) if part is None else (part.low / whole, part.high / whole)


def _binding(name: str, evidence: Evidence, parts: Mapping[str, Summary | None]) -> str:
    if name == "COMPUTE_BOUND":
        return "step"
    if name == "CONTENDED":
        return "cores"
    if name not in ("INPUT_BOUND", "INPUT_LIMITED"):
        return ""
    if evidence.resident:
        return "gather"
    copy, preparation = (parts[part].median if parts[part] else 0.0 for part in ("copy", "preparation"))  # type: ignore[union-attr]
    if copy > preparation:
        return "copy"
    if evidence.workers is not None and evidence.workers[0]:
        return "shards" if evidence.shards is not None and evidence.shards < evidence.workers[1] else "workers"
    if evidence.alone is not None and _supply(evidence) > HANDED * evidence.alone:
        return "restarts" if evidence.restarts else "handing"
    ladder = {stage: spent for stage, spent in evidence.ladder.items() if stage in PREPARING}
    return max(ladder, key=lambda stage: ladder[stage]) if ladder else "loader"


def _supply(evidence: Evidence) -> float:
    """Seconds an image of the loader without a step."""
    return statistics.median(evidence.seconds["drained"])


def _why(binding: str, evidence: Evidence) -> str:
    """The binding stage with its evidence."""
    if binding in ("restarts", "handing") and evidence.alone is not None:
        what = "its workers to start" if binding == "restarts" else "what its workers made to be handed over"
        faster = _supply(evidence) / evidence.alone
        return f"{what}: its stages one after the other in one process are {faster:.1f} times as fast"
    if binding in ("shards", "workers") and evidence.workers is not None:
        idle, all_ = evidence.workers
        told = "" if evidence.shards is None else f" over {evidence.shards} shard{'' if evidence.shards == 1 else 's'}"
        return f"workers, {idle} of {all_} of which did nothing{told}"
    ladder = {stage: spent for stage, spent in evidence.ladder.items() if stage in PREPARING}
    if binding in ladder and sum(ladder.values()) > 0:
        return f"{binding}, {ladder[binding] / sum(ladder.values()):.0%} of what a batch costs to prepare"
    return f"the {binding}"


def _needed(waiting: Summary) -> int:
    """Repeats after which the interval would no longer cross the line it crosses: its width goes with their root."""
    half, middle = (waiting.high - waiting.low) / 2, (waiting.high + waiting.low) / 2
    apart = min(abs(middle - line) for line in (INPUT_BOUND, INPUT_LIMITED))
    if not math.isfinite(half) or apart <= 0:
        return 100
    return min(max(len(waiting.values) + 1, math.ceil(len(waiting.values) * (half / apart) ** 2)), 1000)
