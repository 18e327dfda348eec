"""A run: a split and a configuration in, the best model and the truth about it out."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch

from shards.files import write_atomic
from trainer.checkpoint import LAST_NAME, load_last
from trainer.clock import Clock
from trainer.config import RunConfig, config_hash, to_toml
from trainer.device import choose_device
from trainer.distributed import join, leave, wait_for_all
from trainer.errors import OutOfMemory, RankLost, RunChanged
from trainer.progress import Progress
from trainer.result import METRICS_NAME, read_result
from trainer.session import Session
from trainer.shared import Shared
from trainer.split_data import open_split

__all__ = ["Progress", "fit"]


def fit(
    config: RunConfig,
    data: Path,
    out: Path,
    *,
    started: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[dict[str, Any]], str | None] | None = None,
    shared: Shared | None = None,
) -> dict[str, Any]:
    """Trains, selects, tests; writes the run folder `out`. Called again it goes on, or gives back what is finished.

    Args:
        config: the run.
        data: a split folder with train/, val/ and test/.
        out: the run folder; made if missing.
        started: `time.monotonic()` at the command's start, so that times count from there; by default from this call.
        on_progress: called some ten times a second and at the end of each stage.
        on_epoch: called with each line of metrics.jsonl but the last; a reason in words ends the run there, untested.
        shared: what runs before this one decoded and compiled; the same numbers, sooner.

    Started by torchrun, each process calls it alike: they train one net (`trainer.distributed`), and rank 0 alone
    writes `out`; what the others would write goes to a folder that is removed.

    Returns:
        The object that result.json holds.

    Raises:
        SplitIncomplete, LabelsDiffer, NothingDecoded: the data are not usable.
        RunChanged: `out` holds a run of another configuration or other data.
        ConfigError: the configuration does not fit the data or the machine.
        RunDamaged: a file in `out` cannot be read.
        OutOfMemory: there is not enough for the net, the batch or the decoded set.
        LossNotFinite: the run diverged.
        RunStopped: `on_epoch` ended it.
        RankLost: another process of the run ended.
    """
    began = time.monotonic() if started is None else started
    world = join(choose_device(config.train))
    with closing(open_split(data)) as split, ExitStack() as stack:
        out.mkdir(parents=True, exist_ok=True)
        finished, state = read_result(out), load_last(out / LAST_NAME)
        for kept in (finished, state):
            if kept is not None:
                _refuse_change(out, "configuration", kept["config_hash"], config_hash(config))
                _refuse_change(out, "data set", kept["data_digest"], split.digest)
        if finished is not None:
            return finished
        folder = out
        if world.size > 1:
            wait_for_all()  # before rank 0 writes what others are still to read
            if world.rank:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bassline-rank-")))
                if state is not None:  # early stop counts from the history, on every rank
                    shutil.copy(out / METRICS_NAME, folder / METRICS_NAME)
            wait_for_all()
        header = f"# config_hash {config_hash(config)}\n# data_digest {split.digest}\n"
        write_atomic(folder / "run.toml", [(header + to_toml(config)).encode()])
        clock = Clock(began, state and state["clock"])
        if world.size == 1:
            try:
                return Session(config, split, out, clock, on_progress, on_epoch=on_epoch, shared=shared).go(state)
            except (RuntimeError, MemoryError) as error:
                if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error):
                    raise OutOfMemory(str(error)) from error
                raise
        try:
            return Session(config, split, folder, clock, on_progress, on_epoch=on_epoch, world=world).go(state)
        except RuntimeError as error:
            raise RankLost(world.rank, world.size, str(error)) from error
        finally:
            leave()


def _refuse_change(out: Path, what: str, then: str, now: str) -> None:
    if then != now:
        raise RunChanged(out, what, then, now)
