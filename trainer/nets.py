"""The nets a run file can describe: layers of convolution, a residual net for small images, and torchvision's."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from shards.errors import ConfigError
from trainer.block import Block
from trainer.config import Head, Net
from trainer.residual import residual_net
from trainer.zoo import zoo_net

__all__ = ["build_net", "head_of", "parameters_of"]


def build_net(net: Net, labels: int, size: int) -> nn.Module:
    """Builds the net for square RGB images; draws its weights from torch's generator.

    Takes float32 (B, 3, size, size), normalised; gives logits float32 (B, labels). `net.weights` is not looked at: see
    `trainer.pretrained`.

    Raises:
        ConfigError: a layer leaves no pixels, or torchvision has no such model; names it.
    """
    if net.kind == "torchvision":
        return zoo_net(net, labels, size)
    return residual_net(net, labels, size, head_of) if net.kind == "residual" else _conv_net(net, labels, size)


def _conv_net(net: Net, labels: int, size: int) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    maps, side = 3, size
    for number, layer in enumerate(net.layers):
        after = (side + 2 * layer.padding - layer.kernel) // layer.stride + 1
        pooled = after // layer.pool
        if after < 1 or pooled < 1:
            raise ConfigError(
                "net",
                f"layers.{number}",
                f"{side} pixels come in and none go out; less kernel, stride or pool is needed",
            )
        block: OrderedDict[str, nn.Module] = OrderedDict()
        block["conv"] = nn.Conv2d(maps, layer.maps, layer.kernel, layer.stride, layer.padding)
        if layer.batch_norm:
            block["norm"] = nn.BatchNorm2d(layer.maps)
        block["relu"] = nn.ReLU(inplace=True)
        if layer.pool > 1:
            block["pool"] = nn.MaxPool2d(layer.pool)
        if layer.dropout:
            block["drop"] = nn.Dropout(layer.dropout)
        parts[f"layer{number + 1}"] = Block(block)
        maps, side = layer.maps, pooled
    parts |= head_of(net.head, maps, side, labels, pool="none")
    return nn.Sequential(parts)


def head_of(head: Head, maps: int, side: int, labels: int, *, pool: str) -> OrderedDict[str, nn.Module]:
    """The layers from (B, maps, side, side) to logits (B, labels); `pool` is what `auto` stands for."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    pool = pool if head.pool == "auto" else head.pool
    width = maps if pool != "none" else maps * side * side
    if pool != "none":
        parts["pool"] = _MeanPixel() if pool == "average" else _MaxPixel()
    parts["flat"] = nn.Flatten()
    for number, hidden in enumerate(head.hidden):
        if head.dropout:
            parts[f"drop{number + 1}"] = nn.Dropout(head.dropout)
        parts[f"hidden{number + 1}"] = nn.Linear(width, hidden)
        parts[f"relu{number + 1}"] = nn.ReLU(inplace=True)
        width = hidden
    if head.dropout:
        parts["drop"] = nn.Dropout(head.dropout)
    parts["head"] = nn.Linear(width, labels)
    if head.scale != 1:
        parts["scale"] = _Scale(head.scale)
    return parts


class _MeanPixel(nn.Module):
    """(B, C, H, W) to (B, C): torch's adaptive pooling has no deterministic backward pass on a GPU, a mean has."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.mean((2, 3))


class _MaxPixel(nn.Module):
    """(B, C, H, W) to (B, C)."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.amax((2, 3))


class _Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits * self.factor


def parameters_of(net: nn.Module) -> int:
    """Numbers in the net's weights, frozen ones included."""
    return sum(parameter.numel() for parameter in net.parameters())
