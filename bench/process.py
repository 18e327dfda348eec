"""What processes and their children cost, from /proc: loaders and downloaders hide their work in workers."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import CLOCK_BOOTTIME, clock_gettime, monotonic

__all__ = ["Cost", "Ended", "child_processes", "cost", "read_bytes", "watch"]

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process tree used.

    Attributes:
        cpu_s: user and system seconds.
        peak_mib: this process's peak resident size, MiB, and that of each of the others less what it now shares: what
            forked workers have of their parent counts once. So does memory that they fill and this process only reads.
        read_bytes: bytes fetched from the storage device.
    """

    cpu_s: float
    peak_mib: float
    read_bytes: int


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended while we looked
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def cost(pid: int | None = None) -> Cost:
    """The cost of `pid` (by default this process), its living descendants and its reaped children."""
    top = pid or os.getpid()
    waiting, cpu, peak, read = [top], 0, 0.0, 0
    own = filled = 0.0
    while waiting:
        current = waiting.pop()
        root = Path(f"/proc/{current}")
        try:
            waiting += _children(current)
            # proc(5): fields 14 to 17 are utime, stime, cutime, cstime; the name before may hold spaces and brackets.
            fields = (root / "stat").read_text().rpartition(")")[2].split()
            cpu += sum(int(ticks) for ticks in fields[11:15])
            status = dict(line.split(":", 1) for line in (root / "status").read_text().splitlines() if ":" in line)
            peak += int(status.get("VmHWM", "0 kB").split()[0]) / 1024
            shared = int(status.get("RssShmem", "0 kB").split()[0]) / 1024
            if current == top:
                own = shared
            else:
                peak -= _shared_mib(root)
                filled = max(filled, shared)
            io = dict(line.split(":", 1) for line in (root / "io").read_text().splitlines())
            read += int(io["read_bytes"])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
    return Cost(cpu / _TICKS, peak + max(0.0, filled - own), read)


def _shared_mib(root: Path) -> float:
    lines = (root / "smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Shared_Clean:", "Shared_Dirty:"))) / 1024


def child_processes() -> dict[int, float]:
    """CPU seconds, to the nanosecond, of each living child of this process and of their children."""
    waiting, found = _children(os.getpid()), {}
    while waiting:
        pid = waiting.pop()
        try:
            waiting += _children(pid)
            # the first number of each thread: nanoseconds on a core (Documentation/scheduler/sched-stats)
            spent = 0
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    spent += int((task / "schedstat").read_text().split()[0])
            found[pid] = spent / 1e9
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
    return found


def read_bytes() -> int:
    """Bytes that this process and its living children had fetched from a storage device."""
    total = 0
    for pid in (os.getpid(), *child_processes()):
        try:
            lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(dict(line.split(":", 1) for line in lines)["read_bytes"])
    return total


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that was watched to its end.

    Attributes:
        code: exit status; negative: the signal that ended it, as in `subprocess`.
        wall_s: from its start to its end.
        cpu_s: user and system seconds, of its reaped children too.
        peak_mib: the most that its whole tree held at one time (resident; pages that two processes share count twice),
            looked at every `look_s`, and at least what the largest of them says its own peak was.
        said, complained: standard output and error.
    """

    code: int
    wall_s: float
    cpu_s: float
    peak_mib: float
    said: str
    complained: str


def watch(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
    limit_s: float = 3600,
    look_s: float = 0.05,
) -> Ended:
    """Runs a command to its end, in a session of its own, and looks at its memory on the way.

    What runs longer than `limit_s` is killed with all its children.
    """
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
        begun = monotonic()
        child = subprocess.Popen(
            command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=complained,
            start_new_session=True,
        )  # fmt: skip
        peak = 0.0
        ended = select.poll()
        descriptor = os.pidfd_open(child.pid)
        try:
            ended.register(descriptor, select.POLLIN)
            while not ended.poll(look_s * 1000):
                peak = max(peak, _held_mib(child.pid))
                if monotonic() - begun > limit_s:
                    os.killpg(child.pid, signal.SIGKILL)
            wall = monotonic() - begun
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        finally:
            os.close(descriptor)
            if child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        said.seek(0)
        complained.seek(0)
        cpu = usage.ru_utime + usage.ru_stime
        return Ended(child.returncode, wall, cpu, peak, said.read(), complained.read())


def _held_mib(pid: int) -> float:
    """What a process and its living descendants hold now, or the largest own peak if that is more.

    A descendant counts from 0.1 s on: before, it may be its parent's own memory between vfork and exec, seen twice.
    """
    waiting, held, largest = [pid], 0, 0
    grown = (clock_gettime(CLOCK_BOOTTIME) - 0.1) * _TICKS
    while waiting:
        current = waiting.pop()
        root = Path(f"/proc/{current}")
        try:
            waiting += _children(current)
            if current != pid and int((root / "stat").read_text().rpartition(")")[2].split()[19]) > grown:
                continue
            status = (root / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        sizes = dict(line.split(":", 1) for line in status.splitlines() if line.startswith(("VmHWM:", "VmRSS:")))
        held += int(sizes.get("VmRSS", "0 kB").split()[0])
        largest = max(largest, int(sizes.get("VmHWM", "0 kB").split()[0]))
    return max(held, largest) / 1024
