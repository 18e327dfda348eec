"""The parts of a split on disk: one pass over the samples, a shard set a part, and split.json last."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.files import write_atomic
from shards.sample import Sample
from shards.shard_set import ShardSet
from shards.shuffle import in_order
from shards.writer import write_set

__all__ = ["RECIPE_NAME", "SplitProgress", "write_parts"]

RECIPE_NAME = "split.json"


@dataclass(frozen=True, slots=True)
class SplitProgress:
    """How far a split is.

    Args:
        stage: "hash", "group", "spill" (the first of two passes, where the set does not fit memory) or "write".
        done, total: samples.
    """

    stage: str
    done: int
    total: int


def write_parts(
    source: ShardSet,
    folder: Path,
    parts: Mapping[str, NDArray[np.int64]],
    group_ids: NDArray[np.int64],
    recipe: Mapping[str, Any],
    *,
    shard_samples: int,
    memory_bytes: int,
    on_progress: Callable[[SplitProgress], None],
) -> None:
    """Writes folder/<name> for every part, and folder/split.json: `recipe` and what the parts hold.

    Args:
        source: an opened set.
        folder: created if absent; what it holds after an error is the caller's to remove.
        parts: by name, the numbers of the samples in their order, int64 (M,); no sample twice.
        group_ids: of all samples of `source`, int64 (N,).
        recipe: has recipe.seed.
        shard_samples: samples a shard.
        memory_bytes: of samples held at a time.
    """
    folder.mkdir(exist_ok=True)
    total = sum(map(len, parts.values()))

    def samples(spilled: Iterator[Sample], chosen: NDArray[np.int64], before: int) -> Iterator[Sample]:
        for done, i in enumerate(chosen.tolist(), before + 1):
            sample = next(spilled)
            yield replace(sample, meta=sample.meta | {"group": int(group_ids[i])})
            if not done % 256:
                on_progress(SplitProgress("write", done, total))

    spilled = in_order(
        source,
        np.concatenate(list(parts.values())),
        folder,
        memory_bytes=memory_bytes,
        on_progress=lambda done: on_progress(SplitProgress("spill", done, total)),
    )
    described, before = {}, 0
    with closing(spilled):
        for name, chosen in parts.items():
            origin = {"kind": "split", "of": source.digest, "part": name, "seed": recipe["recipe"]["seed"]}
            with write_set(
                folder / name,
                samples(spilled, chosen, before),
                source.labels,
                source=origin,
                split=name,
                shard_samples=shard_samples,
            ) as made:
                described[name] = {"samples": len(made), "counts": made.counts, "digest": made.digest}
            before += len(chosen)
    text = json.dumps({**recipe, "parts": described}, ensure_ascii=False, indent=1)
    write_atomic(folder / RECIPE_NAME, [text.encode(), b"\n"])
