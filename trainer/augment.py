"""Training images varied on the device, as uint8, in the batch's own buffer; off unless the run file asks."""

from __future__ import annotations

import torch

from trainer.config import Augment
from trainer.geometry import WHITE

__all__ = ["augment"]


def augment(images: torch.Tensor, how: Augment) -> torch.Tensor:
    """Varies uint8 images (B, S, S, 3); gives them back untouched where nothing is asked for.

    Draws from torch's generator of the device, a number an image, with no host sync.
    """
    count, size = images.shape[0], images.shape[1]
    if how.flip:
        mirrored = torch.rand(count, device=images.device) < 0.5
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(2), images)
    if how.shift:
        # One gather for the batch: each image reads from its own shifted rows and columns, white from outside.
        grid = torch.arange(size, device=images.device)
        moves = torch.randint(-how.shift, how.shift + 1, (2, count, 1), device=images.device)
        rows, columns = grid + moves[0], grid + moves[1]
        inside = ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[:, None, :]
        each = torch.arange(count, device=images.device)[:, None, None]
        moved = images[each, rows.clamp(0, size - 1)[:, :, None], columns.clamp(0, size - 1)[:, None, :]]
        images = moved.masked_fill_(~inside[..., None], WHITE)
    return images
