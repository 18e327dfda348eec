"""How fast is our loader beside the others: same samples, size, dtype and layout, in turns, each in its own process."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.contenders import CONTENDERS, Job, available
from bench.errors import BenchError, ContenderFailed
from bench.record import Record, measured
from bench.stats import ratio, summarise
from shards.errors import ConfigError
from shards.shard_set import ShardSet

__all__ = ["REFERENCE", "compare_loaders", "write_folders"]

REFERENCE = "imagefolder"
"""The loader that ratios are against, unless it is left out: what most people start from."""

# Decoders agree within a few levels a pixel, so an image's mean within one. Alpha (others drop it, we compose it over
# white) touches a few images of a set, which is why 19 in 20 must agree and not all.
SAME_PICTURE = 1.0


def compare_loaders(
    shards: Path,
    *,
    names: Sequence[str] = (),
    size: int = 150,
    batch: int = 256,
    workers: int = 2,
    epochs: int = 3,
    repeats: int = 5,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Record:
    """Measures loaders over one shard set, in interleaved rounds: A B C, C B A, A B C, ...

    Args:
        shards: the set; read once before, so that the page cache is warm.
        names: contenders, by default all that are installed.
        size, batch, workers: see `Job`.
        epochs: epochs a process runs; those after the first are averaged.
        repeats: processes a contender, at least 5 for a claim.
        on_progress: called with (done, total, name).

    Raises:
        ConfigError: an unknown contender or too few epochs.
        ContenderFailed: a contender's process failed.
        BenchError: a contender left out samples or decoded other pictures.
    """
    for name in names:
        if name not in CONTENDERS:
            raise ConfigError("--only", name, f"unknown contender; known: {', '.join(CONTENDERS)}")
        if not available(CONTENDERS[name]):
            raise ConfigError("--only", name, f"needs {', '.join(CONTENDERS[name].needs)}, which is not installed")
    if epochs < 2 or repeats < 1:
        raise ConfigError("--epochs", "", f"{epochs} epochs, {repeats} repeats; expected at least 2 and 1")
    chosen = list(names) or [name for name, contender in CONTENDERS.items() if available(contender)]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory(prefix="bassline-loaders-") as temporary, ShardSet.open(shards) as source:
        job = Job(shards, Path(temporary), size, batch, workers)
        if REFERENCE in chosen:
            write_folders(source, job.folders)
        samples, digest, shard_count = len(source), source.digest, len(source.manifest.shards)
        data_bytes = sum(info.bytes for info in source.manifest.shards)
        for data in source.tars:
            sum(data[::4096])  # touch every page: all contenders start from a warm cache
        for round_number in range(repeats):
            for turn, name in enumerate(chosen if round_number % 2 == 0 else reversed(chosen)):
                if on_progress:
                    on_progress(round_number * len(chosen) + turn, repeats * len(chosen), name)
                results[name].append(_run(name, job, epochs, samples))
    reference = results.get("stream-pillow") or next(iter(results.values()))
    measurements = {}
    for name, runs in results.items():
        gaps = sorted(abs(a - b) for a, b in zip(runs[0]["means"], reference[0]["means"], strict=True))
        gap = gaps[int(0.95 * (len(gaps) - 1))]
        if gap > SAME_PICTURE:
            raise BenchError(f"contender {name} decodes other pictures: their mean levels differ by {gap:.2f} of 255")
        measurements[name] = _measurement(name, runs, gap)
    rates = {name: [_rate(run) for run in runs] for name, runs in results.items()}
    against = REFERENCE if REFERENCE in rates else chosen[0]
    return Record(
        kind="loaders",
        settings={
            "samples": samples, "bytes": data_bytes, "data_digest": digest, "shards": shard_count, "size": size,
            "batch": batch, "workers": workers, "epochs": epochs, "repeats": repeats, "cache": "warm",
            "reference": against,
        },
        measurements=measurements,
        ratios={f"{name}/{against}": measured("ratio", ratio(rates[name], rates[against])) for name in chosen},
    )  # fmt: skip


def _rate(run: dict[str, Any]) -> float:
    """Images/s over the epochs after the first."""
    return float(sum(run["images"][1:]) / sum(run["epochs"][1:]))


def _measurement(name: str, runs: list[dict[str, Any]], gap: float) -> dict[str, Any]:
    return measured(
        "images/s",
        summarise([_rate(run) for run in runs]),
        about=CONTENDERS[name].about,
        ours=CONTENDERS[name].ours,
        first_epoch=statistics.median(run["images"][0] / run["epochs"][0] for run in runs),
        first_batch_s=statistics.median(run["first_batch_s"] for run in runs),
        cpu_s_per_1000=statistics.median(run["cpu_s_per_1000"] for run in runs),
        peak_mib=statistics.median(run["peak_mib"] for run in runs),
        mean_level_gap=gap,
    )


def _run(name: str, job: Job, epochs: int, samples: int) -> dict[str, Any]:
    wish = {
        "name": name,
        "job": {**asdict(job), "shards": str(job.shards), "folders": str(job.folders)},
        "epochs": epochs,
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.worker", json.dumps(wish)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ContenderFailed(name, done.stderr.strip().rpartition("\n")[2])
    run: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    if run["images"] != [samples] * epochs:
        raise BenchError(f"contender {name} gave {run['images']} images an epoch of {samples}; its rate says nothing")
    return run


def write_folders(source: ShardSet, folder: Path) -> None:
    """Writes a set as label folders, as torchvision's ImageFolder reads them; replaces what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    for label in source.labels:
        (folder / label).mkdir(parents=True)
    for index in range(len(source)):
        label = source.labels[int(source.label_ids[index])]
        # ImageFolder goes by the name: .jpg, .png and .webp are all on its list
        (folder / label / f"{source.key(index)}.{source.ext(index)}").write_bytes(source.image(index))
