"""The differential set: which modes are measured, in what order, in which processes; and what comes of them.

A repeat goes through the modes forth (A B C), the next one back (C B A), so that a machine that slows down slows all of
them alike. Each mode has a process of its own. While the verdict is open, as many repeats are added as there are, up to
a bound: few looks, because each look at an interval is one more chance for it to err.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.model import Evidence
from bench.probe import fill
from bench.verdict import COLD
from bench.zygote import Zygote
from shards.errors import ConfigError
from trainer.config import RunConfig

__all__ = ["Plan", "Runs", "evidence_of", "measure_runs"]

TARGET = "bench.window:measure"


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        config: the run; None: a foreign loader with a stand-in for its step.
        data: the split folder; None with a foreign loader.
        loader: `module:function` of a foreign loader, or empty.
        compute: what stands in for the step, such as "sleep:20ms", or empty.
        hook: see `bench.stages`, or empty.
        repeats: processes a mode; a verdict needs 5.
        most: repeats at which an open verdict is left open; below `repeats`: none are added.
        seconds: of a window, which lasts until `steps` steps too, but no longer than thirty times this.
        apart: each mode in a process of its own; otherwise one process a repeat, which the tests take for their haste.
        tax: measure what the tool's own timers cost.
        aa: every mode once more, for the noise floor.
    """

    config: RunConfig | None
    data: Path | None = None
    loader: str = ""
    compute: str = ""
    hook: str = ""
    repeats: int = 5
    most: int = 0
    seconds: float = 1.0
    steps: int = 20
    apart: bool = True
    tax: bool = True
    aa: bool = False

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.seconds <= 0:
            told = f"{self.repeats} repeats of {self.seconds:g} s; expected at least 1 and more than 0"
            raise ConfigError("bench stalls", "", told)
        if bool(self.loader) == (self.data is not None):
            raise ConfigError("bench stalls", "", "give either RUN.toml with --data PARTS, or --loader module:function")

    @property
    def modes(self) -> tuple[str, ...]:
        """In the order of the first repeat."""
        cold = () if self.loader or not self.apart else ("cold",)
        return ("ladder", "synthetic", "replayed", "warm", *cold, "drained", "shadow", *(("bare",) if self.tax else ()))

    def job(self, modes: Sequence[str], rate: float = 0.0) -> dict[str, Any]:
        """For `bench.window.measure`."""
        return {
            "config": self.config.model_dump(mode="json") if self.config else None,
            "data": str(self.data) if self.data else "", "loader": self.loader, "compute": self.compute,
            "hook": self.hook, "modes": list(modes), "seconds": self.seconds, "steps": self.steps, "rate": rate,
        }  # fmt: skip

    @property
    def tars(self) -> list[Path]:
        """The shards that are trained on."""
        return sorted((self.data / "train").glob("*.tar")) if self.data else []


@dataclass
class Runs:
    """What was measured: `windows[mode]` has one window a repeat; `again` the same for A/A."""

    about: dict[str, Any]
    windows: dict[str, list[dict[str, Any]]]
    again: dict[str, list[dict[str, Any]]]
    ladder: dict[str, list[float]]
    fill_s: list[float]

    def seconds(self, mode: str) -> list[float]:
        """Seconds an image, one value a repeat."""
        return [window["seconds"] / window["images"] for window in self.windows.get(mode, [])]

    def rates(self, mode: str) -> list[float]:
        """Images/s, one value a repeat."""
        return [1 / value for value in self.seconds(mode)]


def measure_runs(
    zygote: Zygote,
    plan: Plan,
    on_progress: Callable[[int, int, str], None] | None = None,
    *,
    is_open: Callable[[Runs], bool] = lambda runs: False,
) -> Runs:
    """Measures the plan's modes.

    Args:
        zygote: forks the processes.
        plan: what to measure.
        on_progress: called with (done, total, what).
        is_open: asked after `plan.repeats` repeats, after twice as many, and so on, whether to go on to `plan.most`.

    Raises:
        MeasurementFailed: a process failed.
        BenchError: processes of one plan measured different things.
    """
    found = Runs({}, {}, {}, {}, [])
    resident = False
    repeats, number, done = plan.repeats, 0, 0
    fill(plan.tars)  # what is warm is warm from the first repeat on
    while number < repeats:
        total = repeats * len(plan.modes) * (2 if plan.aa else 1)
        forth = number % 2 == 0
        modes = [mode for mode in plan.modes if not (resident and mode in ("cold", "ladder"))]
        order = modes if forth else modes[::-1]
        passes = [found.windows, found.again] if plan.aa else [found.windows]
        for into in passes if forth else passes[::-1]:
            groups = [[mode] for mode in order] if plan.apart else [order]
            for group in groups:
                if on_progress:
                    on_progress(done, total, f"repeat {number + 1}: {' '.join(group)}")
                done += len(group)
                rate = statistics.median(found.rates("warm")) if found.windows.get("warm") else 0.0
                answer = zygote.run(TARGET, plan.job(group, rate))
                resident = answer["about"]["mode"] == "resident"
                _take(found, into, answer)
                if resident and group == ["cold"]:
                    into.pop("cold")  # epochs of a resident set read no disk
                if group == ["cold"]:
                    fill(plan.tars)  # the next mode is a warm one
        number += 1
        if number == repeats < plan.most and is_open(found):
            repeats = min(2 * repeats, plan.most)
    return found


def _take(found: Runs, into: dict[str, list[dict[str, Any]]], answer: dict[str, Any]) -> None:
    about = answer.pop("about")
    if not found.about:
        found.about.update(about)
    elif about != found.about:
        differing = sorted(key for key in about if about[key] != found.about.get(key))
        raise BenchError(f"two processes of one plan measured different things: {', '.join(differing)} changed")
    if (fill := answer.pop("fill_s")) is not None:
        found.fill_s.append(fill)
    for mode, window in answer.items():
        if mode == "ladder":
            for stage, values in window.items():
                found.ladder.setdefault(stage, []).append(statistics.median(values))
        else:
            into.setdefault(mode, []).append(window)


def evidence_of(runs: Runs, *, disk: float | None = None) -> Evidence:
    """What a verdict is drawn from."""
    about, windows = runs.about, runs.windows
    batch = about["batch"]
    parallel = max(about.get("workers") or 1, 1)  # a DataLoader's stages run in that many processes
    ladder = {
        stage: statistics.median(values) / batch / (parallel if stage in ("dataset", "collate") else 1)
        for stage, values in runs.ladder.items()
    }
    modes = {mode: runs.seconds(mode) for mode in windows}
    cold = _read_share(runs, "cold")
    evidence = Evidence(
        seconds={mode: values for mode, values in modes.items() if mode != "bare"},
        waits=[window["wait_s"] / window["images"] for window in windows.get("warm", [])],
        cpu={mode: statistics.median(w["cpu_s"] / w["images"] for w in each) for mode, each in windows.items()},
        ladder=ladder,
        steps=min((window["steps"] for mode, each in windows.items() if mode != "cold" for window in each), default=0),
        host_step=about["host_step"],
        resident=about["mode"] == "resident",
        foreign=about["mode"] == "loader",
        warm_read=_read_share(runs, "warm"),
        cold_read=cold,
        workers=_workers(windows.get("drained", [])),
        shards=about.get("shards"),
        alone=sum(ladder.values()) * parallel if about["mode"] == "loader" and ladder else None,
        restarts=bool(about.get("restarts")),
        disk=disk,
        cores=len(os.sched_getaffinity(0)),
        decode_device="cuda" if "cuda" in about.get("decoder", "") else "cpu",
        decoded_in=about.get("decoded_in", "its threads"),
    )
    if cold is not None and cold < COLD:  # not proven cold: as if it had not been measured
        kept = {mode: values for mode, values in evidence.seconds.items() if mode != "cold"}
        return replace(evidence, seconds=kept)
    return evidence


def _read_share(runs: Runs, mode: str) -> float | None:
    """Bytes fetched from the disk over the tars' bytes that a window walked, of the repeat that speaks least for it.

    Samples have their share of the tars: headers and JSON lie between the images, and pages hold both.
    """
    size = runs.about.get("tar_bytes")
    if not size or runs.about["mode"] == "resident" or mode not in runs.windows:
        return None
    shares: list[float] = [window["read_bytes"] / (window["images"] * size) for window in runs.windows[mode]]
    return min(shares) if mode == "cold" else max(shares)


def _workers(windows: list[dict[str, Any]]) -> tuple[int, int] | None:
    """(idle, all), of the repeat with the fewest idle: once may be chance."""
    told = [
        (int(window["workers"][0]), int(window["workers"][1]))
        for window in windows
        if window["workers"] and window["workers"][1]
    ]
    return min(told) if told else None
