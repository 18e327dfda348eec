"""Decoding alone, as fast as a run decodes: ahead of whoever takes the batches, in its threads or its processes.

`decode_rates` is called by `bench.zygote`, in a process of its own.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shards.errors import ConfigError
from shards.read import permutation
from shards.shard_set import ShardSet
from trainer.decode import open_decoder
from trainer.prefetch import AHEAD
from trainer.stream import Stream

__all__ = ["decode_rate", "decode_rates"]


def decode_rate(stream: Stream, batch: int, seconds: float, least: int = 1) -> float:
    """Images/s of a stream's decoding as a run has it (ahead, where the run decodes), left where it was decoded.

    The whole loader does the same and copies each batch, so that it is no faster.

    Args:
        stream: its epochs are drained, full batches only.
        batch: images.
        seconds, least: it lasts at least so long, and so many batches after the first few.
    """
    cuda, done, begun = stream.device.type == "cuda", -AHEAD - 1, 0.0  # what is ahead at first was not yet timed
    for epoch in count():
        order = stream.ordered(permutation(len(stream.labels), 1, epoch))
        order = order[: max(len(order) // batch, 1) * batch]
        with closing(stream.views(order, batch)) as views:
            for _ in views:
                done += 1
                if cuda:
                    torch.cuda.synchronize()
                if done == 0:
                    begun = time.perf_counter()
                elif done >= least and (spent := time.perf_counter() - begun) >= seconds:
                    return done * min(batch, len(order)) / spent
    raise AssertionError("epochs do not end")


def decode_rates(job: dict[str, Any]) -> dict[str, Any]:
    """Images/s of other decoders and thread counts on the run's own images, decoded as the run does.

    Args:
        job: `data`, folder of a shard set; `size`, `fit`, `batch`, `device`; `workers`, as the run file has them;
            `variants`, [decoder, threads] each; `seconds` of each.

    Returns:
        `rates`: for "decoder/threads" images/s; what is not installed, or cannot decode so, is left out.
    """
    rates = {}
    with closing(ShardSet.open(Path(job["data"]))) as source:
        samples = np.arange(len(source), dtype=np.int64)
        for name, threads in job["variants"]:
            try:
                decoder = open_decoder(name, job["size"], job["fit"], threads, job["device"])
            except ConfigError:
                continue
            stream = Stream(source, "train", decoder, samples, [], job["workers"])
            # Where the run wants processes, one with threads of its own is left out.
            with closing(decoder), closing(stream), suppress(ConfigError):
                rates[f"{name}/{threads}"] = decode_rate(stream, job["batch"], job["seconds"])
    return {"rates": rates}
