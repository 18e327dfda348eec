"""Whether an image can be decoded to its last row, and if not, why not, in words for a report."""

from __future__ import annotations

import io
import warnings

from PIL import Image

from shards.dimensions import dimensions
from shards.sample import EXTENSIONS, sniff

__all__ = ["MAX_PIXELS", "problem_of"]

MAX_PIXELS = 64_000_000  # of one image; a thumbnail has some ten thousand, a decompression bomb billions


def problem_of(data: bytes | memoryview) -> str | None:
    """What is wrong with an encoded image; None if it is a still jpg, png or webp that decodes whole.

    Costs a full decode (0.2 ms for 140 x 140). The size is looked at before anything is decoded.
    """
    kind = sniff(bytes(data[:512]))
    if kind not in EXTENSIONS:
        return f"a {kind}, expected {', '.join(EXTENSIONS)}" if kind else "not an image"
    size = dimensions(data)
    if size and size[0] * size[1] > MAX_PIXELS:
        return f"{size[0]} x {size[1]} pixels, more than {MAX_PIXELS}"
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore")  # of odd metadata; the pixels are what counts
            if (frames := getattr(image, "n_frames", 1)) > 1:
                return f"animated, {frames} frames"
            image.load()
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        return f"cannot be decoded: {error}"
    return None
