"""A finished run as the report needs it: its result, its configuration, its history and its answers on the test set."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shards.errors import BasslineError

__all__ = ["Run", "RunUnreadable", "find_runs", "read_run", "told_apart"]


class RunUnreadable(BasslineError):
    """A folder is not a finished run, or one of its files is damaged."""

    def __init__(self, folder: Path, problem: str) -> None:
        self.folder = folder
        super().__init__(f"{folder}: {problem}")


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run folder.

    Attributes:
        folder: where it is.
        result: result.json's object.
        config: run.toml's tables.
        history: metrics.jsonl, one object an epoch, in order.
        answers: test.jsonl, one object a test sample.
        beside: what tells it from others of its name in one report, such as the folder's name; "" if nothing need.
    """

    folder: Path
    result: dict[str, Any]
    config: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    answers: tuple[dict[str, Any], ...]
    beside: str = ""

    @property
    def name(self) -> str:
        """The run's name, such as T5; of several of one name with their folder's, such as T5 (second)."""
        return f"{self.result['run']} ({self.beside})" if self.beside else str(self.result["run"])

    @property
    def single_class(self) -> str | None:
        """The one label the best model ever says on the test set, or None."""
        said: str | None = self.result["single_class"]
        return said


def _lines(path: Path) -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def read_run(folder: Path) -> Run:
    """Reads a run folder.

    Raises:
        RunUnreadable: it is not a run folder, the run is not finished, or a file of it is damaged.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "no such folder"
        raise RunUnreadable(folder, f"{what}; give a run folder, as `bassline train --out` makes it")
    if not (folder / "result.json").is_file():
        started = (folder / "run.toml").is_file()
        remedy = "the run is not finished; run the same `bassline train` again" if started else "not a run folder"
        raise RunUnreadable(folder, f"no result.json: {remedy}")
    name = "result.json"
    try:
        result = json.loads((folder / name).read_text(encoding="utf-8"))
        name = "run.toml"
        config = tomllib.loads((folder / name).read_text(encoding="utf-8"))
        name = "metrics.jsonl"
        history = _lines(folder / name)
        name = "test.jsonl"
        answers = _lines(folder / name)
    except (OSError, ValueError) as error:
        raise RunUnreadable(folder, f"{name} is damaged or missing ({error}); train the run again") from None
    missing = [key for key in ("run", "test", "labels", "time_s", "best_epoch", "single_class") if key not in result]
    if missing:
        raise RunUnreadable(
            folder, f"result.json has no {missing[0]!r}: not written by this version; train the run again"
        )
    return Run(folder, result, config, history, answers)


def _counted(folder: Path) -> list[tuple[int, str]]:
    """A key that sorts by the numbers in a name, not by their digits."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", folder.name)]


def find_runs(folders: list[Path]) -> list[Run]:
    """The runs that `folders` are or directly hold (a battery's in its runs/), by name within each: T2 before T10.

    A folder counts once, however often it is named; runs of one name are told apart by their folders.

    Raises:
        RunUnreadable: a folder neither is a run nor holds one.
    """
    found: list[Run] = []
    for folder in folders:
        inner = [path.parent for path in folder.glob("*/result.json")] if folder.is_dir() else []
        inner = sorted(inner or [path.parent for path in folder.glob("runs/*/result.json")], key=_counted)
        if (folder / "result.json").is_file() or not inner:
            found.append(read_run(folder))
        else:
            found.extend(read_run(path) for path in inner)
    return told_apart(list({run.folder.resolve(): run for run in found}.values()))


def told_apart(runs: list[Run]) -> list[Run]:
    """Runs of one name with as much of their folders' ends as it takes."""
    for parts in range(1, max((len(run.folder.resolve().parts) for run in runs), default=0)):
        often = Counter(run.name for run in runs)
        if max(often.values()) == 1:
            break
        ends = {run.folder: "/".join(run.folder.resolve().parts[-parts:]) for run in runs}
        runs = [replace(run, beside=ends[run.folder]) if often[run.name] > 1 else run for run in runs]
    return runs
