"""Averages of the weights over the steps, in memory of their own: what is validated, selected and kept."""

from __future__ import annotations

import copy

import torch
from torch import nn

from trainer.config import Average

__all__ = ["WeightAverage", "ema_decay"]


def ema_decay(decay: float, updates: int) -> float:
    """The decay of update number `updates`, from 0: lower at first, so that an average forgets the drawn weights soon.

    min(decay, (1 + n) / (10 + n)), as TensorFlow's ExponentialMovingAverage and timm's have it.
    """
    return min(decay, (1 + updates) / (10 + updates))


class WeightAverage:
    """A second net of the same shape whose weights and batch-norm statistics are the averages.

    Attributes:
        net: the averaged net; its memory never moves.
    """

    def __init__(self, net: nn.Module, how: Average) -> None:
        self.how, self.net = how, copy.deepcopy(net)
        self.net.requires_grad_(False)
        floats = [tensor.is_floating_point() for tensor in net.state_dict().values()]
        now, kept = list(net.state_dict().values()), list(self.net.state_dict().values())
        self._fast = [tensor for tensor, is_float in zip(now, floats, strict=True) if is_float]
        self._slow = [tensor for tensor, is_float in zip(kept, floats, strict=True) if is_float]
        self._fast_counts = [tensor for tensor, is_float in zip(now, floats, strict=True) if not is_float]
        self._slow_counts = [tensor for tensor, is_float in zip(kept, floats, strict=True) if not is_float]

    @torch.no_grad()
    def after(self, steps: int) -> None:
        """Takes in the weights after `steps` steps of the run.

        The host knows the number, so nothing waits for a device; it is outside the step's graph, a few launches.
        """
        updates, off = divmod(steps, self.how.every)
        if off or not steps:
            return
        look = self.how.kind == "lookahead"
        decay = self.how.decay if look else ema_decay(self.how.decay, updates)
        torch._foreach_lerp_(self._slow, self._fast, 1 - decay)
        if look:
            torch._foreach_copy_(self._fast, self._slow)
        if self._fast_counts:
            torch._foreach_copy_(self._slow_counts, self._fast_counts)

    def start(self) -> None:
        """The averages become the weights as they are: before the first step, after weights were loaded."""
        with torch.no_grad():
            torch._foreach_copy_(self._slow, self._fast)
            if self._fast_counts:
                torch._foreach_copy_(self._slow_counts, self._fast_counts)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps, by name."""
        return dict(self.net.state_dict())
