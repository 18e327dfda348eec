"""The optimisers: state that exists from the start, and a rate that follows the schedule.

SGD and AdamW are written on torch's fused kernels, Muon (`muon.py`) on its foreach ones.

They compute what torch.optim.SGD and AdamW compute with fused=True (tested against them). Those import torch's
compiler with the first optimiser made, which takes longer than torch itself: 4 to 9 s of a run's time to best on two
cores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from trainer.config import Optim
from trainer.muon import muon_step

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


@dataclass
class _Group:
    """Parameters that are changed by one rule with one rate and one decay.

    rule: sgd, adamw or muon. scale: of the run's rate. decays: whether weight decay takes them.
    """

    rule: str
    scale: float
    decays: bool
    parameters: list[torch.Tensor] = field(default_factory=list)
    state: dict[str, list[torch.Tensor]] = field(default_factory=dict)


class Optimiser:
    """Changes a net's parameters by their gradients; everything it keeps is preallocated on their device.

    Args:
        net: the net that is trained; frozen parameters are left alone.
        optim: the run file's section.
        steps: steps in the whole run.

    Attributes:
        parameters: what is trained, in the net's order.
        state: by name, tensors; zeros before the first step.
    """

    def __init__(self, net: nn.Module, optim: Optim, steps: int) -> None:
        self.parameters: list[torch.Tensor] = [p for p in net.parameters() if p.requires_grad]
        self._groups = _groups_of(net, optim)
        device = self.parameters[0].device
        # A graph bakes Python floats in, so on a GPU the rate is a tensor, filled from a table that is already there.
        self._rate: Any = torch.tensor(optim.lr, device=device) if device.type == "cuda" else optim.lr
        self.retune(optim, steps)
        self.state: dict[str, list[torch.Tensor]] = {}
        for number, group in enumerate(self._groups):
            if group.rule == "adamw":
                group.state = {name: [torch.zeros_like(p) for p in group.parameters] for name in ("mean", "square")}
                group.state["step"] = [torch.zeros((), device=device) for _ in group.parameters]
            elif optim.momentum or group.rule == "muon":
                group.state = {"momentum": [torch.zeros_like(p) for p in group.parameters]}
            self.state.update({f"{number}.{name}": tensors for name, tensors in group.state.items()})

    def retune(self, optim: Optim, steps: int) -> None:
        """Other numbers on the same parameters and state, for another run of the same shape; `state` is left alone.

        A captured graph has momentum, weight decay and clip in it: with another of those it must be captured anew.
        """
        self.optim, self.steps = optim, steps
        device = self.parameters[0].device
        rates = device.type == "cuda" and optim.schedule != "constant"
        self._table = (
            torch.tensor([rate_at(optim, step, steps) for step in range(steps)], device=device) if rates else None
        )
        if isinstance(self._rate, torch.Tensor):
            self._rate.fill_(optim.lr)

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
        """Changes every parameter by its gradient; where `overflow`, float32 (1,), is 1, nothing changes (fp16)."""
        if self.optim.clip:
            self._clip()
        for group in self._groups:
            rate = self._rate if group.scale == 1 else self._rate * group.scale
            decay = self.optim.weight_decay if group.decays else 0.0
            gradients = [parameter.grad for parameter in group.parameters if parameter.grad is not None]
            if group.rule == "sgd":
                self._sgd(group, gradients, rate, decay, overflow)
            elif group.rule == "adamw":
                _adamw(group, gradients, rate, decay, overflow)
            else:
                muon_step(
                    group.parameters,
                    gradients,
                    group.state["momentum"],
                    rate=rate,
                    momentum=self.optim.momentum,
                    nesterov=self.optim.nesterov,
                    decay=decay,
                    overflow=overflow,
                )

    def _clip(self) -> None:
        """Shortens the gradient over all parameters to `clip`, as torch.nn.utils.clip_grad_norm_ does."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, (self.optim.clip / (length + 1e-6)).clamp(max=1.0))

    def _sgd(self, group: _Group, gradients: Any, rate: Any, decay: float, overflow: torch.Tensor | None) -> None:
        torch._fused_sgd_(
            group.parameters,
            gradients,
            group.state.get("momentum", []),
            weight_decay=decay,
            momentum=self.optim.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=self.optim.nesterov,
            maximize=False,
            is_first_step=False,  # zeros times momentum, plus the gradient, is what a first step keeps
            found_inf=overflow,
        )


def _adamw(group: _Group, gradients: Any, rate: Any, decay: float, overflow: torch.Tensor | None) -> None:
    state = group.state
    torch._foreach_add_(state["step"], 1)
    torch._fused_adamw_(
        group.parameters,
        gradients,
        state["mean"],
        state["square"],
        [],
        state["step"],
        lr=rate,
        beta1=_BETAS[0],
        beta2=_BETAS[1],
        weight_decay=decay,
        eps=_EPS,
        amsgrad=False,
        maximize=False,
        found_inf=overflow,
    )
    if overflow is not None:
        torch._foreach_sub_(state["step"], [overflow.reshape(())] * len(state["step"]))


def _groups_of(net: nn.Module, optim: Optim) -> list[_Group]:
    """Sorts the trained parameters by rule, rate and decay; one group where nothing sets them apart.

    Muon is for matrices inside the net: the first convolution's inputs are pixels and the last layer's outputs are
    logits, which no orthogonal step suits (as Jordan advises, kellerjordan.github.io/posts/muon).
    """
    norms = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
    norm_biases = {id(m.bias) for m in net.modules() if isinstance(m, norms) and m.bias is not None}
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and m.weight.requires_grad]
    inner = {id(layer.weight) for layer in layers[1:-1]}
    groups: dict[tuple[str, float, bool], _Group] = {}
    for parameter in net.parameters():
        if not parameter.requires_grad:
            continue
        rule, scale = optim.kind, 1.0
        if optim.kind == "muon" and id(parameter) not in inner:
            rule, scale = "adamw", optim.other_lr / optim.lr
        if id(parameter) in norm_biases:
            scale *= optim.norm_bias_lr
        key = rule, scale, bool(optim.decay_norms or parameter.ndim > 1)
        groups.setdefault(key, _Group(*key)).parameters.append(parameter)
    return list(groups.values())
