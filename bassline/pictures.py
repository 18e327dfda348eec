"""Pictures in a terminal: kitty's graphics, sixel, quarter-blocks or half-blocks. Pixels in, text out."""

from __future__ import annotations

import base64
import io
import re
from typing import Any, Literal

import numpy as np
from PIL import Image

__all__ = [
    "FORGET_KITTY",
    "Protocol",
    "blocks",
    "fitted",
    "in_cells",
    "kitty",
    "nearest_256",
    "on_white",
    "quarters",
    "sixel",
]

Protocol = Literal["kitty", "sixel", "quarters", "blocks", "none"]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]

_KITTY_CHUNK = 4096  # bytes of base64 in one escape, by the protocol
FORGET_KITTY = "\x1b_Ga=d,d=A,q=2\x1b\\"
_SIXEL_COLOURS = 256  # the registers of a VT340; every sixel terminal has as many
_RUN = re.compile(r"(.)\1{3,}")
_CUBE = np.array([0, 95, 135, 175, 215, 255])  # levels of xterm's colours 16 to 231
_GREYS = np.arange(8, 248, 10)  # of 232 to 255


def fitted(pixels: Pixels, width: int, height: int) -> Pixels:
    """`pixels` (H, W, 3) as large as fits into width x height with its shape kept; at least one pixel a side."""
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    if size == (pixels.shape[1], pixels.shape[0]):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def on_white(pixels: Pixels, width: int, height: int) -> Pixels:
    """`pixels` in the middle of a white width x height; they must not be larger."""
    out = np.full((height, width, 3), 255, np.uint8)
    y, x = (height - pixels.shape[0]) // 2, (width - pixels.shape[1]) // 2
    out[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return out


def kitty(pixels: Pixels, columns: int, rows: int) -> str:
    """The picture (H, W, 3) over columns x rows cells from the cursor on, which stays; as PNG in kitty's protocol.

    https://sw.kovidgoyal.net/kitty/graphics-protocol/: a=T transmits and shows, f=100 is PNG, q=2 wants no reply.
    """
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "png")
    data = base64.standard_b64encode(png.getvalue()).decode()
    chunks = [data[start : start + _KITTY_CHUNK] for start in range(0, len(data), _KITTY_CHUNK)]
    made = []
    for place, chunk in enumerate(chunks):
        more = int(place < len(chunks) - 1)
        keys = f"a=T,f=100,i=1,c={columns},r={rows},C=1,q=2,m={more}" if place == 0 else f"q=2,m={more}"
        made.append(f"\x1b_G{keys};{chunk}\x1b\\")
    return "".join(made)


def sixel(pixels: Pixels) -> str:
    """The picture (H, W, 3) from the cursor on in 256 colours of its own (fewer are kept as they are), as sixels.

    VT330/VT340 Programmer Reference Manual, chapter 14: six rows a band, a bit a row, "$" back to the band's start,
    "-" to the next band, "!n" n times. Colours come in percent, so each channel is rounded to a hundredth.
    """
    palette, index = _palette(pixels)
    height, width = index.shape
    percent = np.rint(palette.astype(np.float64) * 100 / 255).astype(int)
    made = [f'\x1bP0;1;0q"1;1;{width};{height}']
    made += [f"#{number};2;{r};{g};{b}" for number, (r, g, b) in enumerate(percent.tolist())]
    for top in range(0, height, 6):
        band = index[top : top + 6]
        used, which = np.unique(band, return_inverse=True)
        codes = np.full((len(used), width), 63, np.uint8)
        for row, own in enumerate(which.reshape(band.shape)):
            codes[own, np.arange(width)] += np.uint8(1 << row)  # a pixel has one colour: no cell is met twice
        lines = []
        for colour, line in zip(used.tolist(), codes, strict=True):
            text = line.tobytes().decode().rstrip("?")
            lines.append(f"#{colour}" + _RUN.sub(lambda run: f"!{len(run[0])}{run[1]}", text))
        made.append("$".join(lines) + "-")
    return "".join(made) + "\x1b\\"


def _palette(pixels: Pixels) -> tuple[Pixels, np.ndarray[Any, np.dtype[np.intp]]]:
    """Colours (n, 3), n at most 256, and which of them each pixel has (H, W)."""
    red, green, blue = np.moveaxis(pixels.astype(np.int64), 2, 0)
    found, index = np.unique(
        red << 16 | green << 8 | blue, return_inverse=True
    )  # as numbers: rows sort ten times slower
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], -1).astype(np.uint8)
    if len(colours) > _SIXEL_COLOURS:
        # no dithering: it makes noise of a white ground and twice the bytes
        image = Image.fromarray(pixels).quantize(_SIXEL_COLOURS, dither=Image.Dither.NONE)
        told = image.getpalette() or []
        colours = np.array(told, np.uint8).reshape(-1, 3)
        index = np.asarray(image).astype(np.intp)
    return colours, index.reshape(pixels.shape[:2])


def nearest_256(pixels: Pixels) -> np.ndarray[Any, np.dtype[np.intp]]:
    """The nearest of xterm's fixed 240 colours to each pixel (..., 3), as its number 16 to 255, shape (...)."""
    levels = pixels.astype(np.int64)
    cube = np.abs(levels[..., None] - _CUBE).argmin(-1)
    grey = np.abs(levels.mean(-1)[..., None] - _GREYS).argmin(-1)
    to_cube = np.square(_CUBE[cube] - levels).sum(-1)
    to_grey = np.square(_GREYS[grey][..., None] - levels).sum(-1)
    number = 16 + cube[..., 0] * 36 + cube[..., 1] * 6 + cube[..., 2]
    found: np.ndarray[Any, np.dtype[np.intp]] = np.where(to_grey < to_cube, 232 + grey, number).astype(np.intp)
    return found


def in_cells(pixels: Pixels, columns: int, rows: int, *, fine: bool, true_colour: bool) -> list[str]:
    """The picture (H, W, 3) in the middle of a white columns x rows cells, each twice as high as wide; as lines.

    Args:
        pixels: of any size and shape.
        columns, rows: cells.
        fine: quarter-blocks, which show twice as many columns, instead of half-blocks.
        true_colour: 24 bits a colour; otherwise xterm's 256.
    """
    scale = min(columns / pixels.shape[1], 2 * rows / pixels.shape[0])
    wide, high = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    across = 2 if fine else 1
    small = Image.fromarray(pixels).resize((across * wide, high), Image.Resampling.LANCZOS)
    ready = on_white(np.asarray(small), across * columns, 2 * rows)
    return (quarters if fine else blocks)(ready, true_colour=true_colour)


def blocks(pixels: Pixels, *, true_colour: bool) -> list[str]:
    """Lines of half-blocks, a cell for two pixels one above the other; H must be even."""
    codes = _codes(pixels, true_colour)
    return [_line(upper, lower, ["▀"] * len(upper)) for upper, lower in zip(codes[::2], codes[1::2], strict=True)]


def quarters(pixels: Pixels, *, true_colour: bool) -> list[str]:
    """Lines of quarter-blocks, a cell for 2 x 2 pixels in the two colours that fit them best; H and W must be even.

    Twice the width of `blocks`: a pixel is half as wide as high. Of the ways to part four pixels in two, the one with
    the least squared distance to the means of its parts is taken.
    """
    high, wide = pixels.shape[0] // 2, pixels.shape[1] // 2
    cells = pixels.reshape(high, 2, wide, 2, 3).swapaxes(1, 2).reshape(high, wide, 4, 3).astype(np.float32)
    lower = np.array([[mask >> bit & 1 for bit in range(4)] for mask in range(8)], np.float32)  # (8, 4); last bit: 0
    parts = np.stack([1 - lower, lower])  # (2, 8, 4): behind, and in front
    counts = np.maximum(parts.sum(-1), 1)
    means = np.einsum("pmk,hwkc->pmhwc", parts, cells) / counts[:, :, None, None, None]
    # the spread around the means is what the pixels' squares exceed the means' by
    kept = (np.square(means).sum(-1) * parts.sum(-1)[:, :, None, None]).sum(0)
    mask = kept.argmax(0)
    behind, front = (np.take_along_axis(side, mask[None, :, :, None], 0)[0] for side in means)
    front = np.where((mask == 0)[:, :, None], behind, front)  # of a flat cell nothing is in front
    before, after = (_codes(np.rint(side).astype(np.uint8), true_colour) for side in (front, behind))
    glyphs = [[_QUARTERS[number] for number in row] for row in mask.tolist()]
    return [_line(*row) for row in zip(before, after, glyphs, strict=True)]


# By the bits of upper left 1, upper right 2, lower left 4; a flat cell is no space, which tmux and others cut off.
_QUARTERS = "▀▘▝▀▖▌▞▛"


def _codes(pixels: Pixels, true_colour: bool) -> list[list[str]]:
    """What follows 38; or 48; for each pixel (H, W, 3)."""
    if true_colour:
        return [[f"2;{r};{g};{b}" for r, g, b in row] for row in pixels.tolist()]
    return [[f"5;{number}" for number in row] for row in nearest_256(pixels).tolist()]


def _line(front: list[str], behind: list[str], glyphs: list[str]) -> str:
    """One line of glyphs; a colour is only told where it changes."""
    made, before = [], ("", "")
    for above, below, glyph in zip(front, behind, glyphs, strict=True):
        told = []
        if above != before[0]:
            told.append(f"38;{above}")
        if below != before[1]:
            told.append(f"48;{below}")
        made.append((f"\x1b[{';'.join(told)}m" if told else "") + glyph)
        before = (above, below)
    return "".join(made) + "\x1b[0m"
