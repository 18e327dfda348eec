"""One training step that changes preallocated state only, so that a loop, a compiler and a CUDA graph can all run it.

The step reads `images` and `labels`, which a store or stream fills, and changes weights, optimiser state and two sums.
Nothing in it waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainer.augment import augment, mirrored_in, mix
from trainer.average import WeightAverage
from trainer.config import Augment, Average
from trainer.optim import Optimiser

__all__ = ["Normaliser", "Step"]


class Normaliser:
    """uint8 (B, S, S, 3) to float32 (B, 3, S, S): (x - mean) / std by channel, both in levels 0 to 255."""

    def __init__(self, mean: torch.Tensor, std: torch.Tensor, batch: int, size: int, *, channels_last: bool) -> None:
        self.mean = mean.view(1, 3, 1, 1)
        self._scale = 1 / std.view(1, 3, 1, 1)
        # On the CPU a fresh buffer's page faults cost more than the arithmetic (3.2k against 7.6k img/s a core at 150
        # pixels). On a GPU the allocator keeps its blocks, and compilers fuse the expression below.
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._layout = layout
        self._buffer = torch.empty((batch, 3, size, size), memory_format=layout) if mean.device.type == "cpu" else None

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        planes = images.permute(0, 3, 1, 2)
        if self._buffer is None or torch.compiler.is_compiling():
            return ((planes.float() - self.mean) * self._scale).contiguous(memory_format=self._layout)
        return self._buffer[: len(images)].copy_(planes).sub_(self.mean).mul_(self._scale)


class Step:
    """The net, its optimiser and everything a step touches.

    Args:
        kinds: how many labels there are. class_weights: of each in the loss, float32 (kinds,), or None.
        average, test_flip: as in a run file.

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
        class_weights: torch.Tensor | None = None,
        average: Average | None = None,
        test_flip: bool = False,
        kinds: int = 0,
    ) -> None:
        device = next(net.parameters()).device
        self.class_weights, self.test_flip = class_weights, test_flip
        self._each = torch.arange(kinds, device=device)  # the labels' numbers; mixup's shares are made with them
        self.average = WeightAverage(net, average) if average is not None and average.kind != "none" else None
        self.net, self.optimiser, self.normalise, self.how = net, optimiser, normalise, how
        self.label_smoothing, self.device, self.precision = label_smoothing, device, precision
        self.images = torch.zeros((batch, size, size, 3), dtype=torch.uint8, device=device)
        self.labels = torch.zeros(batch, dtype=torch.int64, device=device)
        self.mirrored = torch.zeros(batch, dtype=torch.bool, device=device) if how.alternating_flip else None
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        # fp16 has too small an exponent for gradients (bf16 has fp32's), so the loss is scaled up, by less after an
        # overflow and by more after 2,000 steps without: the rule of torch.amp.GradScaler, kept on the device.
        half = precision == "fp16"
        self.scale = torch.full((1,), 65536.0, device=device) if half else None
        self.calm = torch.zeros(1, dtype=torch.int32, device=device)
        self.blank = normalise.mean.flatten()
        self.exchange: Callable[[list[torch.Tensor], int], None] | None = None  # among ranks, see distributed.py
        self.forward: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]] = self._forward

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return nullcontext()
        # Weights stay fp32; the cache of their cast copies must be off where a graph is captured.
        kind = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, kind, cache_enabled=False)

    @property
    def judged(self) -> nn.Module:
        """The net that is validated, selected and kept: the average where there is one, else the trained one."""
        return self.net if self.average is None else self.average.net

    def _forward(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """labels: int64 (B,), or shares of the labels, float32 (B, labels)."""
        with self._autocast():
            logits = self.net(self.normalise(images))
        logits = logits.float()
        loss = nn.functional.cross_entropy(
            logits, labels, weight=self.class_weights, label_smoothing=self.label_smoothing
        )
        return loss, logits

    def train(self, count: int) -> None:
        """One step on the first `count` samples of the buffers."""
        mirrored = None if self.mirrored is None else self.mirrored[:count]
        images = augment(self.images[:count], self.how, mirrored=mirrored, blank=self.blank)
        labels = targets = self.labels[:count]
        if self.how.mixup:
            images, targets = mix(images, (labels[:, None] == self._each).float(), self.how.mixup)
        self.optimiser.clear()
        loss, logits = self.forward(images, targets)
        if self.exchange is not None:  # fp32 and bf16 only
            (loss * count).backward()  # type: ignore[no-untyped-call]
            self.exchange(self.optimiser.parameters, count)
            self.optimiser.step()
        elif self.scale is None:
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

    def before(self, number: int, samples: NDArray[np.int64], epoch: int, seed: int) -> None:
        """What step `number` of the run needs besides the batch in the buffers, which holds `samples`."""
        self.optimiser.before(number)
        if self.mirrored is not None:
            # A byte an image: so small a copy is staged, and the host does not wait for the device.
            which = torch.from_numpy(mirrored_in(epoch, samples, seed))
            self.mirrored[: len(samples)].copy_(which, non_blocking=True)

    def after(self, steps: int) -> None:
        """What follows once `steps` steps of the run are done."""
        if self.average is not None:
            self.average.after(steps)

    @torch.inference_mode()
    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """The judged net's answer for uint8 images (B, S, S, 3), B up to the normaliser's batch; float32 (B, labels).

        With `test_flip` the mean of the answers for the images and for their mirror images.
        """
        with self._autocast():
            answer: torch.Tensor = self.judged(self.normalise(images)).float()
            if self.test_flip:
                answer = (answer + self.judged(self.normalise(images.flip(2))).float()) / 2
        return answer

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything a step changes, by name: what a checkpoint keeps and a rehearsal puts back."""
        found = {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}
        for name, each in self.optimiser.state.items():
            found.update({f"optimiser.{name}.{number}": tensor for number, tensor in enumerate(each)})
        if self.average is not None:
            found.update({f"average.{name}": tensor for name, tensor in self.average.tensors().items()})
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
