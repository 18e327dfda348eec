"""torchvision's classification models by name, untrained, with the labels and the image size of the data."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

import torch
from torch import nn

from shards.errors import ConfigError
from trainer.config import Net

__all__ = ["zoo_net"]


def zoo_net(net: Net, labels: int, size: int) -> nn.Module:
    """Builds torchvision's model `net.name`; nothing is fetched.

    Raises:
        ConfigError: there is no such model, it cannot take images of this size, or its stem cannot be made small.
    """
    from torchvision import models  # half a second, for those who want it

    known = models.list_models(module=models)
    if net.name not in known:
        near = difflib.get_close_matches(net.name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "such as resnet18, convnext_tiny, efficientnet_b0"
        raise ConfigError("net", "name", f"torchvision has no classification model {net.name!r}; {hint}")
    options: dict[str, Any] = {"num_classes": labels}
    accepted = inspect.signature(models.get_model_builder(net.name)).parameters
    if net.name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}  # answers of side branches are no logits
    if net.name.startswith("vit_"):
        options["image_size"] = size
    if "weights_backbone" in accepted:
        options["weights_backbone"] = None
    try:
        made: nn.Module = models.get_model(net.name, weights=None, **options)
        if net.small_stem:
            _make_stem_small(made, net.name)
        with torch.random.fork_rng(devices=[]), torch.inference_mode():  # dropout must not draw from the run's numbers
            made.eval()(torch.zeros(1, 3, size, size))
    except (RuntimeError, ValueError, AssertionError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError("net", "name", f"{net.name} does not take images of {size} pixels: {first}") from None
    return made.train()


def _make_stem_small(made: nn.Module, name: str) -> None:
    has = [isinstance(getattr(made, part, None), kind) for part, kind in (("conv1", nn.Conv2d), ("maxpool", nn.Module))]
    if not all(has):
        raise ConfigError("net", "small_stem", f"belongs to ResNets and their kin, and {name} is none; leave it out")
    first = made.conv1
    assert isinstance(first, nn.Conv2d)
    small = nn.Conv2d(first.in_channels, first.out_channels, 3, padding=1, bias=first.bias is not None)
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
    made.conv1, made.maxpool = small, nn.Identity()
