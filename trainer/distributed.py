"""Several processes train one net, as torchrun starts them: the same numbers as one process with the same global batch.

Every rank holds the weights and cuts its share from each global batch of one common order, so the order does not depend
on how many ranks there are. Gradients are summed over samples and divided by their number, which makes uneven shares
count as they should. Decoding and validation are cut likewise: each rank fills its own rows of a tensor that is nothing
elsewhere, and the sum over ranks is the whole, to the bit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

__all__ = [
    "World",
    "add_up",
    "all_agree",
    "join",
    "leave",
    "local_size",
    "share",
    "sum_gradients",
    "synchronise",
    "wait_for_all",
    "with_common_norms",
]

_MESSAGE = 64 << 20
"""Bytes summed at a time: a backend keeps a copy of what it is given."""


@dataclass(frozen=True, slots=True)
class World:
    """Which process this is, from 0, how many there are, and on which kind of device their messages lie."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"


def join(device: torch.device) -> World:
    """Joins the processes that torchrun started (RANK, WORLD_SIZE); alone where it started none.

    gloo on the CPU, NCCL on GPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(dist.get_rank(), size, device.type)


def wait_for_all() -> None:
    """Returns once every process has come here."""
    import torch.distributed as dist

    dist.barrier()


def local_size() -> int:
    """How many of the processes are on this machine, and so share its memory."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def all_agree(mine: bool, world: World) -> bool:
    """Whether it is so for every rank; each gets the same answer."""
    if world.size == 1:
        return mine
    import torch.distributed as dist

    told = torch.tensor([int(mine)], device=world.device)
    dist.all_reduce(told, dist.ReduceOp.MIN)
    return bool(told)


def add_up(world: World, *tensors: torch.Tensor) -> None:
    """Makes each contiguous tensor the sum over ranks, in place; of rows that one rank filled, their union."""
    if world.size == 1:
        return
    import torch.distributed as dist

    for each in tensors:
        flat = each.view(-1)
        step = max(1, _MESSAGE // flat.element_size())
        for start in range(0, len(flat), step):
            dist.all_reduce(flat[start : start + step])


def leave() -> None:
    """Parts from the other processes, if there are any."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def share(order: NDArray[np.int64], batch: int, world: World) -> NDArray[np.int64]:
    """What a rank takes of an epoch's order: its part of each global batch of `batch` samples.

    A last batch of fewer samples than ranks goes to every rank as a whole: the mean of equal gradients is that one.
    `batch` is a multiple of the number of ranks.
    """
    parts = []
    for start in range(0, len(order), batch):
        whole = order[start : start + batch]
        low, high = (len(whole) * rank // world.size for rank in (world.rank, world.rank + 1))
        parts.append(whole if len(whole) < world.size else whole[low:high])
    return np.concatenate(parts) if parts else order


def sum_gradients(parameters: list[torch.Tensor], count: int) -> None:
    """Turns gradients of the sum over `count` own samples into those of the mean over all ranks' samples, in place.

    One message of all gradients and the count.
    """
    import torch.distributed as dist

    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients] + [gradients[0].new_tensor([float(count)])])
    dist.all_reduce(flat)
    flat /= flat[-1].clone()
    at = 0
    for gradient in gradients:
        gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
        at += gradient.numel()


def synchronise(net: nn.Module, *sums: torch.Tensor) -> None:
    """Makes running statistics the mean over ranks, and `sums` the sum over ranks, in place."""
    import torch.distributed as dist

    for buffer in net.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer /= dist.get_world_size()
    for each in sums:
        dist.all_reduce(each)


def with_common_norms(net: nn.Module) -> nn.Module:
    """The net with batch statistics over all ranks' samples, which is what one process would have seen."""
    for name, child in net.named_children():
        if type(child) is nn.BatchNorm2d:
            common = _CommonNorm(child.num_features, child.eps, child.momentum)
            common.load_state_dict(child.state_dict())
            setattr(net, name, common)
        else:
            with_common_norms(child)
    return net


class _CommonNorm(nn.BatchNorm2d):
    """Batch norm over all ranks, on any device (torch's SyncBatchNorm is for GPUs only)."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(images)
        # Unlike torch.distributed's own, this sum is differentiable: a sample's statistics depend on other ranks.
        from torch.distributed.nn.functional import all_reduce

        maps, over = self.num_features, (0, 2, 3)
        own: Any = torch.cat(
            [images.sum(over), images.square().sum(over), images.new_tensor([float(images.numel() // maps)])]
        )
        sums = all_reduce(own)  # type: ignore[no-untyped-call]
        count = sums[-1].detach()
        mean = sums[:maps] / count
        variance = (sums[maps : 2 * maps] / count - mean.square()).clamp(min=0)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum or 0.0)  # type: ignore[union-attr]
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum or 0.0)  # type: ignore[union-attr]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        scale = (variance + self.eps).rsqrt() * self.weight
        made: torch.Tensor = images * scale.view(1, -1, 1, 1) + (self.bias - mean * scale).view(1, -1, 1, 1)
        return made
