"""One shard set in the formats that other loaders read, made outside the clock; what making them cost is told apart.

Some writers run in the peers' Python: `convert` is called by `bench.zygote`, in a process of its own.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shards.shard_set import ShardSet, finish
from shards.writer import ShardWriter

__all__ = ["FORMATS", "SHARDS", "convert", "image_bytes", "spread", "write_folders"]

SHARDS = 8
"""Tars for readers that hand out whole tars: with fewer, DataLoader workers stand idle and shuffles are bunched."""


def spread(source: ShardSet, folder: Path) -> None:
    """The same samples in `SHARDS` tars, order kept; the bytes of a sample stay as they are."""
    with ShardWriter(folder, max_samples=-(-len(source) // SHARDS)) as writer:
        for index in range(len(source)):
            writer.add(source.sample(index))
            if writer.full:
                writer.seal()
        writer.seal()
    finish(folder, source.labels, source={"spread": source.digest}).close()


def write_folders(source: ShardSet, folder: Path) -> None:
    """Writes a set as label folders, as torchvision's ImageFolder reads them; replaces what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    for label in source.labels:
        (folder / label).mkdir(parents=True)
    for index in range(len(source)):
        label = source.labels[int(source.label_ids[index])]
        # ImageFolder goes by the name: .jpg, .png and .webp are all on its list
        (folder / label / f"{source.key(index)}.{source.ext(index)}").write_bytes(source.image(index))


def image_bytes(source: ShardSet) -> int:
    """Of all the set's encoded images."""
    return int(source.index.rows["size"].sum(dtype=np.int64))


def _folders(source: ShardSet, folder: Path, size: int) -> int:
    write_folders(source, folder)
    return image_bytes(source)


def _npy(source: ShardSet, folder: Path, size: int) -> int:
    """S4's pair of arrays, decoded by Pillow: also what everybody's pixels are held against."""
    import torch

    from trainer.decode import open_decoder
    from trainer.store import decoded_into, pass_over

    folder.mkdir()
    shape = (len(source), size, size, 3)
    images = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    pixels = torch.from_numpy(images)
    decoder = open_decoder("pillow", size, "stretch", 0, "cpu")
    pass_over(source, "train", decoded_into(source, decoder, lambda first, last: pixels[first:last]), None, None)
    decoder.close()
    np.save(folder / "labels.npy", source.label_ids)
    return images.nbytes


def _mds(source: ShardSet, folder: Path, size: int) -> int:
    from streaming import MDSWriter

    with MDSWriter(out=str(folder), columns={"image": "bytes", "label": "int"}, size_limit=1 << 23) as writer:
        for index in range(len(source)):
            writer.write({"image": bytes(source.image(index)), "label": int(source.label_ids[index])})
    return image_bytes(source)


def _lit_sample(shards: str, index: int) -> dict[str, Any]:
    global _open
    if _open is None:
        _open = ShardSet.open(Path(shards))
    return {"image": bytes(_open.image(index)), "label": int(_open.label_ids[index])}


_open: ShardSet | None = None  # one a worker process of LitData's


def _litdata(source: ShardSet, folder: Path, size: int) -> int:
    from litdata import optimize

    optimize(
        fn=partial(_lit_sample, str(source.folder)), inputs=list(range(len(source))), output_dir=str(folder),
        num_workers=2, chunk_bytes="8MB", verbose=False,
    )  # fmt: skip
    return image_bytes(source)


def _beton(source: ShardSet, folder: Path, size: int) -> int:
    from ffcv.fields import IntField, RGBImageField
    from ffcv.reader import Reader
    from ffcv.writer import DatasetWriter

    from trainer.decode import read_rgb

    class Pictures:
        def __len__(self) -> int:
            return len(source)

        def __getitem__(self, index: int) -> Any:
            return np.array(read_rgb(source.image(index))), int(source.label_ids[index])

    folder.mkdir()
    # jpg mode encodes anew (quality 90, its own default): the one contender whose pixels are not the set's
    fields = {"image": RGBImageField(write_mode="jpg"), "label": IntField()}
    DatasetWriter(str(folder / "set.beton"), fields, num_workers=2).from_indexed_dataset(Pictures())
    return int(Reader(str(folder / "set.beton")).alloc_table["size"].sum())  # the file is padded to pages of 8 MiB


FORMATS: dict[str, tuple[Callable[[ShardSet, Path, int], int], str]] = {
    "folders": (_folders, ""),
    "npy": (_npy, ""),
    "mds": (_mds, "streaming"),
    "litdata": (_litdata, "litdata"),
    "beton": (_beton, "ffcv"),
}
"""Name -> (writer, which gives back the bytes an epoch cannot do without; the module it needs where it runs)."""


def convert(job: dict[str, Any]) -> dict[str, Any]:
    """Writes `job["shards"]` in format `job["format"]` to `job["folder"]`, for pictures of `job["size"]`.

    Returns:
        `seconds`, imports left out; `bytes` written; `needed`, those that an epoch cannot do without.
    """
    writer, module = FORMATS[job["format"]]
    if module:
        __import__(module)
    folder = Path(job["folder"])
    begun = time.perf_counter()
    with ShardSet.open(Path(job["shards"])) as source:
        needed = writer(source, folder, job["size"])
    spent = time.perf_counter() - begun
    written = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {"seconds": spent, "bytes": written, "needed": needed}
