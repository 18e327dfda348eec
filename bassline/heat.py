"""Maps as pictures: colour over a pale photograph, and the files and addresses that hold them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

__all__ = ["SIDE", "grid", "heat", "photo", "pixels", "signed", "strip", "uri"]

SIDE = 160
"""Side of a picture, in pixels."""

Floats = NDArray[np.floating[Any]]
_WARM = np.array([(255, 245, 190), (254, 196, 79), (240, 80, 30), (150, 0, 40)], np.float64)
_FOR, _AGAINST = np.array((190, 30, 45), np.float64), np.array((30, 95, 175), np.float64)


def photo(square: NDArray[np.uint8], side: int = SIDE) -> Image.Image:
    """The image as the net gets it, enlarged."""
    return Image.fromarray(square).resize((side, side), Image.Resampling.BICUBIC)


def _pale(square: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
    grey = np.asarray(photo(square, side).convert("L"), np.float64)
    return np.repeat((150 + grey * 105 / 255)[..., None], 3, 2)


def _enlarged(values: Floats, side: int, how: Image.Resampling) -> NDArray[np.float64]:
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize((side, side), how), np.float64)


def heat(square: NDArray[np.uint8], values: Floats, side: int = SIDE) -> Image.Image:
    """A map without negatives: the stronger, the darker and the less of the photograph is left."""
    most = float(values.max())
    share = np.clip(_enlarged(values / most if most > 0 else values, side, Image.Resampling.BILINEAR), 0, 1)
    place = share * (len(_WARM) - 1)
    low = np.minimum(place.astype(int), len(_WARM) - 2)
    colour = _WARM[low] + (place - low)[..., None] * (_WARM[low + 1] - _WARM[low])
    alpha = np.clip(share * 1.4, 0, 0.88)[..., None]
    return _image(_pale(square, side) * (1 - alpha) + colour * alpha)


def signed(square: NDArray[np.uint8], values: Floats, side: int = SIDE) -> Image.Image:
    """A map with both signs: red speaks for the label, blue against it; the top half per cent is cut off."""
    most = float(np.quantile(np.abs(values), 0.995))
    share = np.clip(_enlarged(values / most if most > 0 else values, side, Image.Resampling.NEAREST), -1, 1)
    colour = np.where(share[..., None] > 0, _FOR, _AGAINST)
    alpha = (np.abs(share) ** 0.7)[..., None]
    pale = 255 - (255 - _pale(square, side)) * 0.55
    return _image(pale * (1 - alpha) + colour * alpha)


def pixels(values: Floats, side: int) -> Image.Image:
    """Plain values as an image of sharp pixels: (H, W, 3) in colour, (H, W) grey; the least black, the most white."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / ((high - low) or 1.0) * 255
    made = Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))
    return made.convert("RGB").resize((side, side), Image.Resampling.NEAREST)


def _image(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def strip(pictures: Sequence[Image.Image], captions: Sequence[str] = (), gap: int = 6) -> Image.Image:
    """Pictures side by side on white, captions above."""
    head = 16 if captions else 0
    width = sum(each.width for each in pictures) + gap * (len(pictures) - 1)
    made = Image.new("RGB", (width, max(each.height for each in pictures) + head), "white")
    at = 0
    draw = ImageDraw.Draw(made)
    for number, each in enumerate(pictures):
        made.paste(each, (at, head))
        if captions:
            draw.text((at, 1), captions[number], fill="#444", font_size=11)
        at += each.width + gap
    return made


def grid(rows: Sequence[Sequence[Image.Image]], gap: int = 6) -> Image.Image:
    """Rows of pictures."""
    strips = [strip(row, gap=gap) for row in rows]
    made = Image.new(
        "RGB",
        (max(each.width for each in strips), sum(each.height for each in strips) + gap * (len(rows) - 1)),
        "white",
    )
    at = 0
    for each in strips:
        made.paste(each, (0, at))
        at += each.height + gap
    return made


def uri(picture: Image.Image) -> str:
    """An address that holds the picture, WebP: a map takes some 4 KB."""
    memory = io.BytesIO()
    picture.save(memory, "WEBP", quality=82, method=2)
    return f"data:image/webp;base64,{base64.b64encode(memory.getvalue()).decode()}"
