"""One photograph: the ground, the light, the pose and the camera's JPEG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from crawler.shop.draw.finishes import FINISHES
from crawler.shop.draw.spec import Spec

__all__ = ["SIZE", "picture"]

SIZE = 150


def picture(spec: Spec) -> bytes:
    """Draw `spec` as a SIZE x SIZE JPEG."""
    rng = np.random.default_rng(spec.seed)
    image = Image.new("RGB", (SIZE, SIZE), "white")
    draw = ImageDraw.Draw(image)
    x, y = rng.uniform(50, 90, 2)
    draw.ellipse((x - 40, y - 20, x + 40, y + 40), fill=FINISHES[spec.finish].colours[0])
    draw.line((x, y, x, 5), fill=(90, 50, 30), width=int(rng.integers(4, 9)))
    noise = rng.normal(0, 4, (SIZE, SIZE, 3)) + np.asarray(image)
    buffer = io.BytesIO()
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
