"""A contact sheet: what is in the set, at a glance, a row of pictures for each label."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from shards.read import permutation
from shards.shard_set import ShardSet

__all__ = ["sheet"]

_GAP = 4
_TITLE = 18


def sheet(
    source: ShardSet, out: Path, *, per_label: int = 24, columns: int = 12, cell: int = 96, seed: int = 0
) -> Path:
    """Draws a PNG with up to `per_label` random samples of every label, under the label's name and count.

    Args:
        source: an opened set.
        out: the PNG to write.
        per_label: pictures a label.
        columns: pictures a row.
        cell: pixels a picture; images keep their shape, and a cross stands for one that cannot be decoded.
        seed: decides which samples are shown.
    """
    order = permutation(len(source), seed, 0)
    chosen = [order[source.label_ids[order] == label][:per_label] for label in range(len(source.labels))]
    step = cell + _GAP
    heights = [_TITLE + step * -(-max(1, len(mine)) // columns) for mine in chosen]
    page = Image.new("RGB", (columns * step + _GAP, sum(heights) + _GAP), "#d8d8d8")
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(13)
    top = 0
    for name, mine, height in zip(source.labels, chosen, heights, strict=True):
        pen.text((_GAP, top + 2), f"{name}  {source.counts[name]}", fill="black", font=font)
        for place, i in enumerate(mine.tolist()):
            row, column = divmod(place, columns)
            _paste(page, source.image(i), _GAP + column * step, top + _TITLE + row * step, cell)
        top += height
    page.save(out, "PNG")
    return out


def _paste(page: Image.Image, data: memoryview, x: int, y: int, cell: int) -> None:
    page.paste("white", (x, y, x + cell, y + cell))
    try:
        with Image.open(io.BytesIO(data)) as image:
            small = image.convert("RGBA")
            small.thumbnail((cell, cell))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        pen = ImageDraw.Draw(page)
        pen.line((x, y, x + cell, y + cell), fill="red", width=2)
        pen.line((x, y + cell, x + cell, y), fill="red", width=2)
        return
    page.paste(small, (x + (cell - small.width) // 2, y + (cell - small.height) // 2), small)
