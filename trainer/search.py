"""Which trials a battery's `[search]` makes, and which of them are hopeless.

A trial follows from (seed, number) and, with Optuna, from the trials before it. What was tried is read back from the
battery's folder, so a search that was killed goes on where it was.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from shards.errors import ConfigError
from shards.toml_file import StrictModel
from trainer.errors import TrainError

__all__ = ["Range", "Search", "Trial", "Trials", "open_trials"]

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
MOST = 10_000  # trials: a grid of five keys gets out of hand sooner than one thinks
STUDY_NAME = "search.sqlite"


class Range(StrictModel):
    """Numbers from low to high, both included; whole ones where both are whole. log: even in their logarithm."""

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> Range:
        if not math.isfinite(self.low) or not math.isfinite(self.high):
            raise ValueError("low and high are to be numbers with an end")
        if not self.low < self.high:
            raise ValueError("low is to be less than high")
        if self.log and self.low <= 0:
            raise ValueError("a logarithm wants low above 0")
        return self

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Values = Annotated[
    Annotated[list[bool | int | float | str], Tag("values")] | Annotated[Range, Tag("range")],
    Discriminator(lambda value: "values" if isinstance(value, list) else "range"),
]


class Search(StrictModel):
    """A battery's `[search]`.

    method: `grid` takes all combinations of lists, `random` draws, `optuna` draws by what was learned (TPE).
    trials: how many; a grid has its own number. seed: of the draws.
    objective: what is made best, on the validation part at a run's best epoch.
    prune: `median` stops a trial whose best validation loss is above the median of the others' at the same epoch.
    startup: whole trials before any is stopped. warmup: epochs before one may be.
    keys: dotted keys of the run file, each with a list of values or a range { low, high, log }.
    """

    method: Literal["grid", "random", "optuna"]
    trials: Positive | None = None
    seed: Count = 0
    objective: Literal["val_loss", "val_accuracy", "val_balanced_accuracy", "val_macro_f1"] = "val_loss"
    prune: Literal["none", "median"] = "none"
    startup: Positive = 4
    warmup: Count = 3
    keys: dict[str, Values] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Search:
        for key, values in self.keys.items():
            if isinstance(values, list) and not values:
                raise ValueError(f"{key} has no values")
            if self.method == "grid" and isinstance(values, Range):
                raise ValueError(f"a grid wants a list of values for {key}, not a range")
        if self.method == "grid" and self.trials is not None:
            raise ValueError("trials belongs to random and optuna: a grid takes all combinations")
        if self.method != "grid" and self.trials is None:
            raise ValueError(f"trials is missing: how many {self.method} trials?")
        if self.size > MOST:
            raise ValueError(f"{self.size:,} trials; at most {MOST:,} are taken")
        return self

    @property
    def size(self) -> int:
        """How many trials there are in all."""
        if self.trials is not None:
            return self.trials
        return math.prod(len(values) for values in self.keys.values() if isinstance(values, list))

    def first(self) -> dict[str, Any]:
        """One value a key: enough to find out that a key is wrong before anything runs."""
        return {key: values.low if isinstance(values, Range) else values[0] for key, values in self.keys.items()}

    def value_of(self, measured: Mapping[str, Any]) -> float:
        """The objective in the `val` object of a result, turned so that less is better."""
        value = float(measured[self.objective.removeprefix("val_")])
        return value if self.objective == "val_loss" else -value


@dataclass(frozen=True, slots=True)
class Trial:
    """A combination to be tried: its number from 0, and values by dotted key."""

    number: int
    values: dict[str, Any]

    @property
    def overrides(self) -> list[str]:
        """As `--set` takes them."""
        return [f"{key}={json.dumps(value)}" for key, value in self.values.items()]


class Trials(ABC):
    """Gives trials one after another, hears how they fare, and says which are hopeless."""

    @abstractmethod
    def ask(self) -> Trial | None:
        """The next trial; None after the last."""

    @abstractmethod
    def hopeless(self, trial: Trial, lines: Sequence[Mapping[str, Any]]) -> str | None:
        """Why the trial should end after its last epoch of `lines` (metrics.jsonl's), or None."""

    @abstractmethod
    def tell(self, trial: Trial, state: str, value: float | None, lines: Sequence[Mapping[str, Any]]) -> None:
        """How it ended: "done" with its objective (less is better), "stopped", "diverged" or "failed"."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of files."""


class _Listed(Trials):
    """Trials known from the start: a grid or random draws, with the median rule."""

    def __init__(self, search: Search) -> None:
        self.search, self._next = search, 0
        self._grid = list(itertools.product(*search.keys.values())) if search.method == "grid" else []
        self._curves: list[list[float]] = []

    def ask(self) -> Trial | None:
        number = self._next
        if number >= self.search.size:
            return None
        self._next += 1
        if self.search.method == "grid":
            return Trial(number, dict(zip(self.search.keys, self._grid[number], strict=True)))
        draw = np.random.default_rng((self.search.seed, number))  # a trial needs no other to be drawn again
        return Trial(number, {key: _drawn(values, draw) for key, values in self.search.keys.items()})

    def hopeless(self, trial: Trial, lines: Sequence[Mapping[str, Any]]) -> str | None:
        epoch, search = len(lines), self.search
        others = [curve[epoch - 1] for curve in self._curves if len(curve) >= epoch]
        if search.prune == "none" or epoch <= search.warmup or len(self._curves) < search.startup or not others:
            return None
        own, median = _best_so_far(lines)[-1], statistics.median(others)
        if own <= median:
            return None
        return f"validation loss {own:.4f} above the median {median:.4f} of {len(others)} trials at this epoch"

    def tell(self, trial: Trial, state: str, value: float | None, lines: Sequence[Mapping[str, Any]]) -> None:
        if state == "done":
            self._curves.append(_best_so_far(lines))

    def close(self) -> None:
        pass


class _Optuna(Trials):
    """Optuna's TPE and median pruner, kept in the battery's folder: other tools of Optuna read it too."""

    def __init__(self, search: Search, folder: Path, name: str) -> None:
        try:
            import optuna
        except ImportError:
            raise ConfigError(
                "search.method", "optuna", "is not installed here: pip install 'bassline[search]'"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self.search = optuna, search
        pruner = (
            optuna.pruners.MedianPruner(n_startup_trials=search.startup, n_warmup_steps=search.warmup)
            if search.prune == "median"
            else optuna.pruners.NopPruner()
        )
        try:
            self._storage = optuna.storages.RDBStorage(f"sqlite:///{folder / STUDY_NAME}")
            self._study = optuna.create_study(
                storage=self._storage, study_name=name, pruner=pruner, load_if_exists=True
            )
        except Exception as error:  # whatever SQLite and SQLAlchemy say of a file that is none of theirs
            raise TrainError(
                f"{folder / STUDY_NAME}: cannot be read ({str(error).splitlines()[0][:100]}); remove it: finished runs "
                "are kept in their folders, and the search draws anew"
            ) from None
        self._asked: dict[int, Any] = {}
        # Trials of a process that was killed: they are told again from their folders, or go on.
        self._again = [trial.number for trial in self._study.get_trials(deepcopy=False)]

    def ask(self) -> Trial | None:
        if self._again:
            number = self._again.pop(0)
            frozen = self._study.get_trials(deepcopy=False)[number]
            self._asked[number] = self._optuna.Trial(self._study, frozen._trial_id)
            if not frozen.state.is_finished():
                for key, distribution in self._distributions().items():  # killed while it was asked
                    self._asked[number]._suggest(key, distribution)
            return Trial(number, dict(self._asked[number].params))
        if len(self._study.get_trials(deepcopy=False)) >= self.search.size:
            return None
        number = len(self._study.get_trials(deepcopy=False))
        # The sampler's generator is drawn anew a trial, so that a search that goes on draws what it would have drawn.
        seed = int(np.random.SeedSequence((self.search.seed, number)).generate_state(1)[0])
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed)
        asked = self._study.ask(self._distributions())
        self._asked[asked.number] = asked
        return Trial(asked.number, dict(asked.params))

    def hopeless(self, trial: Trial, lines: Sequence[Mapping[str, Any]]) -> str | None:
        self._report(trial, lines)
        if not self._asked[trial.number].should_prune():
            return None
        return f"validation loss {_best_so_far(lines)[-1]:.4f}, behind the median"

    def tell(self, trial: Trial, state: str, value: float | None, lines: Sequence[Mapping[str, Any]]) -> None:
        if self._study.get_trials(deepcopy=False)[trial.number].state.is_finished():
            return
        states = self._optuna.trial.TrialState
        self._report(trial, lines)
        # What diverged counts as pruned: TPE then keeps away from there; of failed trials it learns nothing.
        end = {"done": states.COMPLETE, "failed": states.FAIL}.get(state, states.PRUNED)
        self._study.tell(self._asked[trial.number], value if end == states.COMPLETE else None, state=end)

    def close(self) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _report(self, trial: Trial, lines: Sequence[Mapping[str, Any]]) -> None:
        asked = self._asked[trial.number]
        known = self._study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for line in lines:
            if line["epoch"] not in known:
                asked.report(line["val_loss"], line["epoch"])

    def _distributions(self) -> dict[str, Any]:
        kinds = self._optuna.distributions
        made: dict[str, Any] = {}
        for key, values in self.search.keys.items():
            if isinstance(values, list):
                made[key] = kinds.CategoricalDistribution(values)
            elif values.whole:
                made[key] = kinds.IntDistribution(int(values.low), int(values.high), log=values.log)
            else:
                made[key] = kinds.FloatDistribution(float(values.low), float(values.high), log=values.log)
        return made


def open_trials(search: Search, folder: Path, name: str) -> Trials:
    """The trials of a search; `folder` and `name` are where and as what Optuna keeps them.

    Raises:
        ConfigError: Optuna is not installed.
    """
    return _Optuna(search, folder, name) if search.method == "optuna" else _Listed(search)


def _best_so_far(lines: Sequence[Mapping[str, Any]]) -> list[float]:
    return list(itertools.accumulate((float(line["val_loss"]) for line in lines), min))


def _drawn(values: Sequence[Any] | Range, draw: np.random.Generator) -> Any:
    if not isinstance(values, Range):
        return values[int(draw.integers(len(values)))]
    if values.log:
        found = math.exp(draw.uniform(math.log(values.low), math.log(values.high)))
    else:
        found = draw.uniform(values.low, values.high)
    if values.whole:
        if not values.log:
            return int(draw.integers(int(values.low), int(values.high), endpoint=True))
        return min(max(round(found), int(values.low)), int(values.high))
    return min(max(float(f"{found:.6g}"), values.low), values.high)  # six digits: to be read and typed again
