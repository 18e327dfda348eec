"""What holds a run back: its stages alone against its epochs, in turns, and a verdict from the difference.

All in one process, so that the memory the run has warmed serves every measurement; rounds go forth and back
(A B C C B A), so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from bench.record import Record, measured
from bench.stats import Summary, ratio, summarise
from bench.verdict import STEPS, verdict
from shards.errors import ConfigError
from trainer.config import RunConfig, config_hash
from trainer.pace import Pace

__all__ = ["STAGES", "quick_stalls"]

STAGES = ("read", "decode", "gather", "step", "epochs")
"""What is measured, in the order data takes; `epochs` is the whole."""


def quick_stalls(
    config: RunConfig,
    data: Path,
    *,
    rounds: int = 6,
    seconds: float = 0.4,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Record:
    """Measures a run's stages on its own data.

    Args:
        config: the run.
        data: the split.
        rounds: measurements a stage; a verdict needs 5.
        seconds: of each measurement, which lasts until 20 steps too, but no longer than ten times this.
        on_progress: called with (done, total, stage).

    Raises:
        ConfigError: no rounds or no time; or as the trainer raises for the run.
    """
    if rounds < 1 or seconds <= 0:
        raise ConfigError("bench stalls", "", f"{rounds} rounds of {seconds:g} s; expected at least 1 and more than 0")
    rates: dict[str, list[float]] = {stage: [] for stage in STAGES}
    fewest = sys.maxsize
    with Pace(config, data) as pace:
        methods = {stage: getattr(pace, stage) for stage in STAGES}
        for stage in STAGES:  # the first call warms caches, allocators and threads up
            methods[stage](seconds / 4)
        for number in range(rounds):
            for turn, stage in enumerate(STAGES if number % 2 == 0 else reversed(STAGES)):
                if on_progress:
                    on_progress(number * len(STAGES) + turn, rounds * len(STAGES), stage)
                judged = stage in ("step", "epochs")
                rate, steps = methods[stage](seconds, STEPS if judged else 1)
                rates[stage].append(rate)
                fewest = min(fewest, steps) if judged else fewest
        resident, about = pace.resident, pace.about
    summaries: dict[str, Summary] = {stage: summarise(values) for stage, values in rates.items()}
    pace_of_step = ratio(rates["epochs"], rates["step"])
    ceilings = {stage: summaries[stage] for stage in STAGES[:-1]}
    found = verdict(pace_of_step, ceilings, resident=resident, steps=fewest)
    return Record(
        kind="stalls",
        settings={
            "run": config.name,
            "config_hash": config_hash(config),
            "rounds": rounds,
            "seconds": seconds,
            "steps": fewest,
            **about,
        },
        measurements={stage: measured("images/s", summary) for stage, summary in summaries.items()},
        ratios={"epochs/step": measured("ratio", pace_of_step)},
        verdict=asdict(found),
    )
