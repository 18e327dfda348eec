"""Does `bench stalls` tell the truth? Planted bottlenecks, measured as a user would, and counted.

The tally is written after every run and taken up again by the same command, so that hours of counting may be cut short.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.plants import FOLDER, PLANTED, Planted, run_of, write_split
from bench.record import Record, measured, read_record, write_record
from bench.runs import Plan
from bench.stalls import PRELOAD, find_stalls
from bench.stats import summarise
from bench.verdict import Verdict
from bench.zygote import Zygote
from shards.errors import ConfigError
from trainer.config import resolve

__all__ = ["SHARE", "count_planted", "is_right", "judged"]

SHARE = 0.95
"""Nineteen of twenty."""

_REPEATS, _MOST = 5, 20

Tell = Callable[[int, int, str], None] | None


def is_right(planted: Planted, name: str, binding: str) -> bool:
    """Whether the verdict is one of those that are true of what was planted."""
    return name in planted.names and (not planted.binding or binding == planted.binding)


def judged(planted: Planted, zygote: Zygote, split: Path, *, apart: bool = True) -> Verdict:
    """What `bench stalls` says of it.

    Args:
        planted: what is planted.
        zygote: was started with FOLDER set to the split's training part.
        split: as `write_split` makes it.
        apart: as the command does it; False for haste.

    Raises:
        MeasurementFailed: a measuring process failed.
    """
    loader = planted.loader and f"bench.plants:{planted.loader}"
    plan = Plan(
        None if loader else resolve(run_of(planted)), None if loader else split, loader=loader,
        hook=planted.hook and f"bench.plants:{planted.hook}", compute=planted.compute, seconds=planted.seconds,
        repeats=_REPEATS, most=_MOST, apart=apart, tax=False,
    )  # fmt: skip
    found = find_stalls(plan, what_if=False, zygote=zygote).verdict
    assert found is not None
    return Verdict(found["name"], found["binding"], tuple(found["waiting"]), found["sentence"])


def count_planted(
    runs: int = 20, only: Sequence[str] = (), out: Path | None = None, *, on_progress: Tell = None
) -> Record:
    """Measures each planted pipeline `runs` times, in turns, and counts how often it was named correctly.

    Args:
        runs: of each.
        only: names of PLANTED; empty: all.
        out: the record, written after every run; if it is there already, its runs count and the rest are added.
        on_progress: called with (done, total, what).

    Raises:
        ConfigError: there is no such plant.
        BenchError: the record is of another machine or another bench.
    """
    if unknown := [name for name in only if name not in PLANTED]:
        raise ConfigError("--only", "", f"{unknown[0]!r}; expected one of {', '.join(PLANTED)}")
    names = list(only) or list(PLANTED)
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    empty = _record(told, runs)
    if out is not None and out.exists():
        told = _before(read_record(out), empty, out) | {}
        for name in names:
            told.setdefault(name, [])
    with tempfile.TemporaryDirectory(prefix="bassline-planted-") as scratch:
        split = Path(scratch) / "split"
        write_split(split)
        os.environ[FOLDER] = str(split / "train")
        with Zygote((*PRELOAD, "bench.plants")) as zygote:
            for number in range(runs):
                for name in names:
                    if len(told[name]) > number:
                        continue
                    if on_progress:
                        on_progress(sum(map(len, told.values())), runs * len(told), f"{name}, {number + 1} of {runs}")
                    told[name].append(_one(name, zygote, split))
                    if out is not None:
                        write_record(_record(told, runs), out)
    return _record(told, runs)


def _one(name: str, zygote: Zygote, split: Path) -> dict[str, Any]:
    begun = time.perf_counter()
    found = judged(PLANTED[name], zygote, split)
    return {
        "name": found.name, "binding": found.binding, "sentence": found.sentence,
        "right": is_right(PLANTED[name], found.name, found.binding), "seconds": time.perf_counter() - begun,
    }  # fmt: skip


def _before(old: Record, now: Record, out: Path) -> dict[str, list[dict[str, Any]]]:
    if old.kind != now.kind or old.environment.get("digest") != now.environment["digest"]:
        raise BenchError(f"{out}: a record of another bench or another machine; give another --out")
    return {name: list(each["told"]) for name, each in (old.verdict or {})["tally"].items() if name in PLANTED}


def _record(told: dict[str, list[dict[str, Any]]], runs: int) -> Record:
    tally = {
        name: {"right": sum(one["right"] for one in each), "runs": len(each), "told": each}
        for name, each in told.items()
    }
    short = [name for name, each in tally.items() if each["runs"] < runs]
    missed = [name for name, each in tally.items() if each["right"] < SHARE * each["runs"]]
    counts = ", ".join(f"{name} {each['right']} of {each['runs']}" for name, each in tally.items())
    if short or runs < 20:
        verdict, why = "INSUFFICIENT", f"a claim needs 20 runs of each; named correctly so far: {counts}"
    elif missed:
        verdict, why = "MISSED", f"below 19 of 20: {', '.join(missed)}; named correctly: {counts}"
    else:
        verdict, why = "MET", f"named correctly: {counts}"
    return Record(
        kind="planted",
        settings={"runs": runs, "repeats": _REPEATS, "most": _MOST},
        measurements={
            name: measured("s", summarise([one["seconds"] for one in each])) for name, each in told.items() if each
        },
        verdict={
            "name": verdict, "sentence": f"{verdict}: {why}", "tally": tally,
            "median_s": statistics.median([one["seconds"] for each in told.values() for one in each] or [0.0]),
        },
    )  # fmt: skip
