"""Other people's readers read our tars, and we read other people's: every sample, bytes and labels."""

from __future__ import annotations

import gc
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds
from nvidia.dali import fn, pipeline_def
from PIL import Image

from shards.read import BatchReader
from shards.shard_set import ShardSet, finish

Draw = Callable[..., bytes]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves the tars it read to the collector
def test_the_webdataset_package_agrees(real: ShardSet) -> None:
    tars = [str(real.folder / info.name) for info in real.manifest.shards]
    theirs = list(wds.WebDataset(tars, shardshuffle=False, empty_check=False))
    gc.collect()
    assert len(theirs) == len(real)
    for i, found in enumerate(theirs):
        assert found["__key__"] == real.key(i)
        assert found[real.ext(i)] == bytes(real.image(i))
        assert int(found["cls"]) == real.label_ids[i]


@pytest.mark.parametrize("indexed", [True, False])
def test_dali_agrees(real: ShardSet, indexed: bool) -> None:
    """DALI's own reader, with and without our .idx, gives the bytes and labels that our reader gives."""
    tars = [real.folder / info.name for info in real.manifest.shards]

    @pipeline_def(batch_size=16, num_threads=2, device_id=None)
    def pipeline():
        return tuple(
            fn.readers.webdataset(
                paths=[str(tar) for tar in tars],
                index_paths=[str(tar.with_suffix(".idx")) for tar in tars] if indexed else None,
                ext=["jpg;png;webp", "cls"],
                missing_component_behavior="error",
            )
        )

    pipe = pipeline()
    pipe.build()
    theirs = []
    while len(theirs) < len(real):
        images, labels = pipe.run()
        theirs += zip(map(np.array, images), map(np.array, labels), strict=True)
    for batch in BatchReader(real, 16):
        for i, image, label in zip(batch.indices, batch.images, batch.labels, strict=True):
            assert theirs[i][0].tobytes() == bytes(image)
            assert int(theirs[i][1].tobytes()) == label


def test_dali_decodes_our_views(real: ShardSet) -> None:
    """The reader's views go to DALI without a copy on our side, and come out as the pixels Pillow sees, nearly."""
    batches = iter(BatchReader(real, 16, seed=1))

    @pipeline_def(batch_size=16, num_threads=2, device_id=None)
    def pipeline():
        encoded = fn.external_source(
            source=lambda: [np.frombuffer(view, np.uint8) for view in next(batches).images], batch=True
        )
        return fn.decoders.image(encoded, device="cpu")

    pipe = pipeline()
    pipe.build()
    for batch in BatchReader(real, 16, seed=1):
        (decoded,) = pipe.run()
        for view, pixels in zip(batch.images, decoded, strict=True):
            with Image.open(io.BytesIO(view)) as image:
                expected = np.asarray(image.convert("RGB"), np.int16)
            found = np.array(pixels)
            assert found.shape == expected.shape
            assert np.abs(found - expected).mean() < 1.5


def test_their_tars_can_be_indexed_and_opened(tmp_path: Path, draw: Draw) -> None:
    """webdataset's ShardWriter: pax headers, its own owner and times, .jpg + .cls + .json, or only .jpg + .cls."""
    images = [draw(seed) for seed in range(9)]
    with wds.ShardWriter(str(tmp_path / "theirs-%06d.tar"), maxcount=4, verbose=0, mtime=1.5) as writer:
        for n, image in enumerate(images):
            record = {"__key__": f"folder/größe{n}", "jpg": image, "cls": n % 3}
            writer.write(record | ({"json": {"n": n}} if n % 2 else {}))
    with finish(tmp_path, ["a", "b", "c"], source={"kind": "others"}) as ours:
        assert [bytes(ours.image(i)) for i in range(9)] == images
        assert ours.label_ids.tolist() == [n % 3 for n in range(9)]
        assert [ours.meta(i) for i in (0, 1)] == [{}, {"n": 1}]
        assert ours.key(4) == "folder/größe4"
        assert ours.find("folder/größe4") == 4
        assert ours.counts == {"a": 3, "b": 3, "c": 3}
        assert set(ours.widths.tolist()) == {40}


def test_jpeg_and_misnamed_members(tmp_path: Path, draw: Draw) -> None:
    with wds.TarWriter(str(tmp_path / "x.tar")) as writer:
        writer.write({"__key__": "a", "jpeg": draw(0), "cls": 0})
        writer.write({"__key__": "b", "jpg": draw(1, "PNG"), "cls": 0})
    with finish(tmp_path, ["a"], source={}) as ours:
        assert [ours.ext(0), ours.ext(1)] == ["jpg", "png"]
