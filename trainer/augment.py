"""Training images varied on the device; off unless the run file asks.

Everything is drawn from torch's generator of the device, shapes do not depend on what is drawn, and nothing waits for
the device: a CUDA graph can hold it, and (seed, epoch) decides it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.config import Augment
from trainer.geometry import WHITE

__all__ = ["augment", "mirrored_in", "mix"]

_LUMA = (0.299, 0.587, 0.114)  # Rec. 601


def augment(
    images: torch.Tensor,
    how: Augment,
    *,
    mirrored: torch.Tensor | None = None,
    blank: torch.Tensor | None = None,
) -> torch.Tensor:
    """Varies uint8 images (B, S, S, 3); gives them back untouched where nothing is asked for.

    Args:
        images: the batch; it is not changed.
        how: what is done. `mixup` is `mix`'s.
        mirrored: bool (B,), for `alternating_flip`; without it no image is mirrored.
        blank: what cutout leaves, levels 0 to 255 by channel, float32 (3,); mid-grey by default.

    Returns:
        uint8 where images were only moved, else float32 from 0 to 255; (B, S, S, 3).
    """
    count = images.shape[0]
    if how.flip:
        mirrored = torch.rand(count, device=images.device) < 0.5
    if mirrored is not None and (how.flip or how.alternating_flip):
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(2), images)
    if how.rotation or how.zoom:
        images = _turn(images, how)
    elif how.shift:
        images = _shift(images, how.shift)
    if how.brightness or how.contrast or how.saturation or how.hue:
        images = _recolour(images, how)
    if how.cutout:
        images = _cut(images, how.cutout, blank)
    return images


def mix(images: torch.Tensor, targets: torch.Tensor, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup (arXiv 1710.09412): every image and its target become a weighted mean with another of the batch.

    A batch is in random order already, so the other is the one before it. Each pair has its own weight.

    Args:
        images: (B, S, S, 3). targets: shares of the labels, float32 (B, labels).
        alpha: of the Beta(alpha, alpha) distribution of the weights.

    Returns:
        float32 images, 0 to 255, and targets.
    """
    # Beta(a, a) is g / (g + h) for two Gamma(a) draws; torch.distributions checks its arguments, which would wait.
    gammas = torch._standard_gamma(torch.full((2, len(images)), alpha, device=images.device))
    share = gammas[0] / gammas.sum(0)
    share = torch.maximum(share, 1 - share)  # the greater share is its own, so "right" keeps a meaning
    pixels = images.float()
    mixed = torch.lerp(pixels.roll(1, 0), pixels, share.view(-1, 1, 1, 1))
    return mixed, torch.lerp(targets.roll(1, 0), targets, share.view(-1, 1))


def mirrored_in(epoch: int, samples: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Which samples alternating flip mirrors in an epoch: a random half in odd ones, the other half in even ones.

    airbench (arXiv 2404.00498, section 3.6): every two epochs show all images both ways round. The half is chosen by
    SplitMix64 of the sample's number, so it needs no table and does not depend on the order.
    """
    with np.errstate(over="ignore"):
        z = samples.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z ^ np.uint64(epoch & 1)) & np.uint64(1)).astype(bool)


def _between(low: float, high: float, count: int, device: torch.device) -> torch.Tensor:
    return torch.rand(count, device=device) * (high - low) + low


def _shift(images: torch.Tensor, shift: int) -> torch.Tensor:
    # One gather for the batch: each image reads from its own shifted rows and columns, white from outside.
    count, size = images.shape[0], images.shape[1]
    grid = torch.arange(size, device=images.device)
    moves = torch.randint(-shift, shift + 1, (2, count, 1), device=images.device)
    rows, columns = grid + moves[0], grid + moves[1]
    inside = ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[:, None, :]
    each = torch.arange(count, device=images.device)[:, None, None]
    moved = images[each, rows.clamp(0, size - 1)[:, :, None], columns.clamp(0, size - 1)[:, None, :]]
    return moved.masked_fill_(~inside[..., None], WHITE)


def _turn(images: torch.Tensor, how: Augment) -> torch.Tensor:
    """Rotation, zoom and shift in one resampling, so that pixels are blurred once; white from outside."""
    count, size, device = images.shape[0], images.shape[1], images.device
    angle = _between(-how.rotation, how.rotation, count, device) * (math.pi / 180)
    scale = torch.exp(_between(-1, 1, count, device) * math.log1p(how.zoom))  # as often smaller as larger
    moves = torch.randint(-how.shift, how.shift + 1, (2, count), device=device) * (2 / size)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    theta = torch.stack([cos, -sin, moves[0], sin, cos, moves[1]], 1).view(count, 2, 3)
    where = torch.nn.functional.affine_grid(theta, [count, 3, size, size], align_corners=False)
    # Outside reads 0, which is white where the image is darkness.
    darkness = (WHITE - images.float()).permute(0, 3, 1, 2)
    turned = torch.nn.functional.grid_sample(darkness, where, align_corners=False)
    return (WHITE - turned).permute(0, 2, 3, 1)


def _recolour(images: torch.Tensor, how: Augment) -> torch.Tensor:
    """Hue, saturation, contrast and brightness, all as one 3x3 matrix and one offset an image.

    Saturation, contrast and brightness mix with the grey image, its mean, and black, as torchvision's do. Hue turns
    colours about the grey axis in YIQ (Rec. 601 luma stays), which needs no branch as HSV does.
    """
    count, device = images.shape[0], images.device
    pixels = images.float().reshape(count, -1, 3)
    # Made by kernels: a copy from the host cannot be captured in a graph.
    luma = torch.stack([torch.full((), value, device=device) for value in _LUMA])
    grey = luma.expand(3, 3)  # every channel becomes the luma
    eye = torch.eye(3, device=device)
    angle = _between(-how.hue, how.hue, count, device) * (math.pi / 180)
    saturation = _between(1 - how.saturation, 1 + how.saturation, count, device)
    contrast = _between(1 - how.contrast, 1 + how.contrast, count, device)
    brightness = _between(1 - how.brightness, 1 + how.brightness, count, device)
    # Rodrigues' rotation about (1, 1, 1), sheared so that luma is kept: chroma (eye - grey) is what turns.
    third = 1 / math.sqrt(3)
    cross = (eye.roll(1, 0) - eye.roll(2, 0)) * third
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    spin = cos * eye + sin * cross + (1 - cos) / 3
    chroma = (eye - grey) @ spin @ (eye - grey)
    matrix = grey + saturation.view(-1, 1, 1) * chroma
    mean = (pixels.mean(1) @ luma).view(-1, 1, 1)
    factor = (contrast * brightness).view(-1, 1, 1)
    offset = (1 - contrast).view(-1, 1, 1) * mean * brightness.view(-1, 1, 1)
    # A row is a pixel: p' = p M^T.
    out = torch.baddbmm(offset.expand(count, 1, 3), pixels, (factor * matrix).transpose(1, 2))
    return out.clamp_(0, 255).view(images.shape)


def _cut(images: torch.Tensor, side: int, blank: torch.Tensor | None) -> torch.Tensor:
    """A square of `side` pixels blanked, its middle anywhere in the image (arXiv 1708.04552)."""
    count, size, device = images.shape[0], images.shape[1], images.device
    corner = torch.randint(0, size, (2, count, 1), device=device) - side // 2
    grid = torch.arange(size, device=device)
    inside = (grid >= corner) & (grid < corner + side)
    hole = (inside[0][:, :, None] & inside[1][:, None, :])[..., None]
    left = torch.full((3,), 127.5, device=device) if blank is None else blank
    return torch.where(hole, left.to(images.dtype), images)
