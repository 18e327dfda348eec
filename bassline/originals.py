"""Run folders beside what others measured for the same runs, as a battery file has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bassline import files
from bassline.run_folder import Run
from shards.errors import ConfigError

if TYPE_CHECKING:
    from trainer.battery import Battery, Entry, Outcome
    from trainer.config import RunConfig

__all__ = ["beside"]

SHIPPED = "seed.toml"


def beside(runs: Sequence[Run], file: Path | None = None) -> tuple[Battery, list[Outcome]]:
    """The runs as a battery's outcomes, with the original's figures where a run of the file is the same run.

    The same: name, net, batch, rate and momentum; epochs and size may be others, as the table says.

    Args:
        file: a battery file; by default the shipped one.

    Raises:
        ConfigError: the file is no battery.
        RunUnreadable: a run's run.toml is not of this version.
    """
    from bassline.run_folder import RunUnreadable
    from trainer.battery import Battery, End, Entry, Outcome, load_battery
    from trainer.config import resolve

    known = {entry.name: entry for entry in load_battery(file or files.battery(SHIPPED)).entries}
    outcomes = []
    for run in runs:
        try:
            config = resolve(run.config, where=str(run.folder / "run.toml"))
        except ConfigError as error:
            raise RunUnreadable(run.folder, f"{error}; train the run again") from None
        theirs = known.get(str(run.result["run"]))
        original = theirs.original if theirs is not None and _same(config, theirs) else None
        end = End("done", len(run.history), "")
        outcomes.append(Outcome(Entry(run.name, config, original), end, run.folder, run.result, run.history, True))
    entries = tuple(outcome.entry for outcome in outcomes)
    return Battery("report", "", entries, {}, (), None, "file", ""), outcomes


def _same(config: RunConfig, entry: Entry) -> bool:
    theirs = entry.config
    return (config.net, config.train.batch, config.optim.lr, config.optim.momentum) == (
        theirs.net, theirs.train.batch, theirs.optim.lr, theirs.optim.momentum,
    )  # fmt: skip
