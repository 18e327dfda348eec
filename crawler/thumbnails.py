"""Is it a thumbnail? What arrived is looked at before it is believed: kind, dimensions, all its data, fingerprints.

Runs in examiners' threads and processes: imports what those need, and no more.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from crawler.crawl_errors import Refused
from crawler.provenance import Told, packed
from shards.dimensions import dimensions
from shards.errors import BasslineError
from shards.sample import EXTENSIONS, sniff

if TYPE_CHECKING:  # a process that examines needs no site files
    from PIL import Image

    from crawler.site import Drop

__all__ = ["KEY_HEX_DIGITS", "Outcome", "Picture", "Thumbnail", "examine", "examine_all", "mislabelled"]

_MOST_PIXELS = 25_000_000  # 75 MB decoded; no thumbnail comes near it
_START_OF_SCAN, _MOST_SCANS = b"\xff\xda", 200  # encoders write about ten
_SHA256_DIGITS = 64
KEY_HEX_DIGITS = 20  # 80 bits: among a million images a clash has a chance of 4 in 10^13


class Thumbnail(NamedTuple):
    """A sound image: its bytes untouched, type by content, size in pixels, sha256 and dhash."""

    body: bytes
    ext: str
    width: int
    height: int
    sha256: bytes
    dhash: bytes
    content_type: str | None = None  # where the header names another image type than the content's
    # of the sample in a tar: its bytes before and after the body, and its row in an index
    members: tuple[bytes, bytes, bytes] | None = None

    @property
    def key(self) -> str:
        """The sample's key: from the bytes alone, so that it depends on no order and no address."""
        return self.sha256.hex()[:KEY_HEX_DIGITS]


Outcome = Thumbnail | Refused
Picture = tuple[bytes, str, Told | None]
"""The whole answer of an image's address; its Content-Type: evidence, the content decides; and what a sample made of it
is to say, None if none is to be made."""


def examine(body: bytes, drop: Drop, content_type: str = "") -> Thumbnail:
    """`examine_all` of one.

    Raises:
        Refused: what `examine_all` says of it.
    """
    (found,) = examine_all([(body, content_type, None)], drop)
    if isinstance(found, Refused):
        raise found
    return found


def examine_all(pictures: Sequence[Picture], drop: Drop) -> list[Outcome]:
    """Looks at what images' addresses answered; many at once cost a third less.

    Args:
        pictures: what arrived.
        drop: limits of the sides and of their ratio, placeholders that are known, and whether a wrong header matters.

    Returns:
        For each a sound image or a refusal: "not-an-image", "format", "animated", "too-small", "dimensions", "aspect",
        "broken", "mislabelled" or "placeholder".
    """
    from shards.duplicates import dhashes  # numpy and Pillow: 0.3 s that only who examines pays

    outcomes: list[Outcome | None] = []
    sound: list[tuple[int, str, tuple[int, int]]] = []
    images: list[Image.Image] = []
    for body, content_type, _ in pictures:
        try:
            kind, size = _admitted(body, drop, content_type)
            images.append(_decode(body, kind, size))
        except Refused as refused:
            outcomes.append(refused)
        except Exception as error:  # an image that breaks the examiner is an outcome too, never a lost one
            outcomes.append(Refused("broken", f"{type(error).__name__}: {error}"[:200]))
        else:
            sound.append((len(outcomes), kind, size))
            outcomes.append(None)
    for (at, kind, size), dhash in zip(sound, dhashes(images), strict=True):
        body, content_type, told = pictures[at]
        said = mislabelled(kind, content_type)
        found = Thumbnail(body, kind, *size, hashlib.sha256(body).digest(), dhash, said)
        known = _placeholder(found, drop.placeholder) if drop.placeholder else None
        if known:
            outcomes[at] = Refused("placeholder", f"like {known[:20]} in [drop] placeholder")
        else:
            outcomes[at] = found if told is None else _with_members(found, Told(*told))
    return [outcome for outcome in outcomes if outcome is not None]


def _with_members(image: Thumbnail, told: Told) -> Outcome:
    try:
        return image._replace(members=packed(image, told, image.content_type))
    except (BasslineError, ValueError) as error:
        return Refused("broken", f"no sample can be made of it: {error}"[:200])


def _admitted(body: bytes, drop: Drop, content_type: str) -> tuple[str, tuple[int, int]]:
    """Kind and size in pixels of what may be decoded. Raises Refused."""
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
    return kind, size


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


def _decode(body: bytes, kind: str, size: tuple[int, int]) -> Image.Image:
    """All of its data, as RGB; of a large JPEG at a fraction of its size, as `hash_image` does. Raises Refused."""
    import simplejpeg
    from PIL import Image

    from shards.duplicates import draft_factor

    if kind == "jpg":
        factor = draft_factor(*size)
        width, height = (-(-side // factor) for side in size)
        try:
            # a quarter of Pillow's time, and it says what libjpeg would only warn of; frombuffer copies no pixels
            pixels = simplejpeg.decode_jpeg(body, "RGB", min_height=height, min_width=width)
        except ValueError:
            pass  # CMYK, or stray bytes between segments that every viewer passes over: Pillow decides
        else:
            if pixels.shape[:2] != (height, width):
                raise Refused("broken", f"header says {size[0]}x{size[1]}, the decoder makes another size of it")
            return Image.frombuffer("RGB", (width, height), pixels, "raw", "RGB", 0, 1)
    try:
        with Image.open(io.BytesIO(body), formats=("JPEG", "PNG", "WEBP")) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise Refused("animated", f"{frames} frames")
            if image.size != size:
                raise Refused("broken", f"header says {size[0]}x{size[1]}, decoded {image.width}x{image.height}")
            if kind == "jpg":
                factor = draft_factor(*size)
                image.draft("RGB", (size[0] // factor, size[1] // factor))
            image.load()
            if image.mode in ("P", "LA", "PA", "RGBA"):
                ground = Image.new("RGBA", image.size, "white")
                return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
            return image.convert("RGB")
    except Refused:
        raise
    except Exception as error:  # Pillow's decoders raise whatever their parsers raise; all of it means one thing
        raise Refused("broken", f"{type(error).__name__}: {error}"[:200]) from None
