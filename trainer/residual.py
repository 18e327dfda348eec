"""The residual net for small images: what trains fastest to a good answer on a few thousand thumbnails.

The shape is ResNet-9's, as Page's DAWNBench entry (github.com/davidcpage/cifar10-fast) and Jordan's airbench (arXiv
2404.00498) have it: a convolution and a max pool from stage to stage, few blocks. Dirac start and whitening stem are
airbench's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

from shards.errors import ConfigError
from trainer.config import Net

__all__ = ["WhitenStem", "residual_net"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "silu": lambda: nn.SiLU(inplace=True),
    "gelu": nn.GELU,
}
_WHITE_MAPS = 24  # 2 x 2 pixels of 3 channels have 12 directions; each is taken with both signs


def residual_net(
    net: Net, labels: int, size: int, head_of: Callable[..., OrderedDict[str, nn.Module]]
) -> nn.Sequential:
    """Builds it; `head_of` is `trainer.nets.head_of`.

    Raises:
        ConfigError: there are more stages than the size can be halved.
    """
    activation = _ACTIVATIONS[net.activation]
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    side = size
    if net.whiten:
        parts["stem"] = WhitenStem(activation(), net.stem_stride)
        maps, side = _WHITE_MAPS, (size - 2) // net.stem_stride + 1
    else:
        # A stem that strides looks at two pixels more than it strides, so that neighbours overlap by two.
        kernel = net.stem_stride + 2
        stem = nn.Conv2d(3, net.widths[0], kernel, net.stem_stride, padding=1, bias=False)
        parts["stem"] = nn.Sequential(stem, nn.BatchNorm2d(net.widths[0]), activation())
        maps, side = net.widths[0], (size + 2 - kernel) // net.stem_stride + 1
    for number, width in enumerate(net.widths):
        if side < 2:
            raise ConfigError(
                "net", f"widths.{number}", f"{size} pixels cannot be halved {number + 1} times; fewer widths are needed"
            )
        stage: OrderedDict[str, nn.Module] = OrderedDict()
        stage["conv"] = _conv(maps, width)
        stage["pool"] = nn.MaxPool2d(2)
        stage["norm"] = nn.BatchNorm2d(width)
        stage["act"] = activation()
        for block in range(net.blocks):
            stage[f"block{block + 1}"] = _Block(width, activation)
        if net.dropout:
            stage["drop"] = nn.Dropout2d(net.dropout)
        parts[f"stage{number + 1}"] = nn.Sequential(stage)
        maps, side = width, side // 2
    parts |= head_of(net.head, maps, side, labels, pool="average")
    made = nn.Sequential(parts)
    for module in made.modules():
        if isinstance(module, nn.Conv2d) and module.weight.requires_grad:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if net.init == "dirac":
                with torch.no_grad():
                    nn.init.dirac_(module.weight[: module.in_channels])
    return made


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, bias=False)  # the batch norm after it has the bias


class _Block(nn.Module):
    """x + two convolutions of x; the last norm starts at zero, so that a block starts as the identity (Goyal 2017)."""

    def __init__(self, width: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        last = nn.BatchNorm2d(width)
        nn.init.zeros_(last.weight)
        self.body = nn.Sequential(_conv(width, width), nn.BatchNorm2d(width), activation(), _conv(width, width), last)
        self.act = activation()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.act(maps + self.body(maps))
        return out


class WhitenStem(nn.Module):
    """A 2x2 convolution whose frozen weights decorrelate patches of the training set; its bias is trained.

    (B, 3, S, S) to (B, 24, S - 1, S - 1), or fewer with a stride. Until `fit_to` it holds random weights.
    """

    def __init__(self, activation: nn.Module, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, _WHITE_MAPS, 2, stride)
        self.conv.weight.requires_grad_(False)
        self.act = activation

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.act(self.conv(images))
        return out

    @torch.no_grad()
    def fit_to(self, images: torch.Tensor, eps: float = 5e-4) -> None:
        """Sets the weights from normalised images float32 (N, 3, S, S): the patches' eigenvectors over the roots of
        their eigenvalues, and the same negated (airbench's init_whitening_conv)."""
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12).double()
        values, vectors = torch.linalg.eigh((patches.T @ patches / len(patches)).cpu())
        filters = (vectors / (values + eps).sqrt()).T.flip(0).reshape(12, 3, 2, 2)
        self.conv.weight.copy_(torch.cat([filters, -filters]).to(self.conv.weight))
