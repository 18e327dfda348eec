"""What a store gives is its rows by number, however many threads a batch is worth."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from trainer.store import Store


@pytest.fixture
def store() -> Store:
    images = np.random.default_rng(0).integers(0, 256, (300, 128, 128, 3), np.uint8)
    return Store(torch.from_numpy(images), np.arange(300) % 7, np.arange(300), [])


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("size", [16, 131, 300, 400])  # 0.8 to 20 MB a batch: alone, shared, shared and never full
def test_any_number_of_threads_gathers_the_same(store: Store, threads: int, size: int) -> None:
    order = np.random.default_rng(1).permutation(300)
    out, labels = torch.empty((size, 128, 128, 3), dtype=torch.uint8), torch.empty(size, dtype=torch.int64)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seen = []
        for part in store.batches(order, out, labels):
            assert (out[: len(part)].numpy() == store.images.numpy()[part]).all()
            assert (labels[: len(part)].numpy() == part % 7).all()
            seen.append(part)
    finally:
        torch.set_num_threads(before)
    assert (np.concatenate(seen) == order).all()


def test_an_epoch_that_is_left_leaves_no_thread(store: Store) -> None:
    out, labels = torch.empty((300, 128, 128, 3), dtype=torch.uint8), torch.empty(300, dtype=torch.int64)
    left = store.batches(np.arange(300), out, labels)
    next(left)
    del left
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gather")]
