"""A run file says everything a run depends on; what it resolves to is hashed and kept beside the result.

This module imports no torch, so that `--help` and a wrong key answer at once.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from shards.errors import ConfigError
from shards.toml_file import StrictModel, merge, read_toml, validate

__all__ = [
    "Augment",
    "Average",
    "Data",
    "Head",
    "Layer",
    "Net",
    "Optim",
    "RunConfig",
    "Select",
    "Test",
    "Train",
    "config_hash",
    "load_run",
    "read_tables",
    "resolve",
    "to_toml",
]

# No run comes near these; a slip of the finger that does is answered at once, and not by a full memory or a crash.
Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Side = Annotated[int, Field(ge=1, le=4096)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Data(StrictModel):
    """How images become uint8 squares.

    size: side in pixels. fit: `pad` keeps the whole image on white, `crop` takes the middle square, `stretch` distorts.
    mode: `resident` decodes once into memory of the training device, `stream` decodes every epoch, `auto` measures.
    threads: how many decode at once, 0 for one a core. workers: what these are in a stream, threads or processes;
    `auto` is processes where more than one decode on the CPU. A part that is decoded once is decoded by threads.
    """

    size: Side = 150
    fit: Literal["pad", "crop", "stretch"] = "pad"
    mode: Literal["auto", "resident", "stream"] = "auto"
    decoder: Literal["auto", "dali", "simplejpeg", "torchvision", "pillow"] = "auto"
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    workers: Literal["auto", "threads", "processes"] = "auto"

    @model_validator(mode="after")
    def _check(self) -> Data:
        if self.decoder == "dali" and self.workers == "processes":
            raise ValueError(
                'workers = "processes" is for simplejpeg, torchvision and pillow; dali has its own threads'
            )
        return self


class Layer(StrictModel):
    """One layer of the net: convolution, (batch norm), ReLU, max pool, (dropout). pool: 1 is none."""

    kernel: Positive
    maps: Positive
    stride: Positive = 1
    padding: Count = 0
    batch_norm: bool = False
    dropout: Share = 0.0
    pool: Positive = 2


class Head(StrictModel):
    """From the last maps to the labels.

    pool: `none` keeps every pixel, `average` and `max` leave one a map; `auto` is none for conv, average for residual.
    hidden: widths of linear layers, each with a ReLU, before the last one. dropout: before each linear layer.
    scale: the logits are multiplied by it; less than 1 keeps the first steps of a high rate from running away.
    """

    pool: Literal["auto", "none", "average", "max"] = "auto"
    hidden: tuple[Positive, ...] = ()
    dropout: Share = 0.0
    scale: Rate = 1.0


_KEYS_OF = {
    "conv": ("layers", "head"),
    "residual": ("widths", "blocks", "stem_stride", "activation", "init", "whiten", "dropout", "head"),
    "torchvision": ("name", "small_stem"),
}


class Net(StrictModel):
    """One of three kinds of net; the number of labels comes from the data. A key of another kind is an error.

    conv: `layers`, then `head`.
    residual: a stem of `widths[0]` maps at full size, then a stage a width (convolution, max pool, batch norm,
        `blocks` residual blocks of two convolutions), then `head`. stem_stride: 2 sees a picture of twice the side at
        the same cost. whiten: the stem is a 2x2 convolution of 24 maps with frozen weights that decorrelate the
        training set's patches. init: `dirac` starts convolutions as
        near to the identity as their widths allow. dropout: of whole maps, after each stage.
    torchvision: the model `name`, such as "resnet18", of torchvision. small_stem (ResNets): 3x3 without stride and
        without pooling in place of 7x7 and stride 2, for images under some 100 pixels.
    weights: a file to start from, of ours or of torch's (state dict; .pth or .safetensors); what fits by name and
        shape is taken. Nothing is ever fetched.
    """

    kind: Literal["conv", "residual", "torchvision"] = "conv"
    layers: tuple[Layer, ...] = ()
    head: Head = Head()
    widths: tuple[Positive, ...] = (32, 64, 128, 256)
    blocks: Count = 1
    stem_stride: Annotated[int, Field(ge=1, le=4)] = 1
    activation: Literal["relu", "silu", "gelu"] = "relu"
    init: Literal["kaiming", "dirac"] = "kaiming"
    whiten: bool = False
    dropout: Share = 0.0
    name: str = ""
    small_stem: bool = False
    weights: str = ""

    @model_validator(mode="after")
    def _check(self) -> Net:
        allowed = {"kind", "weights", *_KEYS_OF[self.kind]}
        for key in sorted(self.model_fields_set - allowed):
            if getattr(self, key) != type(self).model_fields[key].default:
                owners = " or ".join(f'kind = "{kind}"' for kind, keys in _KEYS_OF.items() if key in keys)
                raise ValueError(f'{key} belongs to {owners}, and this is kind = "{self.kind}"')
        if self.kind == "conv" and not self.layers:
            raise ValueError("layers: at least one [[net.layers]] was expected")
        if self.kind == "residual" and not self.widths:
            raise ValueError("widths: at least one was expected, such as widths = [32, 64, 128]")
        if self.kind == "torchvision" and not self.name:
            raise ValueError('name: a model of torchvision was expected, such as name = "resnet18"')
        return self

    @model_serializer(mode="wrap")
    def _own_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        allowed = {"kind", "weights", *_KEYS_OF[self.kind]}
        return {key: value for key, value in handler(self).items() if key in allowed}


class Optim(StrictModel):
    """The optimiser.

    kind: muon orthogonalises the steps of convolutions and hidden linear layers, and leaves the rest to AdamW.
    lr: the highest rate; schedule scales it a step at a time; warmup is the share of all steps before it is reached.
    other_lr: muon only, the rate of what AdamW takes. nesterov: sgd and muon.
    decay_norms: whether weight decay takes biases and norms too. norm_bias_lr: a factor on the rate of their biases.
    clip: the longest the gradient over all parameters may be, 0 for any.
    class_weights: what an error counts by label: `none`, `balanced` (as much together for each label), or numbers
        in the labels' order.
    """

    kind: Literal["sgd", "adamw", "muon"] = "sgd"
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    other_lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.003
    momentum: Share = 0.0
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    decay_norms: bool = True
    norm_bias_lr: Rate = 1.0
    clip: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    label_smoothing: Share = 0.0
    class_weights: Literal["none", "balanced"] | tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = "none"
    schedule: Literal["constant", "cosine", "onecycle", "triangular"] = "constant"
    warmup: Share = 0.3

    @model_validator(mode="after")
    def _check(self) -> Optim:
        if self.kind == "adamw" and self.momentum:
            raise ValueError('momentum belongs to kind = "sgd" and "muon"; set momentum = 0 for adamw')
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum above 0")
        return self


class Average(StrictModel):
    """Averages of the weights, which are validated, selected and kept in place of the weights themselves.

    kind: `ema` follows the weights, `lookahead` (arXiv 1907.08610) also puts them back to the average.
    every: steps between two updates. decay: of the average, an update; an ema starts lower, at 1/10 (1+n)/(10+n).
    """

    kind: Literal["none", "ema", "lookahead"] = "none"
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    every: Positive = 1


class Train(StrictModel):
    """How long, from which seed, and how the device is used.

    sampling: `permutation` brings every image once an epoch, `balanced` as many images of each label, as long an epoch
        as before: those of a rare label several times, those of a common one every few epochs.
    sync_norm: with several processes, batch norm over all of them, as one process would; false: each over its share.
    deterministic: on a GPU only kernels that give the same bits each time, so that a resumed run is exact; slower. A
        CPU gives them anyway.
    checkpoint_s: least seconds between two `last.pt`.
    """

    batch: Positive = 256
    epochs: Positive = 1000
    seed: Seed = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    executor: Literal["auto", "eager", "compiled", "graph"] = "auto"
    channels_last: bool = False
    sync_norm: bool = True
    deterministic: bool = False
    sampling: Literal["permutation", "balanced"] = "permutation"
    checkpoint_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0


class Augment(StrictModel):
    """Training images varied on the device, each image by its own draw; everything is off by default.

    flip: mirrored left-right, half of them. alternating_flip: each image mirrored every other epoch (airbench).
    shift: pixels, up to so many, each way. rotation: degrees, up to so many, each way. zoom: share, smaller or larger.
    brightness, contrast, saturation: share, up to so much less or more. hue: degrees on the colour circle.
    cutout: side in pixels of a square that is blanked. mixup: alpha of the Beta distribution of two images' shares
        (arXiv 1710.09412).
    """

    flip: bool = False
    alternating_flip: bool = False
    shift: Annotated[int, Field(ge=0, le=4096)] = 0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    zoom: Share = 0.0
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: Annotated[float, Field(ge=0, le=180)] = 0.0
    cutout: Annotated[int, Field(ge=0, le=4096)] = 0
    mixup: Annotated[float, Field(ge=0, le=100)] = 0.0

    @model_validator(mode="after")
    def _check(self) -> Augment:
        if self.flip and self.alternating_flip:
            raise ValueError("flip and alternating_flip are two ways of one thing; set one of them")
        return self


class Test(StrictModel):
    """How an image is looked at in validation, in the test and by the model file afterwards.

    flip: the mean of the logits of the image and of its mirror image; twice the work.
    """

    flip: bool = False


class Select(StrictModel):
    """Which epoch is kept, and when to stop before the last.

    metric: the lowest loss, or the highest of the others, on the validation part.
    patience: epochs without a better one before the run stops, 0 for never.
    stop_collapsed: epochs in a row of saying one label only before the run stops, 0 for never.
    """

    metric: Literal["val_loss", "val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_auroc"] = "val_loss"
    patience: Count = 0
    stop_collapsed: Count = 0


class RunConfig(StrictModel):
    """A whole run. name: how the run is called in tables; by default the run file's name."""

    name: str = ""
    data: Data = Data()
    net: Net
    optim: Optim = Optim()
    train: Train = Train()
    average: Average = Average()
    augment: Augment = Augment()
    select: Select = Select()
    test: Test = Test()


# The command line's shorthand: what a run is tuned by is reached under `train` too.
_SHORT = {"train.lr": "optim.lr", "train.momentum": "optim.momentum"}


def load_run(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a run file, the files it stands on (`base = "other.toml"`, relative to it) and `key=value` overrides.

    A table in the file is merged into the base's, key by key; a list replaces the base's list.

    Raises:
        ConfigError: a file or override is wrong; names the file, the dotted key and what was expected.
    """
    merged = read_tables(path)
    merged.setdefault("name", path.stem)
    return resolve(merged, overrides, where=str(path))


def read_tables(path: Path) -> dict[str, Any]:
    """The tables of a TOML file laid over those of the files it stands on, nothing checked yet.

    Raises:
        ConfigError: a file is missing or no TOML, or stands on itself.
    """
    return _with_bases(path, ())


def resolve(data: Mapping[str, Any], overrides: Sequence[str] = (), *, where: str = "run") -> RunConfig:
    """Builds a run from an already merged mapping, as a battery does; `where` names the source in errors.

    Raises:
        ConfigError: as `load_run`.
    """
    result = copy.deepcopy(dict(data))
    for override in overrides:
        _apply(result, override)
    changed = ", ".join(f"--set {override}" for override in overrides)
    return validate(RunConfig, result, f"{where} ({changed})" if changed else where)


def config_hash(config: RunConfig) -> str:
    """16 hex digits that change with anything a run depends on: not its name, nor where a stream is decoded."""
    body = config.model_dump(mode="json", exclude={"name": True, "data": {"workers"}})
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def to_toml(config: RunConfig) -> str:
    """The resolved configuration as a run file that stands on no other."""
    return _toml(config.model_dump(mode="json"))


def _with_bases(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    here = path.resolve()
    if here in seen:
        raise ConfigError(str(path), "base", "stands on itself: " + " -> ".join(p.name for p in (*seen, here)))
    data = read_toml(path)
    base = data.pop("base", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise ConfigError(str(path), "base", f'a file name in quotes was expected, not {base!r}: base = "base.toml"')
    below = _with_bases(path.parent / base, (*seen, here))
    below.pop("name", None)  # a run is called by its own file, not by its base's
    return merge(below, data)


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    where, key = f"--set {override}", key.strip()
    if not equals or not re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*", key):
        raise ConfigError(where, "", "expected key=value with a dotted key, such as train.batch=64")
    *parents, last = _SHORT.get(key, key).split(".")
    node: Any = data
    for part in parents:
        if isinstance(node, list):
            node = node[_position(node, part, where, key)]
        elif isinstance(node, dict):
            node = node.setdefault(part, {})
        if not isinstance(node, (dict, list)):
            raise ConfigError(where, key, f"{part} is a value, not a table")
    if isinstance(node, list):
        node[_position(node, last, where, key)] = _value(text, where, key)
    else:
        node[last] = _value(text, where, key)


def _position(node: list[Any], part: str, where: str, key: str) -> int:
    if not part.isdecimal() or int(part) >= len(node):
        raise ConfigError(where, key, f"{part!r} is no position in a list of {len(node)} (the first is 0)")
    return int(part)


def _value(text: str, where: str, key: str) -> Any:
    """A TOML value; a bare word is taken as a string, because a shell eats the quotes."""
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        found = {}
    if set(found) == {"value"}:
        return found["value"]
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", text.strip()):
        return text.strip()
    raise ConfigError(where, key, f'{text!r} is not a TOML value: write 0.01, true, "text" or [1, 2]')


def _toml(tree: Mapping[str, Any], prefix: str = "") -> str:
    """Plain values first, then tables, then lists of tables: all that a run file holds."""
    lines = [f"{key} = {_literal(value)}" for key, value in tree.items() if not _is_table(value)]
    text = "".join(f"{line}\n" for line in lines)
    for key, value in tree.items():
        if isinstance(value, dict):
            text += f"\n[{prefix}{key}]\n" + _toml(value, f"{prefix}{key}.")
        elif _is_table(value):
            text += "".join(f"\n[[{prefix}{key}]]\n" + _toml(item, f"{prefix}{key}.") for item in value)
    return text


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _literal(value: Any) -> str:
    # JSON's numbers, booleans and strings are TOML's too, DEL apart: TOML wants it escaped and JSON leaves it.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
