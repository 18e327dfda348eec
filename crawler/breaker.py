"""The circuit breaker of a host: one that keeps failing is let alone, asked now and then, and in the end given up.

    closed ──failures in a row──> open ──pause over──> one probe ──answered──> closed
                                   ^                      │
                                   └──failed: pause doubled┘   failing for give_up_s: down, for the rest of the run

Pure: it reads no clock, so that a test can be its clock.
"""

from __future__ import annotations

from crawler.limits import Limits

__all__ = ["Breaker"]


class Breaker:
    """When a host may be asked, from how it answered. All times are seconds of one clock.

    Args:
        limits: `breaker_failures`, `breaker_pause_s`, `breaker_longest_pause_s`, `give_up_s`.
    """

    __slots__ = ("_first_failure", "_limits", "_open_until", "_pause", "failures", "is_open", "opened", "probing")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.failures = 0  # in a row
        self.is_open = False
        self.probing = False
        self.opened = 0  # times, for the report
        self._first_failure = self._open_until = 0.0
        self._pause = limits.breaker_pause_s

    def wait_s(self, now: float) -> float | None:
        """Seconds until a request may begin, 0 for now; None while a probe is out whose end decides."""
        if not self.is_open:
            return 0.0
        return None if self.probing else max(0.0, self._open_until - now)

    def begin(self) -> bool:
        """A request begins, `wait_s` being 0; tells whether it is a probe, which `answered`, `failed` take back."""
        self.probing = self.is_open
        return self.is_open

    def answered(self) -> None:
        """The host answered, to whomever: it is there."""
        if self.failures:
            self.failures = 0
            self.is_open = self.probing = False
            self._pause = self._limits.breaker_pause_s

    def failed(self, now: float, *, probe: bool) -> bool:
        """A request failed.

        Requests begun before the breaker opened tell nothing new when they fail after it.

        Returns:
            Whether the host is to be given up.
        """
        self.failures += 1
        if self.failures == 1:
            self._first_failure = now
        if probe and self.is_open:
            self.probing = False
            self._pause = min(self._pause * 2, self._limits.breaker_longest_pause_s)
        elif self.is_open or self.failures < self._limits.breaker_failures:
            return False
        else:
            self.opened += 1
        end = self._first_failure + self._limits.give_up_s
        self.is_open = True
        # the last probe is at the end of the time, not some pause after it
        self._open_until = max(now, min(now + self._pause, end))
        return now >= end

    def abandoned(self) -> None:
        """The probe ended without an outcome (it was cancelled): another may begin."""
        self.probing = False
