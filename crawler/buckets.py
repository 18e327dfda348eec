"""Two budgets that fill as a crawl goes: bytes a second, and retries as a share of requests.

Pure: they read no clock.
"""

from __future__ import annotations

from crawler.limits import Limits

__all__ = ["ByteBucket", "RetryBudget"]

_MOST_SAVED = 100.0  # retries a long run without any may save up


class ByteBucket:
    """A cap on bytes a second, as a debt that time pays off (a token bucket, told from its other side).

    What has arrived is counted after the fact, because nobody knows the size of the next piece. The caller then waits
    before it reads on, and TCP tells the server.

    Args:
        rate: bytes a second; 0 is no cap.
    """

    __slots__ = ("_paid_until", "_rate")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._paid_until = 0.0

    def take(self, size: int, now: float) -> float:
        """Counts `size` bytes at `now`; returns the seconds to wait before more are read."""
        if not self._rate:
            return 0.0
        self._paid_until = max(self._paid_until, now) + size / self._rate
        return self._paid_until - now


class RetryBudget:
    """Retries that a host may cost: a share of the requests made to it and a floor, so that a host in trouble is not
    asked several times as often as a healthy one. The mechanism is Finagle's and gRPC's.

    Args:
        limits: `retry_ratio`, `retry_floor`.
    """

    __slots__ = ("_ratio", "left")

    def __init__(self, limits: Limits) -> None:
        self._ratio = limits.retry_ratio
        self.left = float(limits.retry_floor)

    def earn(self) -> None:
        """A first attempt was made."""
        if self.left < _MOST_SAVED:
            self.left += self._ratio

    def spend(self) -> bool:
        """Whether a retry may be made; it is then counted."""
        if self.left < 1 - 1e-9:  # ten tenths are one
            return False
        self.left -= 1
        return True
