"""Python's search for cycles of garbage, made seldom while a crawl runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["seldom_searched"]

_NEW = 20_000  # objects made and not freed before the young are searched; Python's own: 700


@contextmanager
def seldom_searched() -> Iterator[None]:
    """Searches less often inside a `with`, and never among what is there at its start: for the whole process.

    A crawl makes few cycles, but holds the 100,000 objects of its imports, which every full search would go through.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_NEW, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
