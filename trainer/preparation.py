"""What a run takes from its training part beforehand: the whitening stem, the labels' weights, an epoch's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shards.errors import ConfigError
from shards.read import permutation
from trainer.config import Optim, RunConfig
from trainer.pretrained import start_from
from trainer.residual import WhitenStem
from trainer.sampling import balanced_order, balanced_weights
from trainer.step import Normaliser
from trainer.store import Feed

__all__ = ["class_weights", "epoch_order", "prepare"]

_WHITEN_FROM = 512  # images: at 64 pixels two million patches for twelve directions


def prepare(net: nn.Module, config: RunConfig, train: Feed, mean: list[float], std: list[float]) -> None:
    """Fits a whitening stem to the training part and loads `net.weights`; for a net that is still on the host.

    Raises:
        ConfigError: as `trainer.pretrained.start_from`.
    """
    stems = [module for module in net.modules() if isinstance(module, WhitenStem)]
    if stems:
        images = _some_images(train, config.data.size, config.train.batch)
        middle, spread = (torch.tensor(values, dtype=torch.float32) for values in (mean, std))
        normalised = Normaliser(middle, spread, len(images), config.data.size, channels_last=False)(images)
        for stem in stems:
            stem.fit_to(normalised)
    if config.net.weights:
        start_from(net, Path(config.net.weights))


def _some_images(train: Feed, size: int, batch: int) -> torch.Tensor:
    """Images spread over the part, uint8 (N, size, size, 3), on the host; taken in the run's own batches."""
    count = min(_WHITEN_FROM, len(train.samples))
    chosen = train.samples[np.linspace(0, len(train.samples) - 1, count).astype(np.int64)]
    images = torch.empty((min(batch, count), size, size, 3), dtype=torch.uint8, device=train.device)
    labels = torch.empty(len(images), dtype=torch.int64, device=train.device)
    return torch.cat([images[: len(part)].cpu().clone() for part in train.batches(chosen, images, labels)])


def class_weights(optim: Optim, train: Feed, labels: tuple[str, ...]) -> NDArray[np.float32] | None:
    """The weight of each label in the loss, float32 (labels,); None where all count the same.

    Raises:
        ConfigError: the run file has another number of weights than there are labels.
    """
    if optim.class_weights == "none":
        return None
    if optim.class_weights == "balanced":
        return balanced_weights(train.labels[train.samples], len(labels))
    if len(optim.class_weights) != len(labels) or not any(optim.class_weights):
        raise ConfigError(
            "optim",
            "class_weights",
            f"{len(optim.class_weights)} numbers; {len(labels)} were expected, not all 0, for {', '.join(labels)}",
        )
    return np.asarray(optim.class_weights, np.float32)


def epoch_order(train: Feed, sampling: str, seed: int, epoch: int) -> NDArray[np.int64]:
    """The samples of an epoch in their order, int64 (M,), from (seed, epoch) alone."""
    if sampling == "balanced":
        return balanced_order(train.labels, train.samples, seed, epoch)
    return train.ordered(permutation(len(train.labels), seed, epoch))
