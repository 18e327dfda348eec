"""Muon: momentum whose steps are made orthogonal (Keller Jordan and others 2024, kellerjordan.github.io/posts/muon)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["muon_step", "orthogonal"]

_QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's: the steepest at zero whose iteration stays near 1
_TURNS = 5


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest matrices whose singular values are about 1 (0.7 to 1.2): (N, rows, columns) in, the same out.

    Five Newton-Schulz turns, in bf16 on a GPU and fp32 on a CPU, on whichever of the matrix and its transpose is wide.
    """
    a, b, c = _QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.bfloat16() if matrices.device.type == "cuda" else matrices.float()
    x = x.mT if tall else x
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)  # all singular values at most 1
    for _ in range(_TURNS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    made: torch.Tensor = (x.mT if tall else x).to(matrices.dtype)
    return made


def muon_step(
    parameters: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor],
    buffers: Sequence[torch.Tensor],
    *,
    rate: float | torch.Tensor,
    momentum: float,
    nesterov: bool,
    decay: float,
    overflow: torch.Tensor | None = None,
) -> None:
    """One step on matrices, and on convolutions as matrices (maps, the rest); changes parameters and buffers.

    A step is rate * sqrt(max(1, rows / columns)) times the orthogonal momentum, so that it changes outputs as much
    whatever the shape; weight decay is AdamW's. Parameters of one shape are taken together. Where `overflow` is 1,
    nothing changes.
    """
    if overflow is None:
        torch._foreach_mul_(list(buffers), momentum)
        torch._foreach_add_(list(buffers), list(gradients))
    else:
        calm = overflow.reshape(()) == 0
        rate = rate * calm
        gradients = [torch.where(calm, gradient, 0) for gradient in gradients]
        for buffer, gradient in zip(buffers, gradients, strict=True):
            buffer.copy_(torch.where(calm, buffer * momentum + gradient, buffer))
    shapes: dict[tuple[int, int], list[int]] = {}
    for number, parameter in enumerate(parameters):
        shapes.setdefault((parameter.shape[0], parameter[0].numel()), []).append(number)
    for (rows, columns), members in shapes.items():
        moved = [gradients[i] + momentum * buffers[i] if nesterov else buffers[i] for i in members]
        steps = orthogonal(torch.stack([each.reshape(rows, columns) for each in moved]))
        steps = steps * max(1.0, rows / columns) ** 0.5 * rate
        for number, step in zip(members, steps, strict=True):
            parameter = parameters[number]
            if decay:
                parameter.mul_(1 - rate * decay)
            parameter.sub_(step.view_as(parameter))
