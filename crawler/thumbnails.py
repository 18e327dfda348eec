"""Is it a thumbnail? What arrived is looked at before it is believed: kind, dimensions, every pixel, fingerprints.

Runs in examiners' threads and processes: imports what those need, and no more.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crawler.crawl_errors import Refused
from shards.dimensions import dimensions
from shards.sample import EXTENSIONS, sniff

if TYPE_CHECKING:  # a process that examines needs no site files
    from PIL import Image

    from crawler.site import Drop

__all__ = ["KEY_HEX_DIGITS", "Thumbnail", "examine", "mislabelled"]

_MOST_PIXELS = 25_000_000  # 75 MB decoded; no thumbnail comes near it
_START_OF_SCAN, _MOST_SCANS = b"\xff\xda", 200  # encoders write about ten
_SHA256_DIGITS = 64
KEY_HEX_DIGITS = 20  # 80 bits: among a million images a clash has a chance of 4 in 10^13


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A sound image: its bytes untouched, type by content, size in pixels, sha256 and dhash."""

    body: bytes
    ext: str
    width: int
    height: int
    sha256: bytes
    dhash: bytes

    @property
    def key(self) -> str:
        """The sample's key: from the bytes alone, so that it depends on no order and no address."""
        return self.sha256.hex()[:KEY_HEX_DIGITS]


def examine(body: bytes, drop: Drop, content_type: str = "") -> Thumbnail:
    """Looks at what an image address answered.

    Args:
        body: the whole answer.
        drop: limits of the sides and of their ratio, placeholders that are known, and whether a wrong header matters.
        content_type: the header, as evidence; the content decides.

    Raises:
        Refused: "not-an-image", "format", "animated", "too-small", "dimensions", "aspect", "broken", "mislabelled" or
            "placeholder".
    """
    kind = sniff(body[:512])
    if kind is None:
        raise Refused("not-an-image", f"Content-Type {content_type or 'absent'}, {len(body)} bytes")
    if kind not in EXTENSIONS:
        raise Refused("format", f"{kind}; jpg, png and webp are taken")
    size = dimensions(body)
    if size is None:
        raise Refused("broken", f"{kind} header without dimensions")
    width, height = size
    # before anything is decoded: a bomb is refused by its own header
    if max(size) > drop.max_side:
        raise Refused("dimensions", f"{width}x{height}, at most {drop.max_side} a side")
    if min(size) < drop.min_side:
        raise Refused("too-small", f"{width}x{height}, at least {drop.min_side} a side")
    if width * height > _MOST_PIXELS:
        raise Refused("dimensions", f"{width}x{height} is {width * height:,} pixels, at most {_MOST_PIXELS:,}")
    # each scan of a progressive JPEG is a pass over every pixel, and may cost the sender a few bytes
    if kind == "jpg" and (scans := body.count(_START_OF_SCAN)) > _MOST_SCANS:
        raise Refused("broken", f"{scans} scans, at most {_MOST_SCANS}")
    if drop.max_aspect and max(size) > drop.max_aspect * min(size):
        raise Refused("aspect", f"{width}x{height}, at most {drop.max_aspect:g} to 1")
    if drop.mislabelled and (said := mislabelled(kind, content_type)):
        raise Refused("mislabelled", f"Content-Type {said}, the content is {kind}")
    from shards.duplicates import dhash  # numpy and Pillow: 0.3 s that only who examines pays

    image = _decode(body, kind)
    if image.size != size:
        raise Refused("broken", f"header says {width}x{height}, decoded {image.width}x{image.height}")
    found = Thumbnail(body, kind, width, height, hashlib.sha256(body).digest(), dhash(image))
    if drop.placeholder and (known := _placeholder(found, drop.placeholder)):
        raise Refused("placeholder", f"like {known[:20]} in [drop] placeholder")
    return found


def mislabelled(kind: str, content_type: str) -> str | None:
    """The media type that a header says, if it is another image's than the content's; None where it agrees or says
    nothing of images (application/octet-stream is what servers say that do not know)."""
    said = content_type.partition(";")[0].strip().lower()
    if not said.startswith("image/") or said in _MEDIA_TYPES.get(kind, ()):
        return None
    return said


_MEDIA_TYPES = {
    "jpg": ("image/jpeg", "image/jpg", "image/pjpeg"),
    "png": ("image/png", "image/x-png", "image/apng"),
    "webp": ("image/webp",),
}


def _placeholder(found: Thumbnail, known: Sequence[str]) -> str | None:
    """Which of the known placeholders an image is: by its sha256, or near to one by its dhash."""
    from shards.duplicates import near

    for one in known:
        if len(one) == _SHA256_DIGITS:
            if found.sha256.hex() == one:
                return one
        elif near(found.dhash, bytes.fromhex(one)):
            return one
    return None


def _decode(body: bytes, kind: str) -> Image.Image:
    """Every pixel, as RGB. Raises Refused."""
    import simplejpeg
    from PIL import Image

    if kind == "jpg":
        try:
            # a quarter of Pillow's time, and it says what libjpeg would only warn of; frombuffer copies no pixels
            pixels = simplejpeg.decode_jpeg(body, "RGB")
            return Image.frombuffer("RGB", (pixels.shape[1], pixels.shape[0]), pixels, "raw", "RGB", 0, 1)
        except ValueError:
            pass  # CMYK, or stray bytes between segments that every viewer passes over: Pillow decides
    try:
        with Image.open(io.BytesIO(body), formats=("JPEG", "PNG", "WEBP")) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise Refused("animated", f"{frames} frames")
            image.load()
            if image.mode in ("P", "LA", "PA", "RGBA"):
                ground = Image.new("RGBA", image.size, "white")
                return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
            return image.convert("RGB")
    except Refused:
        raise
    except Exception as error:  # Pillow's decoders raise whatever their parsers raise; all of it means one thing
        raise Refused("broken", f"{type(error).__name__}: {error}"[:200]) from None
