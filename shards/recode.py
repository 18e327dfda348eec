"""Another size, quality or format of the same pictures, for downscaling tests: by Pillow, and told in the manifest."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps

from shards.dimensions import dimensions
from shards.errors import ConfigError
from shards.sample import EXTENSIONS, sniff

__all__ = ["FITS", "FORMATS", "Recode", "pixels"]

FITS = ("pad", "crop", "stretch")
FORMATS = ("same", "jpg", "png", "webp")
_DEFAULT_QUALITY = 90
_WHITE = (255, 255, 255)
_MAX_SIZE = 4096


@dataclass(frozen=True, slots=True)
class Recode:
    """How pictures are made anew.

    Pixels are RGB: EXIF rotation is applied, alpha is laid over white. A picture that already is what is asked for
    keeps its bytes.

    Args:
        size: pixels of both sides; None: as they are. Smaller pictures are enlarged.
        fit: "pad" with white to a square, "crop" the middle, or "stretch".
        quality: of JPEG and lossy WebP, 1 to 100; None: 90. PNG and lossless WebP stay lossless.
        format: "jpg", "png", "webp", or "same".

    Raises:
        ConfigError: an argument is out of its range.
    """

    size: int | None = None
    fit: Literal["pad", "crop", "stretch"] = "pad"
    quality: int | None = None
    format: Literal["same", "jpg", "png", "webp"] = "same"

    def __post_init__(self) -> None:
        if self.size is not None and not 1 <= self.size <= _MAX_SIZE:
            raise ConfigError("--size", "", f"{self.size}: expected 1 to {_MAX_SIZE} pixels")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ConfigError("--quality", "", f"{self.quality}: expected 1 to 100")
        if self.fit not in FITS:
            raise ConfigError("--fit", "", f"{self.fit!r}: expected {', '.join(FITS)}")
        if self.format not in FORMATS:
            raise ConfigError("--format", "", f"{self.format!r}: expected {', '.join(FORMATS)}")

    @property
    def changes(self) -> bool:
        """Whether any picture could change."""
        return self.size is not None or self.quality is not None or self.format != "same"

    def about(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {
            "size": self.size,
            "fit": self.fit if self.size else None,
            "quality": self.quality or _DEFAULT_QUALITY,
            "format": self.format,
            "resize": "Lanczos with antialiasing, on gamma-encoded RGB" if self.size else None,
            "jpeg": "4:2:0, EXIF rotation applied, alpha over white",
            "by": f"Pillow {PIL.__version__}",
        }

    def apply(self, data: bytes) -> tuple[bytes, str]:
        """(bytes, extension) of a picture made anew.

        Raises:
            OSError, SyntaxError, ValueError: it cannot be decoded.
        """
        kind = sniff(data[:512]) or ""
        ext = (
            kind if self.format == "same" and kind in EXTENSIONS else ("jpg" if self.format == "same" else self.format)
        )
        fits = self.size is None or dimensions(data) == (self.size, self.size)
        if kind == ext and fits and (self.quality is None or ext == "png"):
            return data, ext
        return encode(self.resized(_open(data)), ext, self.quality, lossless=data[12:16] == b"VP8L"), ext

    def resized(self, image: Image.Image) -> Image.Image:
        """An RGB image in the size asked for."""
        if self.size is None or image.size == (self.size, self.size):
            return image
        target = (self.size, self.size)
        if self.fit == "stretch":
            return image.resize(target, Image.Resampling.LANCZOS)
        if self.fit == "crop":
            return ImageOps.fit(image, target, Image.Resampling.LANCZOS)
        return ImageOps.pad(image, target, Image.Resampling.LANCZOS, color=_WHITE)

    def keeps(self, ext: str, made: str) -> bool:
        """Whether a member beside the picture stays: in another size, masks and boxes are no more those of the picture.

        Args:
            ext: of the member.
            made: extension of the picture made anew.
        """
        return ext != made and (self.size is None or ext == "txt")

    def meta(self, meta: dict[str, Any], before: bytes, after: bytes) -> dict[str, Any]:
        """The sample's JSON after `apply`: what it was is kept."""
        if before == after:
            return meta
        was, now = dimensions(before) or (0, 0), dimensions(after) or (0, 0)
        origin = {
            "sha256": hashlib.sha256(before).hexdigest(),
            "width": was[0],
            "height": was[1],
            "ext": sniff(before[:512]),
        }
        new = {"sha256": hashlib.sha256(after).hexdigest(), "width": now[0], "height": now[1]}
        return meta | new | {"recoded_from": meta.get("recoded_from", origin)}


def encode(image: Image.Image, ext: str, quality: int | None = None, *, lossless: bool = False) -> bytes:
    """An RGB image's bytes as "jpg" (4:2:0), "png" (lossless) or "webp"."""
    out = io.BytesIO()
    if ext == "png":
        image.save(out, "PNG")
    elif ext == "webp":
        image.save(out, "WEBP", quality=quality or _DEFAULT_QUALITY, lossless=lossless)
    else:
        image.save(out, "JPEG", quality=quality or _DEFAULT_QUALITY, subsampling="4:2:0")
    return out.getvalue()


def pixels(data: bytes | memoryview, recode: Recode) -> NDArray[np.uint8]:
    """The RGB pixels of an encoded picture, uint8 (H, W, 3).

    Raises:
        OSError, SyntaxError, ValueError: it cannot be decoded.
    """
    return np.asarray(recode.resized(_open(data)), np.uint8)


def _open(data: bytes | memoryview) -> Image.Image:
    with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as opened:
        warnings.simplefilter("ignore")  # of odd metadata; the pixels are what counts
        image = ImageOps.exif_transpose(opened)
        if image.mode in ("RGBA", "LA", "PA") or (image.mode == "P" and "transparency" in image.info):
            image = image.convert("RGBA")
            ground = Image.new("RGBA", image.size, (*_WHITE, 255))
            return Image.alpha_composite(ground, image).convert("RGB")
        if image.mode.startswith("I;16") or image.mode == "I":
            return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
        return image.convert("RGB")
