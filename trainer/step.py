"""One training step that changes preallocated state only, so that a loop, a compiler and a CUDA graph can all run it.

The step reads `images` and `labels`, which a store or stream fills, and changes weights, optimiser state and two sums.
Nothing in it waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from trainer.augment import augment
from trainer.config import Augment
from trainer.optim import Optimiser

__all__ = ["Normaliser", "Step"]


class Normaliser:
    """uint8 (B, S, S, 3) to float32 (B, 3, S, S): (x - mean) / std by channel, both in levels 0 to 255."""

    def __init__(self, mean: torch.Tensor, std: torch.Tensor, batch: int, size: int, *, channels_last: bool) -> None:
        self._mean = mean.view(1, 3, 1, 1)
        self._scale = 1 / std.view(1, 3, 1, 1)
        # On the CPU a fresh buffer's page faults cost more than the arithmetic (3.2k against 7.6k img/s a core at 150
        # pixels). On a GPU the allocator keeps its blocks, and compilers fuse the expression below.
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._layout = layout
        self._buffer = torch.empty((batch, 3, size, size), memory_format=layout) if mean.device.type == "cpu" else None

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        planes = images.permute(0, 3, 1, 2)
        if self._buffer is None or torch.compiler.is_compiling():
            return ((planes.float() - self._mean) * self._scale).contiguous(memory_format=self._layout)
        return self._buffer[: len(images)].copy_(planes).sub_(self._mean).mul_(self._scale)


class Step:
    """The net, its optimiser and everything a step touches.

    Attributes:
        images: uint8 (batch, S, S, 3), filled before each step.
        labels: int64 (batch,), likewise.
        loss_sum: float64 (), sum of the losses of all samples since `start_epoch`.
        correct: int64 (), samples of these that were labelled right before their step.
    """

    def __init__(
        self,
        net: nn.Module,
        optimiser: Optimiser,
        normalise: Normaliser,
        *,
        batch: int,
        size: int,
        precision: str,
        how: Augment,
        label_smoothing: float,
    ) -> None:
        device = next(net.parameters()).device
        self.net, self.optimiser, self.normalise, self.how = net, optimiser, normalise, how
        self.label_smoothing, self.device, self.precision = label_smoothing, device, precision
        self.images = torch.zeros((batch, size, size, 3), dtype=torch.uint8, device=device)
        self.labels = torch.zeros(batch, dtype=torch.int64, device=device)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        # fp16 has too small an exponent for gradients (bf16 has fp32's), so the loss is scaled up, by less after an
        # overflow and by more after 2,000 steps without: the rule of torch.amp.GradScaler, kept on the device.
        half = precision == "fp16"
        self.scale = torch.full((1,), 65536.0, device=device) if half else None
        self.calm = torch.zeros(1, dtype=torch.int32, device=device)
        self.forward: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]] = self._forward

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return nullcontext()
        # Weights stay fp32; the cache of their cast copies must be off where a graph is captured.
        kind = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, kind, cache_enabled=False)

    def _forward(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with self._autocast():
            logits = self.net(self.normalise(images))
        logits = logits.float()
        loss = nn.functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return loss, logits

    def train(self, count: int) -> None:
        """One step on the first `count` samples of the buffers."""
        images, labels = augment(self.images[:count], self.how), self.labels[:count]
        self.optimiser.clear()
        loss, logits = self.forward(images, labels)
        if self.scale is None:
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
        else:
            (loss * self.scale).sum().backward()  # type: ignore[no-untyped-call]
            gradients = [p.grad for p in self.optimiser.parameters if p.grad is not None]
            overflow = torch.zeros_like(self.scale)
            torch._amp_foreach_non_finite_check_and_unscale_(gradients, overflow, 1 / self.scale)
            self.optimiser.step(overflow)
            torch._amp_update_scale_(self.scale, self.calm, overflow, 2.0, 0.5, 2000)
        with torch.no_grad():
            self.loss_sum.add_(loss.detach().double(), alpha=count)
            self.correct.add_((logits.detach().argmax(1) == labels).sum())

    @torch.inference_mode()
    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """The net's answer for uint8 images (B, S, S, 3) with B up to the normaliser's batch; float32 (B, labels)."""
        with self._autocast():
            return self.net(self.normalise(images)).float()  # type: ignore[no-any-return]

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything a step changes, by name: what a checkpoint keeps and a rehearsal puts back."""
        found = {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}
        for name, each in self.optimiser.state.items():
            found.update({f"optimiser.{name}.{number}": tensor for number, tensor in enumerate(each)})
        if self.scale is not None:
            found |= {"scale": self.scale, "calm": self.calm}
        return found

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Copies what `tensors` gave back into the same memory; from any device."""
        with torch.no_grad():
            for name, tensor in self.tensors().items():
                tensor.copy_(tensors[name])

    def start_epoch(self) -> None:
        """Training mode, sums at zero."""
        self.net.train()
        self.loss_sum.zero_()
        self.correct.zero_()
