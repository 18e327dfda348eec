"""The loaders that are compared: ours by decoder, and what people use instead, each as its own documentation shows it.

Every contender gives the same thing, so that none wins by doing less: shuffled batches of uint8 (B, S, S, 3) and int64
labels of one shard set's samples, resized to S x S where they have another size.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CONTENDERS", "Contender", "Job", "available"]

Batches = Iterator[tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Job:
    """What a contender is to do.

    Attributes:
        shards: folder of the shard set.
        folders: the same images as label folders, for the contender that reads those.
        size: side S in pixels.
        batch: samples a batch.
        workers: processes or threads the contender may use.
        seed: of the shuffling.
    """

    shards: Path
    folders: Path
    size: int
    batch: int
    workers: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to load the set.

    Attributes:
        name: what tables call it.
        about: one line on what it is.
        open: prepares it in this process; the returned function gives one epoch's batches.
        needs: modules that must be installed.
        ours: whether it is Bassline's own.
    """

    name: str
    about: str
    open: Callable[[Job], Callable[[int], Batches]]
    needs: tuple[str, ...] = ()
    ours: bool = False


def _stream(decoder: str) -> Callable[[Job], Callable[[int], Batches]]:
    def opened(job: Job) -> Callable[[int], Batches]:
        import torch

        from shards.read import BatchReader
        from shards.shard_set import ShardSet
        from trainer.decode import open_decoder

        source = ShardSet.open(job.shards)
        decode = open_decoder(decoder, job.size, "stretch", job.workers, "cpu")
        buffer = torch.empty((job.batch, job.size, job.size, 3), dtype=torch.uint8)

        def epoch(number: int) -> Batches:
            for batch in BatchReader(source, job.batch, seed=job.seed, epoch=number):
                out = buffer[: len(batch)]
                bad = decode.decode(batch.images, out)
                if bad:
                    raise RuntimeError(f"undecodable: {source.where(int(batch.indices[bad[0]]))}")
                yield out, batch.labels

        return epoch

    return opened


def _resident(job: Job) -> Callable[[int], Batches]:
    import torch

    from shards.read import permutation

    pixels, labels = [], []
    for images, ids in _stream("simplejpeg")(job)(0):
        pixels.append(images.clone())
        labels.append(torch.from_numpy(ids))
    store, store_labels = torch.cat(pixels), torch.cat(labels)
    buffer = torch.empty((job.batch, *store.shape[1:]), dtype=torch.uint8)

    def epoch(number: int) -> Batches:
        order = torch.from_numpy(permutation(len(store), job.seed, number))
        for start in range(0, len(order), job.batch):
            index = order[start : start + job.batch]
            out = buffer[: len(index)]
            torch.index_select(store, 0, index, out=out)
            yield out, store_labels[index]

    return epoch


def _dali(job: Job) -> Callable[[int], Batches]:
    import torch
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.plugin.base_iterator import LastBatchPolicy
    from nvidia.dali.plugin.pytorch import DALIGenericIterator

    tars = sorted(str(path) for path in job.shards.glob("*.tar"))

    @pipeline_def(batch_size=job.batch, num_threads=job.workers, device_id=None, seed=job.seed)  # type: ignore[untyped-decorator]
    def pipeline() -> Any:
        encoded, label = fn.readers.webdataset(  # type: ignore[misc]
            paths=tars,
            index_paths=[tar.removesuffix(".tar") + ".idx" for tar in tars],
            ext=["jpg;png;webp", "cls"],
            missing_component_behavior="error",
            random_shuffle=True,
            initial_fill=1024,
            name="reader",
        )
        images = fn.decoders.image(encoded, device="cpu", output_type=types.RGB)
        images = fn.resize(images, size=[job.size, job.size], interp_type=types.INTERP_TRIANGULAR)
        return images, fn.pad(label, axes=(0,), fill_value=0)

    loader = DALIGenericIterator(
        [pipeline()],
        ["images", "labels"],
        reader_name="reader",
        last_batch_policy=LastBatchPolicy.PARTIAL,
        auto_reset=True,
    )

    def epoch(number: int) -> Batches:
        for (batch,) in loader:
            # .cls is text of up to a few digits, padded with zero bytes
            digits = batch["labels"].numpy()
            yield batch["images"], torch.tensor([int(bytes(row).rstrip(b"\0")) for row in digits])

    return epoch


def _to_array(size: int) -> Callable[[Any], Any]:
    def convert(image: Any) -> Any:
        import numpy as np
        import torch
        from PIL import Image

        image = image.convert("RGB")
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image))

    return convert


def _webdataset(job: Job) -> Callable[[int], Batches]:
    import webdataset as wds
    from torch.utils.data import DataLoader

    tars = sorted(str(path) for path in job.shards.glob("*.tar"))
    workers = min(job.workers, len(tars))  # a worker without a shard is an error there
    dataset = (
        wds.WebDataset(tars, shardshuffle=len(tars), seed=job.seed)
        .shuffle(1024)
        .decode("pil")
        .to_tuple("jpg;png;webp", "cls")
        .map_tuple(_to_array(job.size), int)
        .batched(job.batch)
    )
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, persistent_workers=True)
    return lambda number: iter(loader)


def _image_folder(job: Job) -> Callable[[int], Batches]:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    dataset = ImageFolder(str(job.folders), transform=_to_array(job.size))
    loader = DataLoader(dataset, job.batch, shuffle=True, num_workers=job.workers, persistent_workers=True)
    return lambda number: iter(loader)


CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        Contender("resident", "decoded once, then gathered by index", _resident, ours=True),
        Contender("stream-simplejpeg", "our reader, simplejpeg threads", _stream("simplejpeg"), ours=True),
        Contender("stream-dali", "our reader, DALI decoding on the CPU", _stream("dali"), ("nvidia.dali",), ours=True),
        Contender("stream-pillow", "our reader, Pillow threads", _stream("pillow"), ours=True),
        Contender("dali", "DALI's own webdataset pipeline", _dali, ("nvidia.dali",)),
        Contender("webdataset", "webdataset, Pillow, DataLoader workers", _webdataset, ("webdataset",)),
        Contender(
            "imagefolder", "torchvision ImageFolder, Pillow, DataLoader workers", _image_folder, ("torchvision",)
        ),
    )
}


def available(contender: Contender) -> bool:
    """Whether what it needs is installed."""
    try:
        return all(importlib.util.find_spec(module) is not None for module in contender.needs)
    except ModuleNotFoundError:
        return False
