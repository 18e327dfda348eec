"""One contender of `bench loaders` in a process of its own, forked by `bench.zygote` with only torch imported."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bench.loader_job import DEVIATION, MEAN, Batches, Job
from bench.process import cost

__all__ = ["NEAR", "features", "measure", "write_features"]

_CHECKED = 512  # images held against the reference decode
_GRID = 5
NEAR = 3
"""Levels of 255 within which decoders agree (docs/decisions/trainer-decoders.md)."""


def measure(wish: dict[str, Any]) -> dict[str, Any]:
    """Runs epochs of a contender.

    Args:
        wish: `name`; `job`; `epochs`, at most, of which those after the second only while they took less than `seconds`
            together; `check`: whether to hold pixels and labels against the reference.

    Returns:
        `first_batch_s`, from after torch's import; `seconds` and `images` of each epoch, the first with all that
        opening costs; `dtype` of the images; `read_bytes` of the first; `cpu_s_per_1000` images after the first;
        `peak_mib`, and `extra_mib` of it over what torch's import takes; `checked`, see `_checked`.
    """
    from bench.contenders import CONTENDERS

    start, begun = cost(), time.perf_counter()
    import torch

    job = Job(**wish["job"])
    torch.set_num_threads(job.workers)
    epoch_of = CONTENDERS[wish["name"]].open(job)
    first, dtype = None, ""
    seconds, counts = [], []
    after_first = start
    for number in range(wish["epochs"]):
        count = 0
        for images, labels in epoch_of(number):
            if first is None:
                first, dtype = time.perf_counter() - begun, str(images.dtype).removeprefix("torch.")
            count += min(len(images), len(labels))
        now = time.perf_counter()
        seconds.append(now - begun)
        counts.append(count)
        if number == 0:
            after_first = cost()
        elif sum(seconds[1:]) >= wish["seconds"]:
            break
        begun = time.perf_counter()
    end = cost()
    later = sum(counts[1:])
    return {
        "first_batch_s": first,
        "seconds": seconds,
        "images": counts,
        "dtype": dtype,
        "read_bytes": after_first.read_bytes - start.read_bytes,
        "cpu_s_per_1000": (end.cpu_s - after_first.cpu_s) / later * 1000 if later else None,
        "peak_mib": end.peak_mib,
        "extra_mib": end.peak_mib - start.peak_mib,
        "checked": _checked(epoch_of(len(counts)), job) if wish["check"] else None,
    }


def features(images: Any) -> Any:
    """Mean colours of a 5x5 grid: uint8 (B, S, S, 3) to float32 (B, 75), which tells pictures apart and survives
    another decoder.
    """
    cell = max(images.shape[1] // _GRID, 1)
    grid = min(images.shape[1], _GRID)
    part = np.asarray(images)[:, : grid * cell, : grid * cell]
    return part.reshape(len(part), grid, cell, grid, cell, 3).mean((2, 4), dtype=np.float32).reshape(len(part), -1)


def _levels(images: Any) -> Any:
    """A contender's batch as uint8 (B, S, S, 3), with the normalising of float32 (B, 3, S, S) undone."""
    if images.dtype == np.uint8:
        return images
    planes = images.transpose(0, 2, 3, 1) * np.asarray(DEVIATION, np.float32) + np.asarray(MEAN, np.float32)
    return (planes * 255).round().clip(0, 255).astype(np.uint8)


def _checked(batches: Batches, job: Job) -> dict[str, Any]:
    """Finds each of the first images in the reference decode (Pillow's), whatever order they come in.

    Returns:
        `levels`: mean absolute difference, of 255; `near`: share of values within `NEAR` levels; `labels`: share of
        images with the label of the picture they are, where label numbers may be others' own.
    """
    reference = np.load(job.path("npy") / "images.npy", mmap_mode="r")
    truth = np.load(job.path("npy") / "labels.npy")
    known = np.load(job.path("npy") / "features.npy")
    gaps, near, pairs = [], [], []
    for images, labels in islice(batches, -(-_CHECKED // job.batch)):
        seen = _levels(np.asarray(images))
        own = features(seen)
        apart = (known**2).sum(1) - 2 * own @ known.T  # squared distance less what is the same for all
        for image, place, label in zip(seen, apart.argmin(1).tolist(), np.asarray(labels).tolist(), strict=True):
            gap = np.abs(image.astype(np.int16) - reference[place])
            gaps.append(float(gap.mean()))
            near.append(float((gap <= NEAR).mean()))
            pairs.append((int(label), int(truth[place])))
    names: dict[int, int] = {}
    for label in {label for label, _ in pairs}:
        told = [true for own_label, true in pairs if own_label == label]
        names[label] = max(set(told), key=told.count)
    return {
        "levels": float(np.mean(gaps)),
        "near": float(np.mean(near)),
        "labels": sum(names[label] == true for label, true in pairs) / len(pairs) if len(names) else 0.0,
        "names": len(set(names.values())),
    }


def write_features(folder: str) -> None:
    """Beside a reference decode, for `_checked`."""
    images = np.load(Path(folder) / "images.npy", mmap_mode="r")
    parts = [features(images[start : start + 512]) for start in range(0, len(images), 512)]
    np.save(Path(folder) / "features.npy", np.concatenate(parts))
