"""A battery: many runs over one decoded set, each in a folder of its own, none of them done twice.

A battery file is a base with few lines a run, or a search over keys, or both. A run's folder is named by what it is a
run of, so that an edited run is another one and an unchanged one is found finished.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, Literal

from shards.errors import BasslineError, ConfigError
from shards.files import write_atomic
from shards.toml_file import StrictModel, merge, validate
from trainer.config import RunConfig, config_hash, read_tables, resolve
from trainer.errors import BatteryBusy, LossNotFinite, RunDamaged, RunStopped
from trainer.result import read_result
from trainer.search import Search, Trial, Trials, open_trials

if TYPE_CHECKING:
    from trainer.progress import Progress
    from trainer.shared import Shared

__all__ = [
    "Battery",
    "BatteryProgress",
    "End",
    "Entry",
    "Original",
    "Outcome",
    "load_battery",
    "run_battery",
    "train_entry",
]

ENDED_NAME, DECODED_NAME, RUNS_NAME = "ended.json", "decoded", "runs"
State = Literal["done", "stopped", "diverged", "failed"]
Sort = Literal["file", "val_loss", "val_accuracy", "test_accuracy", "time_to_best"]


class Original(StrictModel):
    """What someone else measured for a run, to stand beside ours; times in minutes, accuracy in per cent."""

    min_loss: float | None = None
    best_epoch: int | None = None
    accuracy: float | None = None
    to_best_min: float | None = None
    total_min: float | None = None


class _File(StrictModel):
    """What a battery file says beside the runs."""

    sort: Sort = "val_loss"
    against: str = ""
    search: Search | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One run of a battery.

    Args:
        name: as the tables call it.
        config: the whole run.
        original: others' figures for it.
        trial: which trial of the search it is.
    """

    name: str
    config: RunConfig
    original: Original | None = None
    trial: Trial | None = None


@dataclass(frozen=True, slots=True)
class Battery:
    """A battery file, resolved.

    Args:
        name: the file's.
        where: the file, for errors.
        entries: the runs that are listed, in the file's order.
        tables: what all runs have in common, on which a search stands.
        overrides: `--set`, over everything.
        search: the search, if there is one.
        sort: what the table is sorted by.
        against: a dotted key to draw accuracy and time against; "" draws nothing.
    """

    name: str
    where: str
    entries: tuple[Entry, ...]
    tables: Mapping[str, Any]
    overrides: tuple[str, ...]
    search: Search | None
    sort: Sort
    against: str


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended: reason is "" where it is done."""

    state: State
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run and how it ended.

    Args:
        entry, end, folder: which run, how it ended, where it lies.
        result: result.json's object of a run that is done.
        history: metrics.jsonl, a line an epoch.
        before: it was finished before this call.
    """

    entry: Entry
    end: End
    folder: Path
    result: dict[str, Any] | None
    history: tuple[dict[str, Any], ...]
    before: bool


@dataclass(frozen=True, slots=True)
class BatteryProgress:
    """Where a battery stands: runs ended (failed ones among them), runs in all, those under way, seconds left."""

    ended: int
    failed: int
    total: int
    running: Mapping[str, Progress]
    eta_s: float | None


def load_battery(path: Path, overrides: Sequence[str] = (), only: Sequence[str] = ()) -> Battery:
    """Reads a battery file; every run of it is checked before one is begun.

    Args:
        path: the file. `[[runs]]` hold a name and what differs; other tables are the base of all.
        overrides: `key=value` for every run.
        only: names of the runs that are wanted; all by default, and the search too.

    Raises:
        ConfigError: a key is unknown or wrong, a name is missing, doubled or unknown.
    """
    where, data = str(path), read_tables(path)
    data.pop("name", None)
    own = {key: data.pop(key) for key in _File.model_fields if key in data}
    told = validate(_File, own, where)
    listed = data.pop("runs", [])
    if not isinstance(listed, list) or not all(isinstance(run, dict) for run in listed):
        raise ConfigError(where, "runs", "expected [[runs]], a table a run")
    if not listed and told.search is None:
        raise ConfigError(where, "", "no runs: write [[runs]] with a name each, or a [search]")
    entries: list[Entry] = []
    for number, run in enumerate(listed):
        at, run = f"{where}: runs.{number}", dict(run)
        name, original = run.pop("name", None), run.pop("original", None)
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.+-]{0,63}", name):
            raise ConfigError(at, "name", f"expected a name of letters, digits and . _ + -, not {name!r}")
        if any(name == entry.name for entry in entries):
            raise ConfigError(at, "name", f"{name!r} is there already; runs are told apart by their names")
        config = resolve({**merge(data, run), "name": name}, overrides, where=f"{where}: {name}")
        entries.append(Entry(name, config, original and validate(Original, original, f"{at}: original")))
    if told.search is not None:
        resolve(data, [*overrides, *Trial(0, told.search.first()).overrides], where=f"{where}: search")
    if told.against:
        _check_number(where, told.against, [entry.config for entry in entries])
    unknown = sorted(set(only) - {entry.name for entry in entries})
    if unknown:
        raise ConfigError(
            "--only", "", f"no run {unknown[0]!r}; there are {', '.join(entry.name for entry in entries)}"
        )
    return Battery(
        path.stem, where, tuple(entry for entry in entries if not only or entry.name in only), data,
        tuple(overrides), None if only else told.search, told.sort, told.against,
    )  # fmt: skip


def _check_number(where: str, key: str, configs: Sequence[RunConfig]) -> None:
    """`against` draws by a number that every run has."""
    for config in configs:
        value: Any = config.model_dump(mode="json")
        for part in key.split("."):
            within = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else {}
            value = within.get(int(part) if part.isdecimal() else part)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(where, "against", f"{key!r} is no number of a run file; expected one such as data.size")


def run_battery(
    battery: Battery,
    data: Path,
    out: Path,
    *,
    jobs: int = 1,
    started: float | None = None,
    on_progress: Callable[[BatteryProgress], None] | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Trains every run that is not finished; called again after a kill it goes on.

    Args:
        battery: the runs.
        data: a split folder.
        out: holds `runs/NAME-HASH/`, a folder a run, and what the search knows.
        jobs: runs at a time. 1 trains in this process; more, in as many others, which map one decoded set and share
            out the cores.
        started: `time.monotonic()` at the command's start, from where the first run counts.
        on_progress: called when something has changed, at most some ten times a second and run.
        on_outcome: called with each run as it ends.

    Returns:
        The runs in the order of the file, then the search's trials.

    Raises:
        BatteryBusy: another process is at it.
        SplitIncomplete and others: the data are no split.
    """
    from trainer.shared import Shared
    from trainer.split_data import open_split

    began = time.monotonic() if started is None else started
    with closing(open_split(data)) as split:
        digest = split.digest
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out):
        trials = open_trials(battery.search, out, _study_name(battery, digest)) if battery.search else None
        plan = _Plan(battery, digest, out, trials, on_progress, on_outcome)
        try:
            if jobs > 1:
                from trainer.crew import Crew

                with Crew(jobs, data, out / DECODED_NAME) as crew:
                    crew.work(plan)
            else:
                shared = Shared()
                for entry, folder in plan.waiting():
                    end = train_entry(
                        entry.config, data, folder, shared,
                        started=began, on_progress=plan.teller(entry), on_epoch=plan.judge(entry, folder),
                    )  # fmt: skip
                    plan.ended(entry, folder, end)
                    began = time.monotonic()
        finally:
            if trials is not None:
                trials.close()
        if (out / DECODED_NAME).is_dir():
            rmtree(out / DECODED_NAME)  # as large as the set's pixels, and soon made again
        return plan.outcomes


def train_entry(
    config: RunConfig,
    data: Path,
    folder: Path,
    shared: Shared,
    *,
    started: float,
    on_progress: Callable[[Progress], None] | None,
    on_epoch: Callable[[dict[str, Any]], str | None] | None,
) -> End:
    """One run, whatever becomes of it: what goes wrong costs this run and is its reason, in one line."""
    from trainer.fit import fit

    try:
        result = fit(config, data, folder, started=started, on_progress=on_progress, on_epoch=on_epoch, shared=shared)
        return End("done", result["epochs"], "")
    except RunStopped as stop:
        return End("stopped", stop.epoch, stop.reason)
    except LossNotFinite as error:
        return End("diverged", error.epoch, str(error))
    except BasslineError as error:
        return End("failed", 0, str(error))
    except Exception as error:  # out of memory, a full disk: the other runs may well be trained
        first = " ".join(str(error).split())[:300]
        return End("failed", 0, f"{type(error).__name__}: {first}")


class _Plan:
    """What is to be run, in which order, and what has become of it."""

    def __init__(
        self,
        battery: Battery,
        digest: str,
        out: Path,
        trials: Trials | None,
        on_progress: Callable[[BatteryProgress], None] | None,
        on_outcome: Callable[[Outcome], None] | None,
    ) -> None:
        self.battery, self.digest, self.out, self.trials = battery, digest, out, trials
        self.on_progress, self.on_outcome = on_progress, on_outcome
        self._outcomes: dict[str, Outcome] = {}
        self._running: dict[str, Progress] = {}
        self._epochs: dict[str, int] = {}
        self._began = 0.0
        self.total = len(battery.entries) + (battery.search.size if battery.search else 0)

    @property
    def outcomes(self) -> list[Outcome]:
        order = {entry.name: number for number, entry in enumerate(self.battery.entries)}
        place = {name: (order.get(name, len(order)), name) for name in self._outcomes}
        return [self._outcomes[name] for name in sorted(self._outcomes, key=place.__getitem__)]

    def waiting(self) -> Iterator[tuple[Entry, Path]]:
        """The runs that are not finished yet, with their folders; what is finished is counted on the way."""
        for entry in self._in_order():
            folder = self._folder(entry)
            kept = _read_end(folder)
            if kept is not None:
                self.ended(entry, folder, kept, before=True)
                continue
            folder.mkdir(parents=True, exist_ok=True)
            yield entry, folder

    def _in_order(self) -> Iterator[Entry]:
        """Runs of one decoded size together, and in these runs of one shape, whatever the order in the file."""
        entries = self.battery.entries
        sizes = list(dict.fromkeys(entry.config.data for entry in entries))
        shapes = list(dict.fromkeys(_shape(entry.config) for entry in entries))
        yield from sorted(entries, key=lambda each: (sizes.index(each.config.data), shapes.index(_shape(each.config))))
        while self.trials is not None and (trial := self.trials.ask()) is not None:
            name = f"trial-{trial.number:03d}"
            try:
                config = resolve(
                    {**self.battery.tables, "name": name},
                    [*self.battery.overrides, *trial.overrides],
                    where=f"{self.battery.where}: {name}",
                )
            except ConfigError as error:  # a combination that is none: it costs itself
                first = resolve(
                    {**self.battery.tables, "name": name},
                    [*self.battery.overrides, *Trial(0, self.battery.search.first()).overrides],  # type: ignore[union-attr]
                )
                self.ended(Entry(name, first, None, trial), self.out, End("failed", 0, str(error)))
                continue
            yield Entry(name, config, None, trial)

    def _folder(self, entry: Entry) -> Path:
        what = hashlib.sha256((config_hash(entry.config) + self.digest).encode()).hexdigest()[:8]
        return self.out / RUNS_NAME / f"{entry.name}-{what}"

    def judge(self, entry: Entry, folder: Path) -> Callable[[dict[str, Any]], str | None] | None:
        """Who says after each epoch of a trial whether it goes on; None for runs that are listed."""
        trial, trials, search = entry.trial, self.trials, self.battery.search
        if trial is None or trials is None or search is None or search.prune == "none":
            return None
        lines: list[dict[str, Any]] = []

        def hopeless(line: dict[str, Any]) -> str | None:
            if not lines:
                lines.extend(_history(folder)[: line["epoch"] - 1])  # the epochs before a kill
            lines.append(line)
            return trials.hopeless(trial, lines)

        return hopeless

    def teller(self, entry: Entry) -> Callable[[Progress], None]:
        """Takes a run's progress."""

        def tell(progress: Progress) -> None:
            if not self._began:
                self._began = time.monotonic()
            if self._running.get(entry.name) is None:
                self._epochs[entry.name] = -max(progress.epoch - 1, 0)  # taken up: these were another process's
            self._running[entry.name] = progress
            self._tell()

        return tell

    def ended(self, entry: Entry, folder: Path, end: End, *, before: bool = False) -> None:
        """Takes how a run ended, and writes down what must not be tried again."""
        if end.state in ("stopped", "diverged") and not before:
            body = {"state": end.state, "epoch": end.epoch, "reason": end.reason}
            write_atomic(folder / ENDED_NAME, [json.dumps(body).encode() + b"\n"])
        result = read_result(folder) if end.state == "done" else None
        history = tuple(_history(folder)) if end.state != "failed" else ()
        if entry.trial is not None and self.trials is not None and self.battery.search is not None:
            value = self.battery.search.value_of(result["val"]) if result is not None else None
            self.trials.tell(entry.trial, end.state, value, history)
        self._running.pop(entry.name, None)
        if not before:
            self._epochs[entry.name] = self._epochs.get(entry.name, 0) + end.epoch
        outcome = self._outcomes[entry.name] = Outcome(entry, end, folder, result, history, before)
        if self.on_outcome is not None:
            self.on_outcome(outcome)
        self._tell()

    def _tell(self) -> None:
        if self.on_progress is None:
            return
        failed = sum(each.end.state == "failed" for each in self._outcomes.values())
        self.on_progress(
            BatteryProgress(len(self._outcomes), failed, self.total, dict(self._running), self._seconds_left())
        )

    def _seconds_left(self) -> float | None:
        """By the epochs that were trained since the call; an upper bound where runs stop early."""
        done = sum(self._epochs.values()) + sum(max(each.epoch - 1, 0) for each in self._running.values())
        if done < 1 or not self._began:
            return None
        listed = {entry.name: entry.config.train.epochs for entry in self.battery.entries}
        left = sum(epochs for name, epochs in listed.items() if name not in self._outcomes)
        if self.battery.search is not None:
            tried = sum(each.entry.trial is not None for each in self._outcomes.values())
            epochs = resolve(self.battery.tables, self.battery.overrides).train.epochs
            left += (self.battery.search.size - tried) * epochs
        left -= sum(max(each.epoch - 1, 0) for each in self._running.values())
        return (time.monotonic() - self._began) * left / done


def _shape(config: RunConfig) -> str:
    return json.dumps([config.net.model_dump(mode="json"), config.train.batch, config.optim.kind], sort_keys=True)


def _history(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    except ValueError as error:
        raise RunDamaged(path, str(error)) from None


def _read_end(folder: Path) -> End | None:
    """How the run in this folder ended; None where it did not, or failed: that is tried again."""
    if (result := read_result(folder)) is not None:
        return End("done", int(result.get("epochs", 0)), "")
    path = folder / ENDED_NAME
    if not path.is_file():
        return None
    try:
        return End(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise RunDamaged(path, str(error)) from None


def _study_name(battery: Battery, digest: str) -> str:
    """Another search, base or data set is another study; more trials of the same are not."""
    assert battery.search is not None
    told = json.dumps(
        [battery.search.model_dump(mode="json", exclude={"trials"}), dict(battery.tables), battery.overrides],
        default=str,
    )
    return f"{battery.name}-{hashlib.sha256((told + digest).encode()).hexdigest()[:12]}"


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    with (out / "battery.lock").open("w") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)  # let go of by the kernel if this process is killed
        except BlockingIOError:
            raise BatteryBusy(out) from None
        yield
