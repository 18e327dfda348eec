"""Several runs at once, each in a process of its own: a process that dies costs the run it was at.

Processes, because torch has one generator a process for dropout and augmentation: two runs in threads would draw each
other's numbers, and the same battery would give another table every time.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.battery import End, Entry, train_entry

if TYPE_CHECKING:
    from trainer.battery import _Plan

__all__ = ["Crew"]

_PR_SET_PDEATHSIG = 1  # prctl.h


class Crew:
    """Processes that train; a context manager that ends them.

    Args:
        jobs: how many.
        data: the split.
        decoded: where they keep the decoded set they share.
    """

    def __init__(self, jobs: int, data: Path, decoded: Path) -> None:
        self.data, self.decoded = data, decoded
        self.threads = max(1, len(os.sched_getaffinity(0)) // jobs)
        self._idle: list[tuple[SpawnProcess, Connection]] = []
        self._jobs = jobs
        self._busy: dict[Connection, tuple[SpawnProcess, Entry, Path, Any, Any]] = {}

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for process, link in [*self._idle, *((busy[0], link) for link, busy in self._busy.items())]:
            process.kill()
            process.join()
            process.close()
            link.close()

    def work(self, plan: _Plan) -> None:
        """Trains all that the plan gives. A trial is asked for when a process is free for it, not before."""
        waiting: Iterator[tuple[Entry, Path]] = plan.waiting()
        more = True
        while more or self._busy:
            while more and len(self._busy) < self._jobs:
                if (given := next(waiting, None)) is None:
                    more = False
                    break
                self._begin(plan, *given)
            for link in wait(list(self._busy)):
                assert isinstance(link, Connection)
                self._hear(plan, link)

    def _begin(self, plan: _Plan, entry: Entry, folder: Path) -> None:
        process, link = self._idle.pop() if self._idle else self._hire()
        judge = plan.judge(entry, folder)
        link.send((entry.config, folder, judge is not None))
        self._busy[link] = process, entry, folder, plan.teller(entry), judge

    def _hire(self) -> tuple[SpawnProcess, Connection]:
        context = multiprocessing.get_context("spawn")
        link, far = context.Pipe()
        process = context.Process(
            target=_work, args=(far, self.data, self.decoded, self.threads, os.getpid()), name="battery", daemon=True
        )
        process.start()
        far.close()
        return process, link

    def _hear(self, plan: _Plan, link: Connection) -> None:
        process, entry, folder, tell, judge = self._busy[link]
        try:
            kind, told = link.recv()
        except (EOFError, ConnectionResetError):
            del self._busy[link]
            process.join()
            reason = f"its process ended with {_said(process.exitcode)}; run the same command again to try again"
            process.close()
            link.close()
            plan.ended(entry, folder, End("failed", 0, reason))
            return
        if kind == "progress":
            tell(told)
        elif kind == "epoch":
            link.send(judge(told))
        else:
            del self._busy[link]
            self._idle.append((process, link))
            plan.ended(entry, folder, told)


def _said(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _work(link: Connection, data: Path, decoded: Path, threads: int, parent: int) -> None:
    """A process of the crew: run after run, until the other end is closed."""
    began = time.monotonic()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C goes to all of the terminal; the parent decides
    # A parent that is killed takes its crew along: two batteries must never train one run.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    import torch

    from trainer.shared import Shared

    torch.set_num_threads(threads)
    shared = Shared(decoded)
    while True:
        try:
            config, folder, judged = link.recv()
        except EOFError:
            return

        def judge(line: dict[str, Any]) -> str | None:
            link.send(("epoch", line))
            answer: str | None = link.recv()
            return answer

        end = train_entry(
            config, data, folder, shared,
            started=began, on_progress=lambda told: link.send(("progress", told)), on_epoch=judge if judged else None,
        )  # fmt: skip
        link.send(("end", end))
        began = time.monotonic()
