"""A layer of a conv net as one operation on the CPU: convolution, (batch norm), ReLU and 2x2 max pool.

Run one after another, the parts write the convolution's full output five times, and torch's pool, which keeps an int64
index an output, takes more than the convolution. Three identities spare most of that; they change nothing but rounding:

- ReLU and the norm's scale and shift act on each value alone and keep their order, so the pool comes first and they
  work on a quarter of the values (where the norm's weight is negative the smallest value is taken).
- A norm's backward pass is an affine function of the convolution's output plus the pooled gradient at the places the
  pool took (Ioffe and Szegedy, arXiv 1502.03167), so the normalised output is never written.
- A bias before a norm has no gradient: what torch adds up for it is rounding noise around 0, here it is 0.

The batch is taken through in pieces that stay in the cache; its statistics are those of the whole batch. Of equal
values in a window torch's pool takes the first by rows, this the first by columns; both are subgradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Block"]

_PIECE = 8 << 20
"""Values of the convolution's output that are worked on at a time: 32 MiB, about the size of a last-level cache."""

_LANES = 16
"""Maps that oneDNN's AVX-512 kernels work on at a time: a convolution to 10 maps takes twice as long as one to 16."""


class Block(nn.Sequential):
    """Modules named conv, (norm), relu, (pool), (drop), run in this order; as one operation where that is possible.

    Takes float32 (B, C, H, W), gives (B, maps, H', W').
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self._one_operation(images):
            for name, part in self.named_children():
                if name == "relu" and hasattr(self, "pool"):
                    continue
                images = part(images)
                if name == "pool":
                    images = torch.relu_(images)  # the same bits, on a quarter of them
            return images
        conv: Any = self.conv
        norm: Any = getattr(self, "norm", None)
        if norm is not None and self.training:
            norm.num_batches_tracked.add_(1)
        weights = (None, None) if norm is None else (norm.weight, norm.bias)
        pooled: torch.Tensor = _ConvPool.apply(
            images, conv.weight, conv.bias, *weights, norm, conv.stride, conv.padding
        )
        drop: Any = getattr(self, "drop", None)
        return pooled if drop is None else drop(pooled)

    def _one_operation(self, images: torch.Tensor) -> bool:
        """On a CPU in fp32 with a 2x2 pool; compilers fuse by themselves, and who asks a tested net for gradients
        (to explain it) wants the parts."""
        pool, norm = getattr(self, "pool", None), getattr(self, "norm", None)
        return (
            images.device.type == "cpu"
            and images.dtype == torch.float32
            and isinstance(pool, nn.MaxPool2d)
            and pool.kernel_size == 2
            and (norm is None or type(norm) is nn.BatchNorm2d)
            and self.training == torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and not torch.is_autocast_enabled("cpu")  # half precision is the parts' own affair
            and not torch._C._get_tracing_state()  # an exporter wants them too
        )


class _ConvPool(torch.autograd.Function):
    """See the module's docstring; `norm` is the BatchNorm2d module whose running statistics are kept, or None."""

    @staticmethod
    def forward(
        ctx: Any,
        images: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        gamma: torch.Tensor | None,
        beta: torch.Tensor | None,
        norm: nn.BatchNorm2d | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> torch.Tensor:
        training, keep = norm is not None and norm.training, any(ctx.needs_input_grad)
        maps, sign = len(weight), _signs(gamma)
        padded = weight
        if maps < _LANES:
            padded = functional.pad(weight, (0, 0, 0, 0, 0, 0, 0, _LANES - maps))
        convolved, pooled = [], []
        sums, squares = torch.zeros(maps, dtype=torch.float64), torch.zeros(maps, dtype=torch.float64)
        for piece in _pieces(images, weight, stride, padding):
            whole = functional.conv2d(piece, padded, None, stride, padding)
            out = whole[:, :maps]
            if training:
                sums += out.sum((2, 3)).double().sum(0)
                squares += torch.linalg.vector_norm(out, dim=(2, 3)).double().square().sum(0)
            pooled.append(_pool(out) if sign is None else _pool(out * sign) * sign)
            if keep:
                convolved.append(whole)
        values = torch.cat(pooled) if len(pooled) > 1 else pooled[0]
        if norm is None:
            result, mean, scale = values.add_(_channel(bias)).relu_(), None, None
        else:
            assert gamma is not None
            assert beta is not None
            assert norm.running_mean is not None
            assert norm.running_var is not None
            if training:
                ctx.count = count = len(images) * whole.shape[2] * whole.shape[3]
                mean64 = sums / count
                variance64 = (squares / count - mean64.square()).clamp_(min=0)
                mean, variance, momentum = mean64.float(), variance64.float(), norm.momentum or 0.0
                norm.running_mean.lerp_(mean + bias, momentum)  # the bias moves the mean and nothing else
                norm.running_var.lerp_((variance64 * (count / max(count - 1, 1))).float(), momentum)
            else:
                mean, variance = norm.running_mean - bias, norm.running_var
            scale = (variance + norm.eps).rsqrt()
            values = values.sub_(_channel(mean)).mul_(_channel(scale))
            result = torch.addcmul(_channel(beta), values, _channel(gamma)).relu_()
        if keep:
            ctx.convolved = convolved  # a list, so that the backward pass may overwrite and let go of each piece
            ctx.save_for_backward(images, padded, bias, gamma, None if norm is None else values, mean, scale, result)
            ctx.stride, ctx.padding = stride, padding
        return result

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        images, padded, bias, gamma, values, mean, scale, result = ctx.saved_tensors
        maps, over = len(bias), (0, 2, 3)
        gradient = gradient * (result > 0)
        to_beta = gradient.sum(over)
        to_gamma = slope = level = sign = None
        if gamma is not None:
            to_gamma, sign, gain = (gradient * values).sum(over), _signs(gamma), gamma * scale
            gradient = gradient.mul_(_channel(gain))
            slope = _channel(-gain * scale * to_gamma / ctx.count)
            level = _channel(-gain * to_beta / ctx.count) - slope * _channel(mean)
        to_weight, to_images, at = torch.zeros_like(padded), [], 0
        ctx.convolved.reverse()
        while ctx.convolved:
            whole = ctx.convolved.pop()
            piece = slice(at, at + len(whole))
            at += len(whole)
            out = whole[:, :maps]
            is_lower, is_right = _taken(out if sign is None else out * sign)
            if slope is None:
                out.zero_()
            else:
                out.mul_(slope).add_(level)
            _put_back(gradient[piece], is_lower, is_right, out)
            piece_to_images, piece_to_weight, _ = torch.ops.aten.convolution_backward(
                whole, images[piece], padded, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1,
                [ctx.needs_input_grad[0], True, False],
            )  # fmt: skip
            to_weight += piece_to_weight
            if ctx.needs_input_grad[0]:
                to_images.append(piece_to_images)
        to_bias = to_beta if gamma is None else torch.zeros_like(bias)
        return (
            torch.cat(to_images) if to_images else None, to_weight[:maps], to_bias,
            to_gamma, None if gamma is None else to_beta, None, None, None,
        )  # fmt: skip


def _channel(values: torch.Tensor) -> torch.Tensor:
    return values.view(1, -1, 1, 1)


def _signs(gamma: torch.Tensor | None) -> torch.Tensor | None:
    """1 and -1 by map where some norm's weight is negative, else None."""
    if gamma is None or not bool((gamma < 0).any()):
        return None
    return _channel(torch.where(gamma < 0, -1.0, 1.0))


def _pieces(
    images: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[torch.Tensor, ...]:
    high, wide = (
        (images.shape[2 + axis] + 2 * padding[axis] - weight.shape[2 + axis]) // stride[axis] + 1 for axis in (0, 1)
    )
    return torch.split(images, max(1, _PIECE // (len(weight) * high * wide)))


def _pool(out: torch.Tensor) -> torch.Tensor:
    """The largest of each 2x2 window; an odd last row or column is left out."""
    rows = torch.maximum(*_rows(out))
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])


def _taken(out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which values `_pool` took: the lower of two rows, float32 0 or 1 by column; the right of two columns, bool.

    Found again in the backward pass: to keep it would take a third of the output's memory and save no time.
    """
    upper, lower = _rows(out)
    rows = torch.maximum(upper, lower)
    # Comparing into float32 is vectorised, and so is what multiplies by it.
    return torch.gt(lower, upper, out=torch.empty_like(rows)), rows[..., 1::2] > rows[..., 0::2]


def _rows(out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    high, wide = out.shape[2] // 2 * 2, out.shape[3] // 2 * 2
    return out[:, :, 0:high:2, :wide], out[:, :, 1:high:2, :wide]


def _put_back(gradient: torch.Tensor, is_lower: torch.Tensor, is_right: torch.Tensor, out: torch.Tensor) -> None:
    """Adds the pooled gradient to `out` at the places the pool took."""
    rows = torch.empty_like(is_lower)
    torch.mul(gradient, is_right, out=rows[..., 1::2])
    torch.sub(gradient, rows[..., 1::2], out=rows[..., 0::2])
    below = is_lower.mul_(rows)
    upper, lower = _rows(out)
    lower += below
    upper += rows.sub_(below)
