"""A layer as one operation gives what its parts give, forwards and backwards, to rounding."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import trainer.block
from trainer.block import Block


def make(channels: int, maps: int, kernel: int, stride: int, padding: int, norm: bool) -> Block:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["conv"] = nn.Conv2d(channels, maps, kernel, stride, padding)
    if norm:
        parts["norm"] = nn.BatchNorm2d(maps)
        nn.init.uniform_(parts["norm"].weight, -1.0, 1.5)  # negative ones take the smallest of a window
        nn.init.uniform_(parts["norm"].bias, -0.5, 0.5)
    parts["relu"], parts["pool"] = nn.ReLU(inplace=True), nn.MaxPool2d(2)
    return Block(parts)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([1, 3, 5, 16, 20]),
    st.sampled_from([1, 3, 5]),
    st.integers(1, 2),
    st.integers(0, 2),
    st.integers(9, 16),
    st.booleans(),
    st.sampled_from([1, 500, 8 << 20]),
)
def test_the_parts_and_the_whole_agree(
    seed: int, maps: int, kernel: int, stride: int, padding: int, side: int, norm: bool, piece: int
) -> None:
    torch.manual_seed(seed)
    block = make(3, maps, kernel, stride, padding, norm)
    # The plain chain in double precision, in the usual order: the reference.
    plain = nn.Sequential(OrderedDict(copy.deepcopy(block).named_children())).double()
    plain.relu.inplace = False
    images = (torch.randn(6, 3, side, side) + 0.7).requires_grad_()
    wide = images.detach().double().requires_grad_()
    kept, trainer.block._PIECE = trainer.block._PIECE, piece
    try:
        ours, theirs = block(images), plain(wide)
        assert type(ours.grad_fn).__name__ == "_ConvPoolBackward"
        toward = torch.randn_like(ours)
        ours.backward(toward)
        theirs.backward(toward.double())
        close(ours, theirs, "output")
        close(images.grad, wide.grad, "images")
        for (name, mine), their in zip(block.named_parameters(), plain.parameters(), strict=True):
            close(mine.grad, their.grad, name)
        for (name, mine), their in zip(block.named_buffers(), plain.buffers(), strict=True):
            close(mine, their, name)
        block.eval(), plain.eval()
        with torch.inference_mode():
            close(block(images), plain(wide), "tested")
    finally:
        trainer.block._PIECE = kept


def close(mine: torch.Tensor | None, theirs: torch.Tensor | None, name: str) -> None:
    assert mine is not None
    assert theirs is not None
    assert mine.shape == theirs.shape, name
    torch.testing.assert_close(mine.double(), theirs.double(), rtol=2e-3, atol=2e-4, msg=lambda text: f"{name}: {text}")


def test_asked_for_gradients_a_tested_net_runs_part_by_part() -> None:
    """Explaining hooks into the convolution, and a compiler fuses by itself."""
    block, seen = make(3, 4, 3, 1, 0, norm=True).eval(), list[int]()
    block.conv.register_forward_hook(lambda *_: seen.append(1))
    images = torch.randn(2, 3, 8, 8)
    by_parts = block(images)
    assert seen == [1]
    with torch.inference_mode():
        assert torch.allclose(block(images), by_parts, atol=1e-5)
    assert seen == [1]


def test_memory_is_let_go_of_once() -> None:
    block = make(3, 4, 3, 1, 0, norm=False)
    loss = block(torch.randn(2, 3, 8, 8)).sum()
    loss.backward()
    with pytest.raises(RuntimeError):
        loss.backward()
