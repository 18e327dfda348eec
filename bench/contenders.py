"""The loaders that are compared: ours by decoder, and what people use instead (`peer_loaders.py`).

Every contender gives the same thing, so that none wins by doing less: shuffled batches of uint8 (B, S, S, 3) and int64
labels of one shard set's samples, resized to S x S where they have another size. Two do more and are told apart by
`-float32`: they normalise as well, which is how ImageFolder is mostly used; here a step does it, on its own device.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from bench import peer_loaders as peers
from bench.loader_job import DEVIATION, MEAN, Batches, Contender, Job

__all__ = ["CONTENDERS", "Contender", "Job", "available"]


def _stream(
    decoder: str, device: str = "cpu", workers: Literal["auto", "threads"] = "auto"
) -> Callable[[Job], Callable[[int], Batches]]:
    def opened(job: Job) -> Callable[[int], Batches]:
        import numpy as np

        from shards.read import permutation
        from shards.shard_set import ShardSet
        from trainer.decode import open_decoder
        from trainer.stream import Stream

        source = ShardSet.open(Path(job.shards))
        decode = open_decoder(decoder, job.size, "stretch", job.workers, device)
        stream = Stream(source, "train", decode, np.arange(len(source), dtype=np.int64), [], workers)

        def epoch(number: int) -> Batches:
            for images, part in stream.views(permutation(len(source), job.seed, number), job.batch):
                yield images, source.label_ids[part]

        return epoch

    return opened


def _normalised(decoder: str) -> Callable[[Job], Callable[[int], Batches]]:
    """The stream with a step's own normalising behind it."""

    def opened(job: Job) -> Callable[[int], Batches]:
        import torch

        from trainer.step import Normaliser

        mean, deviation = 255 * torch.tensor(MEAN), 255 * torch.tensor(DEVIATION)
        normalise = Normaliser(mean, deviation, job.batch, job.size, channels_last=False)
        epoch_of = _stream(decoder)(job)

        def epoch(number: int) -> Batches:
            for images, labels in epoch_of(number):
                yield normalise(images), labels

        return epoch

    return opened


def _resident(job: Job) -> Callable[[int], Batches]:
    import torch

    from shards.read import permutation
    from shards.shard_set import ShardSet
    from trainer.decode import open_decoder
    from trainer.store import decode_all

    source = ShardSet.open(Path(job.shards))
    decoder = open_decoder("auto", job.size, "stretch", job.workers, "cpu")
    store = decode_all(source, "train", decoder, torch.device("cpu"))
    images = torch.empty((job.batch, job.size, job.size, 3), dtype=torch.uint8)
    labels = torch.empty(job.batch, dtype=torch.int64)

    def epoch(number: int) -> Batches:
        for part in store.batches(permutation(len(source), job.seed, number), images, labels):
            yield images[: len(part)], labels[: len(part)]

    return epoch


_ALL = (
    Contender("resident", "decoded once, then gathered by index", _resident, ours=True),
    Contender("stream-simplejpeg", "decoded every epoch, simplejpeg in processes", _stream("simplejpeg"), ours=True),
    Contender(
        "stream-threads", "the same in threads of one process", _stream("simplejpeg", workers="threads"), ours=True
    ),
    Contender("stream-torchvision", "the same, torchvision's decoder", _stream("torchvision"), ours=True),
    Contender("stream-dali", "the same, DALI on the CPU", _stream("dali"), ("nvidia.dali",), ours=True),
    Contender(
        "stream-dali-gpu", "the same, DALI on the GPU", _stream("dali", "cuda"), ("nvidia.dali",), gpu=True, ours=True
    ),
    Contender(
        "stream-float32",
        "simplejpeg in processes, then normalised as a step does",
        _normalised("simplejpeg"),
        ours=True,
        normalises=True,
    ),
    Contender("stream-pillow", "the same, Pillow", _stream("pillow"), ours=True),
    Contender("decode", "the ceiling: simplejpeg alone, bytes in memory, their own order", peers.decode),
    Contender("tensor", "plain torch: one tensor in memory, index_select", peers.tensor, formats=("npy",)),
    Contender("memmap", "plain NumPy: .npy memory-mapped, fancy index", peers.memmap, formats=("npy",)),
    Contender("ffcv", "FFCV, jpg mode, its own compiled threads", peers.ffcv, ("ffcv",), ("beton",)),
    Contender("dali", "DALI's own webdataset pipeline", peers.dali, ("nvidia.dali",)),
    Contender("spdl", "SPDL pipeline over files, simplejpeg threads", peers.spdl, ("spdl.pipeline",), ("folders",)),
    Contender(
        "litdata-simplejpeg", "LitData, simplejpeg workers", peers.litdata("simplejpeg"), ("litdata",), ("litdata",)
    ),
    Contender("litdata", "LitData, Pillow workers", peers.litdata("pillow"), ("litdata",), ("litdata",)),
    Contender(
        "webdataset-simplejpeg", "webdataset, simplejpeg, DataLoader", peers.webdataset("simplejpeg"), ("webdataset",)
    ),
    Contender("webdataset", "webdataset, Pillow, DataLoader", peers.webdataset("pillow"), ("webdataset",)),
    Contender("mds", "MosaicML Streaming, Pillow, DataLoader", peers.mds, ("streaming",), ("mds",)),
    Contender(
        "imagefolder",
        "torchvision ImageFolder, Pillow, DataLoader",
        peers.imagefolder(),
        ("torchvision",),
        ("folders",),
    ),
    Contender(
        "imagefolder-float32",
        "the same with ToTensor and Normalize, as its documentation has it",
        peers.imagefolder(normalised=True),
        ("torchvision",),
        ("folders",),
        normalises=True,
    ),
)

CONTENDERS: dict[str, Contender] = {contender.name: contender for contender in _ALL}


def available(contender: Contender) -> bool:
    """Whether what it needs is installed here; a GPU among it."""
    try:
        found = all(importlib.util.find_spec(module) is not None for module in contender.needs)
    except ModuleNotFoundError:
        return False
    return found and (not contender.gpu or _gpu())


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()
