"""Using a model: the file best.safetensors is all that is needed, preprocessing included."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from trainer.checkpoint import BEST_NAME, ModelCard, load_model
from trainer.decode import open_decoder
from trainer.nets import build_net
from trainer.step import Normaliser

__all__ = ["ImageLike", "Model", "Prediction", "load"]

MAX_BYTES = 256_000_000
"""Of an image file: no encoded image that decoders here would take is larger."""

ImageLike = bytes | memoryview | str | Path | Image.Image | np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer.

    Args:
        label: the likeliest label; "" where the image cannot be read.
        probability: its probability, 0 to 1.
        probabilities: by label, in the model's order; empty where the image cannot be read.
        error: why the image cannot be read, or None.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    error: str | None = None


class Model:
    """A trained net with its preprocessing.

    Attributes:
        card: labels, size, fit and normalisation.
        net: the net in evaluation mode; float32 (B, 3, size, size) in, logits out.
    """

    def __init__(self, card: ModelCard, net: torch.nn.Module, device: torch.device, threads: int = 0) -> None:
        self.card, self.net, self.device, self.threads = card, net, device, threads

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels, by number."""
        return self.card.labels

    def squares(self, images: Sequence[ImageLike]) -> tuple[torch.Tensor, dict[int, str]]:
        """Images as the net was trained on them: uint8 (B, size, size, 3) on the host, and why some cannot be read."""
        out = torch.full((len(images), self.card.size, self.card.size, 3), 255, dtype=torch.uint8)
        errors: dict[int, str] = {}
        encoded: list[bytes | memoryview] = []
        for position, image in enumerate(images):
            try:
                encoded.append(_encoded(image))
            except OSError as error:
                encoded.append(b"")
                errors[position] = error.strerror or str(error)
            except (TypeError, ValueError) as error:  # what Pillow says of an array that is no picture
                encoded.append(b"")
                errors[position] = f"not an image: {error}"
        decoder = open_decoder("simplejpeg", self.card.size, self.card.fit, self.threads, "cpu")
        try:
            for position in decoder.decode(encoded, out):
                errors.setdefault(position, "not an image, or a damaged one")
        finally:
            decoder.close()
        return out, errors

    @torch.inference_mode()
    def probabilities(self, squares: torch.Tensor) -> torch.Tensor:
        """Probabilities float32 (B, labels) on the host for uint8 squares (B, size, size, 3)."""
        moments = (self.card.mean, self.card.std)
        mean, std = (torch.tensor(values, dtype=torch.float32, device=self.device) for values in moments)
        normalise = Normaliser(mean, std, len(squares), self.card.size, channels_last=False)
        there = squares.to(self.device)  # as uint8: a quarter of the bytes
        logits: torch.Tensor = self.net(normalise(there)).float()
        if self.card.flip:
            logits = (logits + self.net(normalise(there.flip(2))).float()) / 2
        return logits.softmax(1).cpu()

    def predict(self, images: Sequence[ImageLike] | ImageLike, *, batch: int = 256) -> list[Prediction]:
        """Labels images: encoded bytes, paths, Pillow images or uint8 RGB arrays (H, W, 3); one alone: a list of one.

        An image that cannot be read gets a Prediction with `error` set and does not stop the rest.

        Args:
            images: the images; an array (N, H, W, 3) is N of them.
            batch: images that are decoded and labelled together: 75 KB of memory each at 150 pixels, activations aside.
        """
        found: list[Prediction] = []
        images = _several(images)
        for start in range(0, len(images), batch):
            squares, errors = self.squares(images[start : start + batch])
            for position, row in enumerate(self.probabilities(squares).tolist()):
                if position in errors:
                    found.append(Prediction("", 0.0, {}, errors[position]))
                elif not all(map(math.isfinite, row)):
                    found.append(Prediction("", 0.0, {}, "the model's answer is no number: its weights are damaged"))
                else:
                    shares = dict(zip(self.labels, row, strict=True))
                    label = max(shares, key=shares.__getitem__)
                    found.append(Prediction(label, shares[label], shares))
        return found


def load(run_or_model: Path | str, *, device: str = "cpu", threads: int = 0) -> Model:
    """Loads a model from a run folder or a best.safetensors; threads decode, 0 for one a core.

    Raises:
        ModelUnreadable: there is none, or the file is another one.
    """
    path = Path(run_or_model)
    weights, card = load_model(path / BEST_NAME if path.is_dir() else path)
    net = build_net(card.net, len(card.labels), card.size)
    net.load_state_dict(weights)
    return Model(card, net.to(device).eval(), torch.device(device), threads)


def _several(images: Sequence[ImageLike] | ImageLike) -> Sequence[ImageLike]:
    """A text is one path, not its letters; an array of three axes is one picture, not its rows."""
    if isinstance(images, np.ndarray):
        return [images] if images.ndim < 4 else list(images)
    return [images] if isinstance(images, bytes | memoryview | str | Path | Image.Image) else images


def _encoded(image: ImageLike) -> bytes | memoryview:
    """Bytes that the decoder reads; what is decoded already is written as PNG, which loses nothing."""
    if isinstance(image, bytes | memoryview):
        return image
    if isinstance(image, str | Path):
        if (size := Path(image).stat().st_size) > MAX_BYTES:
            raise ValueError(f"{size:,} bytes, at most {MAX_BYTES:,} are read")
        return Path(image).read_bytes()
    memory = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(memory, "png", compress_level=0)
    return memory.getvalue()
