"""A stream gives what a store would, however it is left, and its buffers are its own until they are asked for again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from shards.shard_set import ShardSet
from trainer.decode import Bytes, Decoder, SimplejpegDecoder, open_decoder
from trainer.prefetch import AHEAD
from trainer.store import decode_all
from trainer.stream import Stream, scan


class Forgetful(Decoder):
    """A decoder without threads of its own to which one image has become unreadable since the scan."""

    name = "forgetful"

    def __init__(self, inner: Decoder, lost: bytes) -> None:
        super().__init__(inner.size, inner.fit, 1)
        self.inner, self.lost = inner, lost

    def decode(self, images: Sequence[Bytes], out: torch.Tensor) -> list[int]:
        bad = self.inner.decode(images, out)
        return sorted({*bad, *(place for place, image in enumerate(images) if bytes(image) == self.lost)})


class Broken(SimplejpegDecoder):
    def pixels_of(self, data: Bytes, header: object, row: object) -> np.ndarray:
        raise KeyError("not an image's fault")


@pytest.fixture(scope="module")
def source(split: Path) -> ShardSet:
    return ShardSet.open(split / "train")


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return open_decoder("simplejpeg", 24, "pad", 2, "cpu")


def taken(stream: Stream, order: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    images, samples = zip(*((view.numpy().copy(), part) for view, part in stream.views(order, size)), strict=True)
    return np.concatenate(images), np.concatenate(samples)


@pytest.mark.parametrize("size", [1, 7, 16, 100])
def test_views_and_batches_are_the_stores(source: ShardSet, decoder: Decoder, size: int) -> None:
    store = decode_all(source, "train", decoder, torch.device("cpu"))
    stream = scan(source, "train", decoder)
    order = stream.ordered(np.random.default_rng(0).permutation(len(source)))
    for _ in range(2):  # the second time in buffers of the first
        images, samples = taken(stream, order, size)
        assert (samples == order).all()
        assert (images == store.images.numpy()[order]).all()
    for feed in (stream, store):
        out, labels = torch.empty((size, 24, 24, 3), dtype=torch.uint8), torch.empty(size, dtype=torch.int64)
        for part in feed.batches(order, out, labels):
            assert (out[: len(part)].numpy() == store.images.numpy()[part]).all()
            assert (labels[: len(part)].numpy() == source.label_ids[part]).all()


def test_memory_is_bounded_and_used_again(source: ShardSet, decoder: Decoder) -> None:
    stream = scan(source, "train", decoder)
    places = [{view.data_ptr() for view, _ in stream.views(stream.samples, 4)} for _ in range(2)]
    assert len(places[0]) <= AHEAD + 1
    assert places[0] == places[1]


def test_an_epoch_that_is_left_is_begun_anew(source: ShardSet, decoder: Decoder) -> None:
    stream = scan(source, "train", decoder)
    left = stream.views(stream.samples, 4)
    next(left)
    beside = stream.views(stream.samples[::-1], 4)  # two at once have buffers of their own
    _, part = next(beside)
    assert (part == stream.samples[::-1][:4]).all()
    left.close()
    beside.close()
    assert (taken(stream, stream.samples, 4)[1] == stream.samples).all()


def test_what_became_unreadable_leaves_no_gap(source: ShardSet, decoder: Decoder) -> None:
    stream = scan(source, "train", decoder)
    whole, order = taken(stream, stream.samples, 8)
    lost, before = order[10], len(stream.bad)
    stream.decoder = Forgetful(decoder, bytes(source.image(int(lost))))
    images, samples = taken(stream, order, 8)
    assert lost not in samples
    assert len(samples) == len(order) - 1
    assert (images == whole[order != lost]).all()
    assert [bad.key for bad in stream.bad[before:]] == [source.key(int(lost))]
    assert lost not in stream.samples


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_is_raised_where_the_batch_is_waited_for(source: ShardSet, threads: int) -> None:
    broken = Broken(24, "pad", threads)
    stream = Stream(source, "train", broken, np.arange(len(source), dtype=np.int64), [])
    with pytest.raises(KeyError, match="not an image's fault"):
        next(stream.views(stream.samples, 4))
    broken.close()


def test_more_may_be_begun_than_is_waited_for(source: ShardSet, decoder: Decoder) -> None:
    images = [source.image(index) for index in range(8)]
    outs = [torch.zeros((8, 24, 24, 3), dtype=torch.uint8) for _ in range(3)]
    waits: list[Callable[[], list[int]]] = [decoder.begin(images, out) for out in outs]
    expected = torch.zeros_like(outs[0])
    bad = decoder.decode(images, expected)
    assert [wait() for wait in reversed(waits)] == [bad] * 3
    good = np.setdiff1d(np.arange(8), bad)
    assert all((out[good] == expected[good]).all() for out in outs)
