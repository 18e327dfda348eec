"""What survives a kill (last.pt) and what is worth keeping (best.safetensors); each is replaced whole or not at all."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from shards.errors import brief
from shards.files import write_atomic
from shards.toml_file import validate
from trainer.config import Net
from trainer.errors import ModelUnreadable, RunDamaged

__all__ = ["BEST_NAME", "LAST_NAME", "ModelCard", "load_last", "load_model", "save_last", "save_model"]

LAST_NAME, BEST_NAME = "last.pt", "best.safetensors"
_FORMAT = 1

State = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Everything beside the weights that is needed to use a model.

    Args:
        labels: names of the labels, by number.
        size, fit: how an image becomes a square, as in a run file.
        mean, std: of the training set's pixels per channel, in levels 0 to 255.
        net: the net.
        flip: whether an image's answer is the mean of its logits and of its mirror image's.
        run, config_hash, data_digest, epoch: where the weights come from.
    """

    labels: tuple[str, ...]
    size: int
    fit: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    net: Net
    flip: bool
    run: str
    config_hash: str
    data_digest: str
    epoch: int

    def to_metadata(self) -> dict[str, str]:
        """As safetensors wants it, text to text; one entry, because it writes several in no fixed order."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["net"] = self.net.model_dump(mode="json")
        return {"bassline": json.dumps({"format": _FORMAT, **fields}, ensure_ascii=False)}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], path: Path) -> ModelCard:
        """Reads what `to_metadata` gave.

        Raises:
            ModelUnreadable: the file was not written by `save_model`, or by another version.
        """
        if "bassline" not in metadata:
            raise ModelUnreadable(path, "is not a model that bassline wrote")
        try:
            told: dict[str, Any] = {"flip": False, **json.loads(metadata["bassline"])}  # older files have no flip
            fields: dict[str, Any] = {name: told[name] for name in cls.__slots__}
        except (KeyError, TypeError, ValueError) as error:
            raise ModelUnreadable(path, f"its metadata is damaged ({brief(error)})") from None
        if told.get("format") != _FORMAT:
            raise ModelUnreadable(path, f"is a model of format {told.get('format')}, this reads {_FORMAT}")
        fields["net"] = validate(Net, fields["net"], str(path))
        for name in ("labels", "mean", "std"):
            fields[name] = tuple(fields[name])
        return cls(**fields)


def save_model(path: Path, weights: State, card: ModelCard) -> None:
    """Writes weights and card, atomically."""
    on_host = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_atomic(path, [save(on_host, metadata=card.to_metadata())])


def load_model(path: Path) -> tuple[State, ModelCard]:
    """Reads what `save_model` wrote, weights on the host.

    Raises:
        ModelUnreadable: there is no such file, or it is another one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            card = ModelCard.from_metadata(file.metadata() or {}, path)
            return {name: file.get_tensor(name) for name in file.keys()}, card  # noqa: SIM118 it is no mapping
    except FileNotFoundError:
        raise ModelUnreadable(path, "no such file") from None
    except (SafetensorError, OSError) as error:
        raise ModelUnreadable(path, f"is no safetensors file ({error})") from None


_STATE = {"config_hash", "data_digest", "epoch", "steps", "tensors", "best", "best_weights", "clock"}


def save_last(path: Path, state: dict[str, Any]) -> None:
    """Writes a resumable state (tensors, numbers, text and containers of them), atomically."""
    memory = io.BytesIO()
    torch.save(state, memory)
    write_atomic(path, [memory.getbuffer()])


def load_last(path: Path) -> dict[str, Any] | None:
    """Reads what `save_last` wrote, on the host; None where nothing was written yet.

    Raises:
        RunDamaged: it is no such state.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damage leads to
        raise RunDamaged(path, str(error)) from None
    if not isinstance(state, dict) or not state.keys() >= _STATE:
        raise RunDamaged(path, "holds no run's state")
    return state
