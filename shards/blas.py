"""Linear algebra on one thread: BLAS's own threads wait by spinning, and on busy cores cost more than they bring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

__all__ = ["one_thread"]

_lock = Lock()
_inside = 0
_limits: Any = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps BLAS to the calling thread inside a `with`, whatever has loaded it; for the whole process, so briefly.

    Several threads may be inside at a time: what was before comes back when the last of them leaves.

    100,000 hashes are grouped in a third of the seconds on two cores that others use too; a small logistic regression
    in a twentieth.
    """
    global _inside, _limits
    with _lock:
        if not _inside:
            _limits = threadpool_limits(1, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _limits.restore_original_limits()
