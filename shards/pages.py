"""Mapped tars cost memory only while they are looked at: what was read can be let go of."""

from __future__ import annotations

import mmap

from shards.shard_set import ShardSet

__all__ = ["Pages"]


class Pages:
    """Keeps the resident part of a set's mapped tars bounded, whatever the order they are read in.

    The pages stay in the system's cache; this process only stops holding them, so that a set larger than memory, or
    than a container's limit, can be read by views as well.

    Args:
        source: the set that is read.
        budget_bytes: let go after so many bytes read. A random read of a thumbnail touches whole pages around it.
    """

    def __init__(self, source: ShardSet, budget_bytes: int = 32 << 20) -> None:
        self._source, self._budget, self._read = source, budget_bytes, 0

    def count(self, size: int) -> None:
        """Says that `size` bytes were read. Not to be called while another thread looks at a view of them for speed."""
        self._read += size + 2 * mmap.PAGESIZE
        if self._read > self._budget:
            self.release()

    def release(self) -> None:
        """Lets go of all pages now; views stay valid and are read again from the file when looked at."""
        self._read = 0
        if not isinstance(self._source.tars, list):  # of a set in a store the cache decides
            return
        for tar in self._source.tars:
            if isinstance(tar.obj, mmap.mmap):
                tar.obj.madvise(mmap.MADV_DONTNEED)
