"""The nets a run file can describe: layers of convolution, and one linear layer over what is left."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from shards.errors import ConfigError
from trainer.block import Block
from trainer.config import Net

__all__ = ["build_net", "parameters_of"]


def build_net(net: Net, labels: int, size: int) -> nn.Sequential:
    """Builds the net for square RGB images; draws its weights from torch's generator.

    Takes float32 (B, 3, size, size), normalised; gives logits float32 (B, labels).

    Raises:
        ConfigError: a layer leaves no pixels; names it.
    """
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
    parts["flat"] = nn.Flatten()
    parts["head"] = nn.Linear(maps * side * side, labels)
    return nn.Sequential(parts)


def parameters_of(net: nn.Module) -> int:
    """Trained numbers in the net."""
    return sum(parameter.numel() for parameter in net.parameters())
