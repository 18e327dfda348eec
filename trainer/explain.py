"""What in an image moved the answer: maps of a net by captum, and what its first filters see.

All maps explain one number: a label's logit less the mean of all logits. What all labels share moves no answer, so it
is no part of a map; with two labels the number is half the log odds.

- Grad-CAM (arXiv 1610.02391): the deepest maps of the net, weighted by their mean gradient. Coarse.
- HiResCAM (arXiv 2011.08891): the same with the gradient of each place; where the head keeps every pixel (our conv
  stack) a mean over places says little of any of them, and this is the contribution itself.
- Integrated gradients (arXiv 1703.01365): the gradients on the way from a blank image to this one. Their sum is the
  number's difference between the two (completeness), which `Maps.gap` holds them to.
- Occlusion (arXiv 1311.2901): how much the number falls when a square is blanked. Many answers a map: for small nets.

captum is the extra `explain`; it is imported here only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from shards.errors import ConfigError
from trainer.errors import NotExplainable
from trainer.geometry import WHITE
from trainer.predict import Model

__all__ = ["METHODS", "Baseline", "Explainer", "Filters", "Maps", "need_captum"]

Baseline = Literal["white", "black", "mean"]
Floats = NDArray[np.float32]

METHODS = {
    "gradcam": "Grad-CAM",
    "hirescam": "HiResCAM",
    "ig": "integrated gradients",
    "occlusion": "occlusion",
}
_BATCH = 32
"""Images, or points of an integral, that go through the net at a time."""

_WORK = 1e12
"""Multiplications and additions that occlusion may cost unasked: some 20 s on two cores."""

_LEAST_SIDE = 4
"""Maps of fewer places across tell no part of an image from another."""


def need_captum() -> None:
    """Raises ConfigError where captum is not installed, naming the extra that has it."""
    try:
        import captum.attr  # noqa: F401
    except ImportError:
        raise ConfigError(
            "explain", "", "captum is not installed; the extra has it: pip install 'bassline[explain]'"
        ) from None


@dataclass(frozen=True, slots=True)
class Maps:
    """Maps of a batch.

    Args:
        method: a key of METHODS.
        values: float32 (B, size, size); positive speaks for the label, negative against it. CAMs have no negative.
        gap: what of the explained number the map's sum misses, as a share of the number, (B,); None where a map has no
            such sum.
    """

    method: str
    values: Floats
    gap: Floats | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """The first convolution.

    Args:
        name: the module's.
        weights: float32 (maps, channels, k, k).
        responses: what each filter answers to each image, before norm and ReLU, float32 (B, maps, H, W).
    """

    name: str
    weights: Floats
    responses: Floats


class _Answer(nn.Module):
    """Logits less their mean, of an image or of it and its mirror image."""

    def __init__(self, net: nn.Module, flip: bool) -> None:
        super().__init__()
        self.net, self.flip = net, flip

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(planes)
        if self.flip:
            logits = (logits + self.net(planes.flip(3))) / 2
        centred: torch.Tensor = logits - logits.mean(1, keepdim=True)
        return centred


class Explainer:
    """Maps of one model; `net` may be put in place of the model's own, which is how maps are held against chance.

    Args:
        model: as `trainer.load` gives it.
        baseline: the blank image: white (what shops photograph on), black, or the training set's mean.
        layer: the module Grad-CAM looks at; "" takes the deepest that still has 4 places across.
        steps: points of the integral.
        occlude: None lets the net's cost decide.

    Attributes:
        methods: what this net has maps by, keys of METHODS.
        layer: the module's name; "" where the net has no maps (a vision transformer).
        places: how many places across that layer has.
        left_out: sentences on what is left out, and why.

    Raises:
        ConfigError: captum is not installed, or there is no such layer.
    """

    def __init__(
        self, model: Model, *, baseline: Baseline = "white", layer: str = "", steps: int = 32,
        occlude: bool | None = None, images: int = 24,
    ) -> None:  # fmt: skip
        need_captum()
        self.model, self.steps, self.baseline_name = model, steps, baseline
        self.left_out: list[str] = []
        card = model.card
        self._mean = torch.tensor(card.mean, dtype=torch.float32, device=model.device).view(1, 3, 1, 1)
        self._std = torch.tensor(card.std, dtype=torch.float32, device=model.device).view(1, 3, 1, 1)
        level = {"white": float(WHITE), "black": 0.0, "mean": None}[baseline]
        self.blank = torch.zeros_like(self._mean) if level is None else (level - self._mean) / self._std
        self.layer, self.places = self._find_layer(layer)
        self.window = max(3, card.size // 8)
        self.stride = max(1, self.window // 2)
        methods = ["ig"]
        if self.layer:
            flat = card.net.kind == "conv" and card.net.head.pool in ("auto", "none")
            methods = ["gradcam", *(["hirescam"] if flat else []), "ig"]
        else:
            self.left_out.append("Grad-CAM: a vision transformer has no maps to weigh.")
        across = -(-(card.size - self.window) // self.stride) + 1
        self._windows = across * across
        if occlude or (occlude is None and self._cheap(images)):
            methods.append("occlusion")
        self.methods = tuple(methods)

    def planes(self, squares: torch.Tensor) -> torch.Tensor:
        """uint8 (B, size, size, 3) as the net is given them: float32 (B, 3, size, size)."""
        return (squares.to(self.model.device).permute(0, 3, 1, 2).float() - self._mean) / self._std

    def maps(
        self, method: str, squares: torch.Tensor, targets: Sequence[int], net: nn.Module | None = None, steps: int = 0
    ) -> Maps:
        """Maps of `squares`, uint8 (B, size, size, 3), for one label each; `net`, `steps`: others than its own."""
        net = (net or self.model.net).eval()
        made = {"gradcam": self._cam, "hirescam": self._cam, "ig": self._integrated, "occlusion": self._occluded}[
            method
        ]
        values, gaps = [], []
        for start in range(0, len(squares), _BATCH):
            planes = self.planes(squares[start : start + _BATCH])
            goal = torch.tensor(list(targets[start : start + _BATCH]), device=planes.device)
            with torch.enable_grad():
                found, gap = made(net, planes, goal, method, steps or self.steps)
            values.append(found.detach().float().cpu().numpy())
            if gap is not None:
                gaps.append(gap.detach().float().cpu().numpy())
        size = self.model.card.size
        whole = np.concatenate(values) if values else np.empty((0, size, size), np.float32)
        return Maps(method, whole, np.concatenate(gaps) if gaps else None)

    def filters(self, squares: torch.Tensor) -> Filters:
        """The net's first convolution and its responses to `squares`.

        Raises:
            NotExplainable: the net has no convolution.
        """
        for name, module in self.model.net.named_modules():
            if isinstance(module, nn.Conv2d):
                caught: list[torch.Tensor] = []
                hook = module.register_forward_hook(_catch(caught))
                try:
                    with torch.enable_grad():  # with gradients a Block runs in parts, so that hooks see them
                        self.model.net(self.planes(squares))
                finally:
                    hook.remove()
                return Filters(name, module.weight.detach().float().cpu().numpy(), caught[0].float().cpu().numpy())
        raise NotExplainable("this net has no convolution, so no filters to show")

    # --- methods

    def _cam(
        self, net: nn.Module, planes: torch.Tensor, goal: torch.Tensor, method: str, _: int
    ) -> tuple[torch.Tensor, None]:
        from captum.attr import LayerGradCam, LayerGradientXActivation

        answer = _Answer(net, flip=False)
        layer = net.get_submodule(self.layer)

        def one(images: torch.Tensor) -> torch.Tensor:
            images = images.detach().requires_grad_()
            found: torch.Tensor
            if method == "gradcam":
                found = LayerGradCam(answer, layer).attribute(images, target=goal)
            else:
                found = LayerGradientXActivation(answer, layer).attribute(images, target=goal).sum(1, keepdim=True)
            return found.detach()

        found = one(planes)
        if self.model.card.flip:  # the answer is the mean over two views; so is its map
            found = (found + one(planes.flip(3)).flip(3)) / 2
        size = self.model.card.size
        return functional.interpolate(found.relu(), (size, size), mode="bilinear", align_corners=False)[:, 0], None

    def _integrated(
        self, net: nn.Module, planes: torch.Tensor, goal: torch.Tensor, _: str, steps: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        from captum.attr import IntegratedGradients

        answer, blank = _Answer(net, self.model.card.flip), self.blank.expand_as(planes)
        found = IntegratedGradients(answer).attribute(
            planes, blank, target=goal, n_steps=steps, internal_batch_size=max(_BATCH, len(planes))
        )
        with torch.no_grad():
            wanted = (answer(planes) - answer(blank)).gather(1, goal[:, None])[:, 0]
        values = found.sum(1)
        return values, (values.sum((1, 2)) - wanted).abs() / wanted.abs().clamp(min=1e-6)

    def _occluded(
        self, net: nn.Module, planes: torch.Tensor, goal: torch.Tensor, _: str, __: int
    ) -> tuple[torch.Tensor, None]:
        from captum.attr import Occlusion

        answer = _Answer(net, self.model.card.flip)
        with torch.no_grad():
            found = Occlusion(answer).attribute(
                planes, (3, self.window, self.window), (3, self.stride, self.stride),
                self.blank.expand_as(planes), target=goal, perturbations_per_eval=8,
            )  # fmt: skip
        return found.mean(1), None  # the window covers all three channels: they hold the same number

    # --- choices

    def _find_layer(self, wanted: str) -> tuple[str, int]:
        """The module whose maps a CAM weighs, and their places across: a stage or block, whose maps went through its
        activation, not one of its parts."""
        net = self.model.net.eval()
        names = dict(net.named_modules())
        if wanted and wanted not in names:
            shown = ", ".join(name for name in names if name and "." not in name)
            raise ConfigError("--layer", wanted, f"the net has no such module; among its modules are {shown}")
        if not wanted and self.model.card.net.name.startswith("vit_"):
            return "", 0
        found: list[tuple[str, int]] = []
        wanted = wanted or (
            "permute" if self.model.card.net.name.startswith("swin") else ""
        )  # others have C last there
        hooks = [
            module.register_forward_hook(_note(name, found))
            for name, module in names.items()
            if name == wanted or (name and not wanted and any(module.children()))
        ]
        size = self.model.card.size
        try:
            with torch.no_grad():
                net(torch.zeros((1, 3, size, size), device=self.model.device))
        finally:
            for hook in hooks:
                hook.remove()
        if wanted:
            places = dict(found).get(wanted)
            if places is None:
                raise ConfigError("--layer", wanted, "gives no maps (B, C, H, W); name a layer before the pooling")
            return wanted, places
        wide = [each for each in found if each[1] >= _LEAST_SIDE] or found
        return wide[-1] if wide else ("", 0)

    def _operations(self) -> int:
        """Multiplications and additions of convolutions and linear layers for one image; all others cost little."""
        counted: list[int] = []  # torch's own counter takes seconds to import

        def count(module: nn.Module, _: Any, out: torch.Tensor) -> None:
            weight = module.weight
            assert isinstance(weight, torch.Tensor)
            counted.append(2 * out.numel() * weight[0].numel())

        hooks = [
            module.register_forward_hook(count)
            for module in self.model.net.modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
        ]
        try:
            with torch.enable_grad():  # with gradients a Block runs in parts, so that hooks see them
                self.model.net(self.blank.expand(1, 3, self.model.card.size, self.model.card.size))
        finally:
            for hook in hooks:
                hook.remove()
        return sum(counted)

    def _cheap(self, images: int) -> bool:
        views = 2 if self.model.card.flip else 1
        work = float(self._operations()) * views * self._windows * images
        if work > _WORK:
            self.left_out.append(
                f"Occlusion: {images} images by {self._windows:,} squares would cost {work / 1e12:,.1f} TFLOP; "
                "--occlusion asks for it."
            )
        return work <= _WORK


def _catch(caught: list[torch.Tensor]) -> Callable[[nn.Module, Any, torch.Tensor], None]:
    def hook(_: nn.Module, __: Any, out: torch.Tensor) -> None:
        caught.append(out.detach())

    return hook


def _note(name: str, found: list[tuple[str, int]]) -> Callable[[nn.Module, Any, Any], None]:
    def hook(_: nn.Module, __: Any, out: Any) -> None:
        if isinstance(out, torch.Tensor) and out.dim() == 4 and min(out.shape[2:]) > 1:
            found.append((name, int(min(out.shape[2:]))))

    return hook
