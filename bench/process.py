"""What a process and its children have cost so far, from /proc: loaders hide their work in workers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cost", "cost"]

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process tree used.

    Attributes:
        cpu_s: user and system seconds.
        peak_mib: sum of each process's own peak resident size, MiB; pages shared between processes count in each.
        read_bytes: bytes fetched from the storage device.
    """

    cpu_s: float
    peak_mib: float
    read_bytes: int


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def cost(pid: int | None = None) -> Cost:
    """The cost of `pid` (by default this process), its living descendants and its reaped children."""
    waiting, cpu, peak, read = [pid or os.getpid()], 0, 0.0, 0
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
            io = dict(line.split(":", 1) for line in (root / "io").read_text().splitlines())
            read += int(io["read_bytes"])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
    return Cost(cpu / _TICKS, peak, read)
