"""A trained net as a file that others run: uint8 RGB in, probabilities out, everything between them inside.

The program takes images of any height and width, so it holds the resizing too. That is written as two products with
matrices that the graph makes from the sizes it meets: an antialiased triangle, horizontally, rounded to whole levels,
then vertically, as Pillow and torch have it. An image of the net's own size meets unit matrices and keeps its bits;
others differ from the decoders' by 2 levels of 255 at most. No resize operator is used: each runtime has its own.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shards.errors import ConfigError
from shards.files import write_atomic
from trainer.checkpoint import ModelCard
from trainer.errors import NotExportable
from trainer.geometry import WHITE
from trainer.predict import Model

__all__ = [
    "INPUT",
    "OUTPUT",
    "Deployed",
    "Runner",
    "export_program",
    "open_onnx",
    "open_torch",
    "save_onnx",
    "save_torch",
]

INPUT, OUTPUT = "images", "probabilities"
_FORMAT = 1

Runner = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""uint8 RGB (N, H, W, 3) to probabilities float32 (N, labels)."""


class Deployed(nn.Module):
    """A net with its preprocessing and its softmax.

    Takes uint8 RGB (N, H, W, 3) of any N, H and W, gives probabilities float32 (N, labels) in the labels' order.
    """

    def __init__(self, card: ModelCard, net: nn.Module) -> None:
        super().__init__()
        self.size, self.fit, self.flip = card.size, card.fit, card.flip
        self.net = net
        self.mean: torch.Tensor
        self.scale: torch.Tensor
        self.register_buffer("mean", torch.tensor(card.mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(card.std, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        squares = self.squares(images)
        planes = (squares - self.mean) * self.scale
        logits = self.net(planes)
        if self.flip:
            logits = (logits + self.net(planes.flip(3))) / 2
        return torch.softmax(logits, 1)

    def squares(self, images: torch.Tensor) -> torch.Tensor:
        """What the net is shown, in levels 0 to 255: float32 (N, 3, size, size)."""
        planes = images.permute(0, 3, 1, 2).to(torch.float32)
        down, across = self._axes(images.shape[1], images.shape[2], images.device)
        wide = _level(torch.matmul(planes, across.T))
        square = _level(torch.matmul(down, wide))
        if self.fit != "pad":
            return square
        inside = down.sum(1)[:, None] * across.sum(1)[None, :]  # 1 where the picture is, 0 beside it
        return torch.where(inside > 0.5, square, torch.full_like(square, float(WHITE)))

    def _axes(self, high: int, wide: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Both axes' matrices, float32 (size, H) and (size, W), by the plan of `trainer.geometry`."""
        height, width = (torch.full((), side, dtype=torch.float64, device=device) for side in (high, wide))
        size, none = torch.full_like(height, float(self.size)), torch.zeros_like(height)
        if self.fit == "crop":
            side = torch.minimum(height, width)
            begins = torch.floor((height - side) / 2), torch.floor((width - side) / 2)
            return _resampling(self.size, high, begins[0], side, none, size), _resampling(
                self.size, wide, begins[1], side, none, size
            )
        taken = size, size
        if self.fit == "pad":
            longer = torch.maximum(height, width)
            taken = _shorter(height, size, longer), _shorter(width, size, longer)
        at = torch.floor((size - taken[0]) / 2), torch.floor((size - taken[1]) / 2)
        return _resampling(self.size, high, none, height, at[0], taken[0]), _resampling(
            self.size, wide, none, width, at[1], taken[1]
        )


def _shorter(side: torch.Tensor, size: torch.Tensor, longer: torch.Tensor) -> torch.Tensor:
    return torch.round(side * size / longer).clamp(min=1)  # half to even, as Python's round


def _level(values: torch.Tensor) -> torch.Tensor:
    return torch.floor(values + 0.5).clamp(0, 255)


def _resampling(
    size: int, side: int, begin: torch.Tensor, length: torch.Tensor, at: torch.Tensor, taken: torch.Tensor
) -> torch.Tensor:
    """float32 (size, side): pixels begin..begin+length of `side`, antialiased, to at..at+taken of `size`; 0 beside."""
    out = torch.arange(size, dtype=torch.float64, device=begin.device)[:, None]
    source = torch.arange(side, dtype=torch.float64, device=begin.device)[None, :]
    scale = length / taken
    centre = (out - at + 0.5) * scale + begin
    weight = (1 - (source + 0.5 - centre).abs() / scale.clamp(min=1)).clamp(min=0)
    weight = weight * ((source >= begin) & (source < begin + length)).to(torch.float64)
    weight = weight * ((out >= at) & (out < at + taken)).to(torch.float64)
    return (weight / weight.sum(1, keepdim=True).clamp(min=1e-9)).to(torch.float32)


def export_program(model: Model) -> torch.export.ExportedProgram:
    """The model with its preprocessing as one graph; batch, height and width are dynamic.

    Raises:
        NotExportable: torch cannot trace the net.
    """
    deployed = Deployed(model.card, model.net).eval()
    sides = model.card.size + 3, model.card.size + 5  # unlike each other and the net's size: none is taken for another
    example = torch.zeros((3, *sides, 3), dtype=torch.uint8, device=model.device)
    dynamic = {INPUT: dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)}
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(deployed, (example,), dynamic_shapes=dynamic)
    except Exception as error:  # whatever a tracer raises over a net
        raise NotExportable("torch.export", error) from error


def _metadata(card: ModelCard) -> dict[str, str]:
    told = {
        "format": _FORMAT, "run": card.run, "size": card.size, "fit": card.fit, "epoch": card.epoch,
        "config_hash": card.config_hash, "data_digest": card.data_digest,
    }  # fmt: skip
    return {"labels": json.dumps(card.labels, ensure_ascii=False), "bassline": json.dumps(told, ensure_ascii=False)}


def save_torch(program: torch.export.ExportedProgram, card: ModelCard, path: Path) -> None:
    """Writes a .pt2, whole or not at all; `labels` and `bassline` are its extra files, JSON."""
    memory = io.BytesIO()
    with _quiet():
        torch.export.save(program, memory, extra_files=_metadata(card))
    write_atomic(path, [memory.getvalue()])


def save_onnx(program: torch.export.ExportedProgram, card: ModelCard, path: Path) -> None:
    """Writes a .onnx, one file, whole or not at all; `labels` and `bassline` are in its metadata, JSON.

    Raises:
        ConfigError: onnx is not installed.
        NotExportable: an operator of the net has no counterpart in ONNX.
    """
    _need("onnx", "onnxscript")
    try:
        with _quiet():
            made = torch.onnx.export(
                program, dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False, optimize=True
            )
            assert made is not None
            proto = made.model_proto
    except Exception as error:
        raise NotExportable("ONNX", error) from error
    del proto.metadata_props[:]
    for name, value in _metadata(card).items():
        proto.metadata_props.add(key=name, value=value)
    proto.producer_name = "bassline"
    _name_axes(proto)
    write_atomic(path, [proto.SerializeToString()])


def _name_axes(proto: Any) -> None:
    """Names that a reader of the graph understands, in place of the tracer's s17."""
    found = [axis.dim_param for axis in proto.graph.input[0].type.tensor_type.shape.dim]
    names = dict(zip(found, ("batch", "height", "width"), strict=False))
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in names and axis.dim_param:
                axis.dim_param = names[axis.dim_param]


def open_onnx(path: Path, threads: int = 0) -> Runner:
    """Runs a .onnx on the CPU under onnxruntime; `threads` of 0 are as many as there are cores.

    Raises:
        ConfigError: onnxruntime is not installed.
    """
    _need("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the cores alone
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run([OUTPUT], {INPUT: images})[0]
        return found

    return run


def open_torch(path: Path) -> Runner:
    """Runs a .pt2."""
    with _quiet():
        module = torch.export.load(path).module()

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            found: NDArray[np.float32] = module(torch.from_numpy(images)).cpu().numpy()
            return found

    return run


def _need(*modules: str) -> None:
    for name in modules:
        if find_spec(name) is None:
            raise ConfigError(
                "--onnx", "", f"{name} is not installed; the extra has it: pip install 'bassline[export]'"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters warn of their own parts and log what they do: nothing a caller could act on."""
    names = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
    before = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for name in names:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
