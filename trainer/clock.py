"""Where the seconds of a run went, from the command's start; kept over a resume."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["PARTS", "Clock"]

PARTS = ("start", "decode", "compile", "train", "validate", "test", "save", "ceiling")


class Clock:
    """Adds up seconds by part of the run; what no part claims is the residual.

    Args:
        started: `time.monotonic()` at the command's start; what passed since then is the part `start`.
        earlier: seconds by part, and "total", of the processes this one goes on from.
    """

    def __init__(self, started: float | None, earlier: Mapping[str, float] | None = None) -> None:
        now = time.monotonic()
        self._started = now if started is None else started
        self._earlier = dict(earlier or {})
        self.parts = {part: self._earlier.get(part, 0.0) for part in PARTS}
        self.parts["start"] += now - self._started

    @contextmanager
    def spend(self, part: str) -> Iterator[None]:
        """Counts the time inside as `part`; parts do not nest."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.parts[part] += time.monotonic() - began

    def add(self, part: str, seconds: float) -> None:
        """Counts seconds measured elsewhere."""
        self.parts[part] += seconds

    @property
    def total(self) -> float:
        """Seconds since the command's start, and those of the processes before."""
        return self._earlier.get("total", 0.0) + time.monotonic() - self._started

    def split(self) -> dict[str, float]:
        """Seconds by part, and "total"; also what a later process goes on from."""
        return {**self.parts, "total": self.total}
