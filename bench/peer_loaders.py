"""What people use in our loaders' place, each as its own documentation shows it and with the workers it is allowed."""

from __future__ import annotations

import io
import itertools
import math
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.loader_job import DEVIATION, MEAN, Batches, Job

__all__ = ["dali", "decode", "ffcv", "imagefolder", "litdata", "mds", "memmap", "spdl", "tensor", "webdataset"]

_SLOTS = 4  # batches that the bound has in memory

Open = Callable[[Job], Callable[[int], Batches]]


class _Decode:
    """Bytes to a uint8 tensor (S, S, 3); a class, so that worker processes can be sent it."""

    def __init__(self, decoder: str, size: int) -> None:
        self.decoder, self.size = decoder, size

    def __call__(self, data: bytes) -> Any:
        import numpy as np
        import torch
        from PIL import Image

        if self.decoder == "simplejpeg" and data[:2] == b"\xff\xd8":
            import simplejpeg

            pixels = simplejpeg.decode_jpeg(data)
            if pixels.shape[:2] == (self.size, self.size):
                return torch.from_numpy(pixels)
            image = Image.fromarray(pixels)
        else:
            image = Image.open(io.BytesIO(data)).convert("RGB")
        return torch.from_numpy(np.array(self.resized(image)))

    def of_image(self, image: Any) -> Any:
        """The same of a Pillow image, as ImageFolder hands them out."""
        import numpy as np
        import torch

        return torch.from_numpy(np.array(self.resized(image)))

    def resized(self, image: Any) -> Any:
        from PIL import Image

        if image.size == (self.size, self.size):
            return image
        return image.resize((self.size, self.size), Image.Resampling.BILINEAR)


def _tars(job: Job) -> list[str]:
    return sorted(str(path) for path in Path(job.shards).glob("*.tar"))


def decode(job: Job) -> Callable[[int], Batches]:
    """The least that can be done for a set that is decoded every epoch: the bound for what streams.

    Processes share memory for a few batches; each decodes its rows of every batch, whose bytes it has in memory.
    """
    import mmap

    import numpy as np
    import simplejpeg

    from shards.shard_set import ShardSet

    source = ShardSet.open(Path(job.shards))
    images = [bytes(source.image(i)) for i in range(len(source))]
    whole = [source.widths[i] == source.heights[i] == job.size and source.ext(i) == "jpg" for i in range(len(source))]
    other = _Decode("simplejpeg", job.size)
    shape, starts = (_SLOTS, job.batch, job.size, job.size, 3), range(0, len(images), job.batch)
    slots = np.frombuffer(mmap.mmap(-1, math.prod(shape)), np.uint8).reshape(shape)
    links: list[socket.socket] = []

    def work(worker: int, link: socket.socket) -> None:
        for batch in itertools.count():
            if not link.recv(1):
                return
            start, rows = starts[batch % len(starts)], slots[batch % _SLOTS]
            for number in range(start + worker, min(start + job.batch, len(images)), job.workers):
                if whole[number]:
                    simplejpeg.decode_jpeg(images[number], buffer=rows[number - start])
                else:
                    rows[number - start] = other(images[number]).numpy()
            link.send(b".")

    for worker in range(job.workers):
        link, far = socket.socketpair()
        links.append(link)
        if os.fork() == 0:
            for end in links:
                end.close()
            try:
                work(worker, far)
            finally:
                os._exit(0)
        far.close()
    batches = itertools.count()

    def epoch(number: int) -> Batches:
        given = 0
        for done, start in enumerate(starts):
            while given < min(done + _SLOTS, len(starts)):
                for link in links:
                    link.send(b".")
                given += 1
            for link in links:
                link.recv(1)
            end = min(start + job.batch, len(images))
            yield slots[next(batches) % _SLOTS][: end - start], source.label_ids[start:end]

    return epoch


def tensor(job: Job) -> Callable[[int], Batches]:
    """The least that can be done for a set in memory: the bound for our resident epochs."""
    import numpy as np
    import torch

    images = torch.from_numpy(np.load(job.path("npy") / "images.npy"))
    labels = torch.from_numpy(np.load(job.path("npy") / "labels.npy"))
    out = torch.empty((job.batch, *images.shape[1:]), dtype=torch.uint8)

    def epoch(number: int) -> Batches:
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(number))
        for index in torch.split(order, job.batch):
            yield torch.index_select(images, 0, index, out=out[: len(index)]), labels[index]

    return epoch


def memmap(job: Job) -> Callable[[int], Batches]:
    import numpy as np

    images = np.load(job.path("npy") / "images.npy", mmap_mode="r")
    labels = np.load(job.path("npy") / "labels.npy")

    def epoch(number: int) -> Batches:
        order = np.random.default_rng(number).permutation(len(images))
        for start in range(0, len(order), job.batch):
            index = order[start : start + job.batch]
            yield images[index], labels[index]

    return epoch


def imagefolder(*, normalised: bool = False) -> Open:
    def opened(job: Job) -> Callable[[int], Batches]:
        from torch.utils.data import DataLoader
        from torchvision import transforms
        from torchvision.datasets import ImageFolder

        decode = _Decode("pillow", job.size)
        transform: Any = decode.of_image
        if normalised:
            whole = transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)
            transform = transforms.Compose([decode.resized, *whole])
        dataset = ImageFolder(str(job.path("folders")), transform=transform)
        loader = DataLoader(dataset, job.batch, shuffle=True, num_workers=job.workers, persistent_workers=True)
        return lambda number: iter(loader)

    return opened


def webdataset(decoder: str) -> Open:
    def opened(job: Job) -> Callable[[int], Batches]:
        import webdataset as wds
        from torch.utils.data import DataLoader

        tars = _tars(job)
        dataset = (
            wds.WebDataset(tars, shardshuffle=len(tars), seed=job.seed)
            .shuffle(1024)
            .to_tuple("jpg;png;webp", "cls")
            .map_tuple(_Decode(decoder, job.size), int)
            .batched(job.batch)
        )
        workers = min(job.workers, len(tars))  # a worker without a shard is an error there
        loader = DataLoader(dataset, batch_size=None, num_workers=workers, persistent_workers=True)
        return lambda number: iter(loader)

    return opened


def dali(job: Job) -> Callable[[int], Batches]:
    import torch
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.plugin.base_iterator import LastBatchPolicy
    from nvidia.dali.plugin.pytorch import DALIGenericIterator

    tars = _tars(job)

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
        if not job.uniform:  # it would filter what needs no resize too, for several times the cost of decoding
            images = fn.resize(images, size=[job.size, job.size], interp_type=types.INTERP_TRIANGULAR)
        return images, fn.pad(label, axes=(0,), fill_value=0)

    loader = DALIGenericIterator(
        [pipeline()], ["images", "labels"], reader_name="reader", last_batch_policy=LastBatchPolicy.PARTIAL,
        auto_reset=True,
    )  # fmt: skip

    def epoch(number: int) -> Batches:
        for (batch,) in loader:
            # .cls is text of up to a few digits, padded with zero bytes
            digits = batch["labels"].numpy()
            yield batch["images"], torch.tensor([int(bytes(row).rstrip(b"\0")) for row in digits])

    return epoch


def mds(job: Job) -> Callable[[int], Batches]:
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    decode = _Decode("pillow", job.size)

    class Pictures(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, at: Any) -> Any:
            sample = super().__getitem__(at)
            return decode(sample["image"]), sample["label"]

    dataset = Pictures(
        local=str(job.path("mds")), shuffle=True, shuffle_seed=job.seed, batch_size=job.batch, num_canonical_nodes=1
    )
    loader: Any = DataLoader(dataset, job.batch, num_workers=job.workers, persistent_workers=True)
    return lambda number: iter(loader)


def litdata(decoder: str) -> Open:
    def opened(job: Job) -> Callable[[int], Batches]:
        from litdata import StreamingDataLoader, StreamingDataset

        decode = _Decode(decoder, job.size)

        class Pictures(StreamingDataset):  # type: ignore[misc]
            def __getitem__(self, index: Any) -> Any:
                sample = super().__getitem__(index)
                return decode(sample["image"]), sample["label"]

        dataset = Pictures(str(job.path("litdata")), shuffle=True, seed=job.seed, drop_last=False)
        loader = StreamingDataLoader(
            dataset, batch_size=job.batch, num_workers=job.workers, persistent_workers=True, drop_last=False
        )
        return lambda number: iter(loader)

    return opened


def spdl(job: Job) -> Callable[[int], Batches]:
    import random

    import numpy as np
    import torch
    from spdl.pipeline import PipelineBuilder

    folders = sorted(path for path in job.path("folders").iterdir())
    files = [(str(file), label) for label, folder in enumerate(folders) for file in sorted(folder.iterdir())]
    decode = _Decode("simplejpeg", job.size)

    def load(items: list[tuple[str, int]]) -> tuple[Any, Any]:
        """A batch at a time: passing images on one by one costs SPDL's event loop more than decoding them."""
        images = np.empty((len(items), job.size, job.size, 3), np.uint8)
        for row, (path, _) in zip(images, items, strict=True):
            with open(path, "rb") as file:  # noqa: PTH123 a Path costs a tenth of the read
                row[:] = decode(file.read()).numpy()  # torch's copy would have threads that wait for each other
        return torch.from_numpy(images), torch.tensor([label for _, label in items])

    def epoch(number: int) -> Batches:
        random.Random(number).shuffle(files)
        pipeline = (
            PipelineBuilder()
            .add_source([files[start : start + job.batch] for start in range(0, len(files), job.batch)])
            .pipe(load, concurrency=job.workers)
            .add_sink(3)
            .build(num_threads=job.workers)
        )
        with pipeline.auto_stop():
            yield from pipeline.get_iterator()

    return epoch


def ffcv(job: Job) -> Callable[[int], Batches]:
    from ffcv.fields.basics import IntDecoder
    from ffcv.fields.rgb_image import SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import ToTensor

    loader = Loader(
        str(job.path("beton") / "set.beton"), batch_size=job.batch, num_workers=job.workers, order=OrderOption.RANDOM,
        os_cache=True, seed=job.seed, drop_last=False,
        pipelines={"image": [SimpleRGBImageDecoder(), ToTensor()], "label": [IntDecoder(), ToTensor()]},
    )  # fmt: skip

    def epoch(number: int) -> Batches:
        for images, labels in loader:
            yield images, labels.flatten()

    return epoch
