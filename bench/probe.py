"""What the parts of the machine can do, each asked alone: the disk, memory.

The functions that take a `job` are called by `bench.zygote`, in processes of their own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.process import read_bytes

__all__ = ["disk_rate", "evict", "fill", "gather_rate"]

_CHUNK = 1 << 20
_ENOUGH = 256 << 20  # bytes of reading that say what a disk does


def evict(paths: Iterable[Path]) -> None:
    """Asks the kernel to drop these files from the page cache. It may not (others map them): prove it by bytes read."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # dirty pages stay
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def fill(paths: Iterable[Path]) -> None:
    """Reads these files into the page cache, if they take no more than half of the memory that is free."""
    paths = list(paths)
    told = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    if sum(path.stat().st_size for path in paths) > int(told["MemAvailable"].split()[0]) * 1024 // 2:
        return
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(_CHUNK):
                pass


def disk_rate(job: dict[str, Any]) -> dict[str, Any]:
    """Reads evicted files from their start to their end.

    Args:
        job: `paths`; `seconds`.

    Returns:
        `bytes_per_s`; `share`, of the bytes that came from the device and not from a cache.
    """
    paths = [Path(path) for path in job["paths"]]
    evict(paths)
    before, done, begun = read_bytes(), 0, time.perf_counter()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                done += len(chunk)
                if done >= _ENOUGH or time.perf_counter() - begun > job["seconds"]:
                    break
    spent = time.perf_counter() - begun
    return {"bytes_per_s": done / spent, "share": (read_bytes() - before) / max(done, 1)}


def gather_rate(job: dict[str, Any]) -> dict[str, Any]:
    """Images/s of gathering batches by index from a decoded set on the device.

    Args:
        job: `size`, `batch`, `samples`, `device`, `seconds`.

    Returns:
        `rate`, and `free_bytes` of the device.
    """
    import torch

    from trainer.store import free_bytes

    device = torch.device(job["device"])
    size, batch = job["size"], job["batch"]
    kept = torch.zeros((min(job["samples"], max(batch, _ENOUGH // (size * size * 3))), size, size, 3),
                       dtype=torch.uint8, device=device)  # fmt: skip
    out = torch.empty((batch, size, size, 3), dtype=torch.uint8, device=device)
    rows = torch.randint(0, len(kept), (64, batch), device=device)
    done, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < job["seconds"]:
        for row in rows:
            torch.index_select(kept, 0, row, out=out)
            done += batch
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return {"rate": done / spent, "free_bytes": free_bytes(device)}
