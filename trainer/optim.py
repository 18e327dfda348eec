"""The optimisers, written on torch's fused kernels: state that exists from the start, and a rate that follows the
schedule.

They compute what torch.optim.SGD and AdamW compute with fused=True (tested against them). Those import torch's
compiler with the first optimiser made, which takes longer than torch itself: 4 to 9 s of a run's time to best on two
cores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from trainer.config import Optim

__all__ = ["Optimiser", "rate_at"]

_BETAS, _EPS = (0.9, 0.999), 1e-8  # AdamW's, as in torch and in the paper (arXiv 1711.05101)


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


class Optimiser:
    """Changes parameters by their gradients; everything it keeps is preallocated on their device.

    Args:
        parameters: what is trained.
        optim: the run file's section.
        steps: steps in the whole run.

    Attributes:
        state: by name, a tensor a parameter; zeros before the first step.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], optim: Optim, steps: int) -> None:
        self.parameters: list[torch.Tensor] = list(parameters)
        self.optim, self.steps = optim, steps
        device = self.parameters[0].device
        # A graph bakes Python floats in, so on a GPU the rate is a tensor, filled from a table that is already there.
        self._rate: Any = torch.tensor(optim.lr, device=device) if device.type == "cuda" else optim.lr
        self._table = (
            torch.tensor([rate_at(optim, step, steps) for step in range(steps)], device=device)
            if device.type == "cuda" and optim.schedule != "constant"
            else None
        )
        kinds = {"sgd": ["momentum"] if optim.momentum else [], "adamw": ["mean", "square"]}
        self.state = {name: [torch.zeros_like(p) for p in self.parameters] for name in kinds[optim.kind]}
        if optim.kind == "adamw":
            self.state["step"] = [torch.zeros((), device=device) for _ in self.parameters]

    def before(self, step: int) -> None:
        """Sets the rate of `step`; on a GPU a copy on the device, with no host sync."""
        if self._table is not None:
            self._rate.copy_(self._table[step])
        elif not isinstance(self._rate, torch.Tensor):
            self._rate = rate_at(self.optim, step, self.steps)

    def rate(self, step: int) -> float:
        """The rate of `step`, for the history."""
        return rate_at(self.optim, min(step, self.steps - 1), self.steps)

    def clear(self) -> None:
        """Drops the gradients: the next backward pass writes instead of adding."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, overflow: torch.Tensor | None = None) -> None:
        """Changes every parameter by its gradient; where `overflow`, float32 (), is 1, nothing changes (fp16)."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        state, optim = self.state, self.optim
        if optim.kind == "sgd":
            torch._fused_sgd_(
                self.parameters,
                gradients,
                state.get("momentum", []),
                weight_decay=optim.weight_decay,
                momentum=optim.momentum,
                lr=self._rate,
                dampening=0.0,
                nesterov=False,
                maximize=False,
                is_first_step=False,  # zeros times momentum, plus the gradient, is what a first step keeps
                found_inf=overflow,
            )
            return
        torch._foreach_add_(state["step"], 1)
        torch._fused_adamw_(
            self.parameters,
            gradients,
            state["mean"],
            state["square"],
            [],
            state["step"],
            lr=self._rate,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            weight_decay=optim.weight_decay,
            eps=_EPS,
            amsgrad=False,
            maximize=False,
            found_inf=overflow,
        )
        if overflow is not None:
            torch._foreach_sub_(state["step"], [overflow.reshape(())] * len(state["step"]))
