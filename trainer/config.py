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

from pydantic import Field, model_validator

from shards.errors import ConfigError
from shards.toml_file import StrictModel, merge, read_toml, validate

__all__ = [
    "Augment",
    "Data",
    "Layer",
    "Net",
    "Optim",
    "RunConfig",
    "Select",
    "Train",
    "config_hash",
    "load_run",
    "resolve",
    "to_toml",
]

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Data(StrictModel):
    """How images become uint8 squares.

    size: side in pixels. fit: `pad` keeps the whole image on white, `crop` takes the middle square, `stretch` distorts.
    mode: `resident` decodes once into memory of the training device, `stream` decodes every epoch, `auto` measures.
    threads: decoding threads, 0 for one a core.
    """

    size: Positive = 150
    fit: Literal["pad", "crop", "stretch"] = "pad"
    mode: Literal["auto", "resident", "stream"] = "auto"
    decoder: Literal["auto", "dali", "simplejpeg", "torchvision", "pillow"] = "auto"
    threads: Count = 0


class Layer(StrictModel):
    """One layer of the net: convolution, (batch norm), ReLU, max pool, (dropout). pool: 1 is none."""

    kernel: Positive
    maps: Positive
    stride: Positive = 1
    padding: Count = 0
    batch_norm: bool = False
    dropout: Share = 0.0
    pool: Positive = 2


class Net(StrictModel):
    """Convolution layers and one linear layer over what is left; the number of labels comes from the data."""

    kind: Literal["conv"] = "conv"
    layers: tuple[Layer, ...] = Field(min_length=1)


class Optim(StrictModel):
    """The optimiser. schedule scales lr a step at a time; warmup is the share of all steps before lr is reached."""

    kind: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    momentum: Share = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Share = 0.0
    schedule: Literal["constant", "cosine", "onecycle", "triangular"] = "constant"
    warmup: Share = 0.3

    @model_validator(mode="after")
    def _check(self) -> Optim:
        if self.kind == "adamw" and "momentum" in self.model_fields_set and self.momentum:
            raise ValueError('momentum belongs to kind = "sgd"; set momentum = 0 for adamw')
        return self


class Train(StrictModel):
    """How long, from which seed, and how the device is used. checkpoint_s: least seconds between two `last.pt`."""

    batch: Positive = 256
    epochs: Positive = 1000
    seed: Count = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    executor: Literal["auto", "eager", "compiled", "graph"] = "auto"
    channels_last: bool = False
    checkpoint_s: Annotated[float, Field(ge=0)] = 5.0


class Augment(StrictModel):
    """On the device, training images only. flip: mirror left-right half of them; shift: up to so many pixels."""

    flip: bool = False
    shift: Count = 0


class Select(StrictModel):
    """Which epoch is kept. patience: epochs without a better one before the run stops, 0 for never."""

    metric: Literal["val_loss", "val_accuracy"] = "val_loss"
    patience: Count = 0


class RunConfig(StrictModel):
    """A whole run. name: how the run is called in tables; by default the run file's name."""

    name: str = ""
    data: Data = Data()
    net: Net
    optim: Optim = Optim()
    train: Train = Train()
    augment: Augment = Augment()
    select: Select = Select()


# The command line's shorthand: what a run is tuned by is reached under `train` too.
_SHORT = {"train.lr": "optim.lr", "train.momentum": "optim.momentum"}


def load_run(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a run file, the files it stands on (`base = "other.toml"`, relative to it) and `key=value` overrides.

    A table in the file is merged into the base's, key by key; a list replaces the base's list.

    Raises:
        ConfigError: a file or override is wrong; names the file, the dotted key and what was expected.
    """
    merged = _with_bases(path, ())
    merged.setdefault("name", path.stem)
    return resolve(merged, overrides, where=str(path))


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
    """16 hex digits that change with anything a run depends on, its name apart."""
    body = config.model_dump(mode="json", exclude={"name"})
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
