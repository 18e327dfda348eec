"""From rates to a sentence: which ceiling binds, how far off the next one is, and whether the step waits for its input.

Pure: reads no clock and no file. The thresholds are those of TensorFlow's input-pipeline analyser (5 % and 20 % of the
time spent waiting), taken on the interval rather than on the point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.stats import Summary

__all__ = ["Verdict", "verdict"]

INPUT_BOUND, INPUT_LIMITED = 0.20, 0.05
ROUNDS = 5

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
        name: COMPUTE_BOUND, INPUT_LIMITED, INPUT_BOUND, UNDECIDED or INSUFFICIENT.
        binding: the stage with the lowest ceiling on the path the epochs took.
        waiting: share of the epoch the step did not run, (low, high), clipped to [0, 1].
        sentence: the evidence and the next thing to do.
    """

    name: str
    binding: str
    waiting: tuple[float, float]
    sentence: str


def verdict(pace: Summary, ceilings: Mapping[str, Summary], *, resident: bool) -> Verdict:
    """Judges a run.

    Args:
        pace: rate of the run's epochs over that of the bare step, one ratio a round: both of a round share the
            machine's mood, which independent intervals would count twice.
        ceilings: images/s of each stage alone: "read", "decode", "gather", "step". An epoch over a resident set passes
            only "gather" and "step"; a streaming one passes "read", "decode" and "step".
        resident: whether the decoded set lay on the device.
    """
    path = ("gather", "step") if resident else ("read", "decode", "step")
    binding = min(path, key=lambda stage: ceilings[stage].median)
    if len(pace.values) < ROUNDS:
        few = f"{len(pace.values)} rounds; a verdict needs {ROUNDS}"
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
