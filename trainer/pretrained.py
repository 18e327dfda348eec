"""Weights from a file as a net's start: ours, or a state dict of torch's; never from the network."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from shards.errors import ConfigError

__all__ = ["start_from"]


def start_from(net: nn.Module, path: Path) -> list[str]:
    """Takes from the file what fits the net by name and shape; gives the names of the net's tensors it does not have.

    The last layer of a net for other labels does not fit, and stays as it was drawn.

    Raises:
        ConfigError: there is no such file, it holds no tensors by name, or none of them fits.
    """
    where = "net.weights"
    found: object
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(where, str(path), "no such file; nothing is fetched, give a file on this machine") from None
    except Exception as error:  # torch raises whatever the bytes lead to, an IndexError over a text file
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(where, str(path), f"holds no weights: {said}") from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict):
        raise ConfigError(where, str(path), f"a state dict was expected, not a {type(found).__name__}")
    own = net.state_dict()
    taken = {
        name: tensor
        for name, tensor in found.items()
        if name in own and isinstance(tensor, torch.Tensor) and tensor.shape == own[name].shape
    }
    if not taken:
        raise ConfigError(where, str(path), "no tensor of it fits this net by name and shape; is it of another net?")
    net.load_state_dict(taken, strict=False)
    return sorted(own.keys() - taken.keys())
