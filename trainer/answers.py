"""What a step's net answers for a whole part: validation and test, by one process or by ranks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.distributed import World, add_up
from trainer.metrics import Metrics, measure
from trainer.step import Step
from trainer.store import Feed

__all__ = ["answers", "judge"]


def answers(
    step: Step, feed: Feed, kinds: int, images: torch.Tensor, labels: torch.Tensor, world: World = World()
) -> tuple[NDArray[np.int64], torch.Tensor]:
    """The judged net's logits for every sample of a part that can be read: each once, in stored order.

    Each rank answers for its share, and all get all answers, to the bit.

    Args:
        kinds: how many labels there are.
        images, labels: buffers for a batch, uint8 (B, S, S, 3) and int64 (B,), on the feed's device.

    Returns:
        The samples, int64 (M,), and their logits on the host, float32 (M, kinds).
    """
    step.judged.eval()
    count = len(feed.samples)
    low, high = (count * rank // world.size for rank in (world.rank, world.rank + 1))
    found = torch.zeros((count, kinds), device=images.device)
    seen = torch.zeros(count, dtype=torch.int64, device=images.device)
    row = low
    for part in feed.batches(feed.samples[low:high], images, labels):
        found[row : row + len(part)].copy_(step.logits(images[: len(part)]))
        seen[row : row + len(part)].copy_(torch.from_numpy(part + 1), non_blocking=True)
        row += len(part)
    add_up(world, found, seen)
    numbers = seen.cpu().numpy()
    kept = numbers > 0  # a stream may lose a sample whose file changed since it was looked at
    return numbers[kept] - 1, found.cpu()[torch.from_numpy(kept)]


def judge(
    samples: NDArray[np.int64], logits: torch.Tensor, feed: Feed, labels: tuple[str, ...], *, full: bool = False
) -> tuple[Metrics, NDArray[np.float32]]:
    """The measures of `answers`, and the probabilities float32 (M, labels).

    full: with what is measured on probabilities, which sorts them label by label.
    """
    truth = feed.labels[samples]
    loss = float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(truth)))
    probabilities = logits.softmax(1).numpy()
    return measure(truth, probabilities.argmax(1), labels, loss, probabilities if full else None), probabilities
