"""The optimiser and its learning rate, step by step: on a GPU a tensor, so that a CUDA graph sees it change."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from trainer.config import Optim

__all__ = ["Tuned", "rate_at"]


def rate_at(optim: Optim, step: int, steps: int) -> float:
    """The learning rate of `step`, counted from 0, of `steps` in the run.

    onecycle is Smith's (arXiv 1708.07120) as torch has it: from lr/25 up to lr over the warm-up and down to
    lr/250,000, both on a cosine. cosine and triangular start at lr and at 0; warmup is not used by cosine.
    """
    done = step / max(1, steps)
    if optim.schedule == "cosine":
        return optim.lr * 0.5 * (1 + math.cos(math.pi * done))
    if optim.schedule == "constant":
        return optim.lr
    rising = done < optim.warmup
    part = done / optim.warmup if rising else (done - optim.warmup) / (1 - optim.warmup)
    if optim.schedule == "triangular":
        return optim.lr * ((step + 1) / (optim.warmup * steps + 1) if rising else 1 - part)
    low, high = (optim.lr / 25, optim.lr) if rising else (optim.lr / 250_000, optim.lr)
    shape = 0.5 * (1 - math.cos(math.pi * part)) if rising else 0.5 * (1 + math.cos(math.pi * part))
    return low + (high - low) * shape


class Tuned:
    """An optimiser whose state exists from the start and whose rate follows the schedule.

    Args:
        parameters: what is trained; their device decides where the rate lives.
        optim: the run file's section.
        steps: steps in the whole run.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], optim: Optim, steps: int) -> None:
        trained = list(parameters)
        self.optim, self.steps = optim, steps
        device = trained[0].device
        self._on_gpu = device.type == "cuda"
        # A graph bakes Python floats in, so on the GPU the rate is a tensor, filled from a table that is already there.
        rate: Any = torch.tensor(optim.lr, device=device) if self._on_gpu else optim.lr
        self._table = (
            torch.tensor([rate_at(optim, step, steps) for step in range(steps)], device=device)
            if self._on_gpu and optim.schedule != "constant"
            else None
        )
        self.optimizer: torch.optim.Optimizer
        if optim.kind == "sgd":
            self.optimizer = torch.optim.SGD(
                trained, lr=rate, momentum=optim.momentum, weight_decay=optim.weight_decay, fused=True
            )
        else:
            self.optimizer = torch.optim.AdamW(
                trained, lr=rate, weight_decay=optim.weight_decay, fused=True, capturable=self._on_gpu
            )

    def before(self, step: int) -> None:
        """Sets the rate of `step`; on the GPU a copy on the device, with no host sync."""
        group = self.optimizer.param_groups[0]
        if self._table is not None:
            group["lr"].copy_(self._table[step])
        elif not self._on_gpu:
            group["lr"] = rate_at(self.optim, step, self.steps)

    def rate(self, step: int) -> float:
        """The rate of `step`, for the history."""
        return rate_at(self.optim, min(step, self.steps - 1), self.steps)

    def state(self) -> dict[str, Any]:
        """What the optimiser has gathered (momentum and the like), without the rate."""
        gathered: dict[str, Any] = self.optimizer.state_dict()["state"]
        return gathered

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up what `state` gave, on any device."""
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
