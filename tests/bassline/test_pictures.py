"""Pictures for terminals, read back by decoders of the tests' own, and what a terminal's answers mean."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from rich.cells import cell_len

from bassline import pictures
from bassline.play_screen import arranged, drawn
from bassline.terminal import Sight, sight_of

Pixels = NDArray[np.uint8]
SIDES = st.integers(1, 40)
_QUARTERS = dict(zip("▘▝▀▖▌▞▛", range(1, 8), strict=True))


def noise(height: int, width: int, seed: int, colours: int = 0) -> Pixels:
    rng = np.random.default_rng(seed)
    if not colours:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    percent = rng.integers(0, 101, (colours, 3))  # what a sixel can say exactly
    return np.rint(percent * 2.55).astype(np.uint8)[rng.integers(0, colours, (height, width))]


def read_kitty(text: str) -> tuple[Pixels, dict[str, str]]:
    data, keys = "", {}
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert "".join(f"\x1b_G{a};{b}\x1b\\" for a, b in parts) == text
    for place, (said, piece) in enumerate(parts):
        told = dict(pair.split("=") for pair in said.split(","))
        assert len(piece) <= 4096
        assert told["m"] == str(int(place < len(parts) - 1))
        keys = keys or told
        data += piece
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")), keys


def read_sixel(text: str) -> NDArray[np.int64]:
    """Colours in percent, (H, W, 3); -1 where nothing was drawn."""
    head = re.match(r'\x1bP0;1;0q"1;1;(\d+);(\d+)', text)
    assert head
    assert text.endswith("\x1b\\")
    width, height = int(head[1]), int(head[2])
    out = np.full((-(-height // 6) * 6, width, 3), -1, np.int64)
    palette: dict[int, tuple[int, ...]] = {}
    x = band = colour = 0
    for token in re.finditer(r"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)([?-~])|([?-~])|(\$)|(-)", text[head.end() : -2]):
        if token[1]:
            colour = int(token[1])
            if token[2]:
                palette[colour] = (int(token[2]), int(token[3]), int(token[4]))
        elif token[8]:
            x = 0
        elif token[9]:
            x, band = 0, band + 1
        else:
            count, bits = (int(token[5]), ord(token[6])) if token[5] else (1, ord(token[7]))
            for bit in range(6):
                if (bits - 63) >> bit & 1:
                    assert (out[band * 6 + bit, x : x + count] == -1).all()  # each pixel once
                    out[band * 6 + bit, x : x + count] = palette[colour]
            x += count
    assert (out[height:] == -1).all()
    return out[:height]


def read_cells(lines: list[str]) -> list[list[tuple[str, str, str]]]:
    """Of each cell: glyph, colour in front and behind, as codes."""
    rows = []
    for line in lines:
        front = behind = ""
        row = []
        for codes, glyph in re.findall(r"\x1b\[([0-9;]*)m|(.)", line):
            if glyph:
                row.append((glyph, front, behind))
                continue
            for ground, colour in re.findall(r"(38|48);(2;\d+;\d+;\d+|5;\d+)", codes):
                front, behind = (colour, behind) if ground == "38" else (front, colour)
        rows.append(row)
        assert line.endswith("\x1b[0m")
    return rows


@settings(max_examples=30)
@given(SIDES, SIDES, st.integers(0, 99))
def test_kitty_shows_the_same_pixels(height: int, width: int, seed: int) -> None:
    pixels = noise(height, width, seed)
    found, keys = read_kitty(pictures.kitty(pixels, 20, 10))
    assert (found == pixels).all()
    assert (keys["a"], keys["f"], keys["c"], keys["r"], keys["C"]) == ("T", "100", "20", "10", "1")


def test_kitty_cuts_long_pictures_into_chunks() -> None:
    pixels = noise(100, 100, 1)
    text = pictures.kitty(pixels, 20, 10)
    assert text.count("\x1b_G") > 5
    assert (read_kitty(text)[0] == pixels).all()


@settings(max_examples=30)
@given(SIDES, SIDES, st.integers(1, 256), st.integers(0, 99))
def test_sixel_shows_the_same_pixels(height: int, width: int, colours: int, seed: int) -> None:
    pixels = noise(height, width, seed, colours)
    assert (read_sixel(pictures.sixel(pixels)) == np.rint(pixels / 2.55)).all()


def test_sixel_of_a_photograph_is_near_it_in_256_colours() -> None:
    y, x = np.mgrid[0:90, 0:120]
    pixels = np.stack([x * 2, y * 2, 255 - x], -1).astype(np.uint8)
    text = pictures.sixel(pixels)
    assert 2 < len(re.findall(r"#\d+;2;", text)) <= 256
    assert np.abs(read_sixel(text) * 2.55 - pixels).mean() < 5


@settings(max_examples=30)
@given(st.integers(1, 20), SIDES, st.integers(0, 99))
def test_half_blocks_show_the_same_pixels(rows: int, width: int, seed: int) -> None:
    pixels = noise(2 * rows, width, seed)
    for y, row in enumerate(read_cells(pictures.blocks(pixels, true_colour=True))):
        assert len(row) == width
        for x, (glyph, front, behind) in enumerate(row):
            assert glyph == "▀"
            assert front == "2;" + ";".join(map(str, pixels[2 * y, x]))
            assert behind == "2;" + ";".join(map(str, pixels[2 * y + 1, x]))


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_quarter_blocks_of_two_colours_a_cell_show_the_same_pixels(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    two = rng.integers(0, 256, (rows, columns, 2, 3), dtype=np.uint8)
    which = rng.integers(0, 2, (2 * rows, 2 * columns))
    y, x = np.mgrid[0 : 2 * rows, 0 : 2 * columns]
    pixels = two[y // 2, x // 2, which]
    found = np.zeros_like(pixels)
    for row, cells in enumerate(read_cells(pictures.quarters(pixels, true_colour=True))):
        for column, (glyph, front, behind) in enumerate(cells):
            for bit in range(4):
                code = front if _QUARTERS[glyph] >> bit & 1 else behind
                found[2 * row + bit // 2, 2 * column + bit % 2] = [int(level) for level in code.split(";")[1:]]
    assert (found == pixels).all()


def test_the_nearest_of_256_colours_is_the_nearest() -> None:
    levels = [0, 95, 135, 175, 215, 255]
    table = [(r, g, b) for r in levels for g in levels for b in levels] + [(v, v, v) for v in range(8, 239, 10)]
    pixels = noise(40, 40, 3)
    distance = np.square(pixels[:, :, None].astype(int) - np.array(table)).sum(-1)
    found = pictures.nearest_256(pixels)
    chosen = np.take_along_axis(distance, found[:, :, None] - 16, 2)[:, :, 0]
    assert (chosen == distance.min(-1)).all()


@settings(max_examples=30)
@given(SIDES, SIDES, st.integers(1, 60), st.integers(1, 30), st.booleans(), st.booleans())
def test_a_picture_fills_the_cells_it_is_given(
    height: int, width: int, columns: int, rows: int, fine: bool, true_colour: bool
) -> None:
    pixels = noise(height, width, 0)
    cells = read_cells(pictures.in_cells(pixels, columns, rows, fine=fine, true_colour=true_colour))
    assert [len(row) for row in cells] == [columns] * rows


@pytest.mark.parametrize(
    ("answer", "environ", "expected"),
    [
        ("\x1b_Gi=31;OK\x1b\\\x1bP1$r0;48:2::1:2:3m\x1b\\\x1b[6;20;10t\x1b[?62;c", {}, ("kitty", True, (10, 20))),
        ("\x1b[6;18;9t\x1b[?62;4;22c", {"TERM": "xterm-256color"}, ("sixel", False, (9, 18))),
        ("\x1bP1$r48;2;1;2;3m\x1b\\\x1b[?64;1;2c", {}, ("quarters", True, (8, 16))),
        ("\x1b_Gi=31;EINVAL\x1b\\\x1b[?1;2c", {"COLORTERM": "truecolor"}, ("quarters", True, (8, 16))),
        ("\x1b[?4;2c", {"TERM": "linux"}, ("quarters", False, (8, 16))),  # a first 4 is a class, not sixel
        ("", {"TERM": "screen-256color", "TMUX": "/tmp/x"}, ("quarters", True, (8, 16))),
        ("", {}, ("quarters", False, (8, 16))),
    ],
)
def test_what_a_terminal_can_show(answer: str, environ: dict[str, str], expected: tuple[object, ...]) -> None:
    sight = sight_of(answer, environ)
    assert (sight.protocol, sight.true_colour, sight.cell) == expected


@settings(max_examples=30)
@given(st.integers(1, 300), st.integers(1, 100), st.integers(0, 40))
def test_picture_and_text_fit_every_terminal(columns: int, rows: int, lines: int) -> None:
    layout = arranged(columns, rows, lines)
    wide, high = layout.picture
    x, y = layout.text
    assert 1 <= high <= max(1, rows - 1)
    assert wide == 2 * high
    assert x + layout.text_width <= max(columns, 2)
    assert x >= wide or y >= high
    assert y + layout.text_rows <= max(rows - 1, 1)


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (40, 60), (200, 50)])
def test_nothing_is_drawn_over_or_beyond(size: tuple[int, int]) -> None:
    lines = [("x" * 500, "1"), ("ü" * 10, "")] * 4
    text = drawn(noise(150, 150, 1), lines, *size, Sight("blocks", True, (8, 16)))
    layout = arranged(*size, len(lines))
    assert layout.picture[1] >= 16  # a person can judge 32 pixels and more
    for row, column, rest in re.findall(r"\x1b\[(\d+);(\d+)H([^\n]*?)(?=\x1b\[\d+;\d+H|$)", text):
        shown = re.sub(r"\x1b\[[0-9;]*m", "", rest)
        assert int(row) < size[1]
        assert int(column) - 1 + cell_len(shown) <= size[0]


def test_every_protocol_stays_in_its_cells() -> None:
    pixels = noise(150, 100, 1, colours=1)
    pixels[40:80, 30:60] = 0
    lines = [("text", "")] * 8
    wide, high = arranged(100, 30, 8).picture
    shown, keys = read_kitty(
        re.findall(r"\x1b_Ga=T.*\x1b\\", drawn(pixels, lines, 100, 30, Sight("kitty", True, (9, 18))))[0]
    )
    assert (shown == pixels).all()
    assert int(keys["c"]) <= wide
    assert int(keys["r"]) <= high
    assert int(keys["c"]) * 9 / (int(keys["r"]) * 18) == pytest.approx(100 / 150, abs=0.05)
    text = drawn(pixels, lines, 100, 30, Sight("sixel", True, (9, 18)))
    found = read_sixel(re.findall(r"\x1bP0;1;0q.*?\x1b\\", text)[0])
    assert found.shape[0] <= high * 18
    assert found.shape[1] <= wide * 9
    assert found.shape[1] / found.shape[0] == pytest.approx(100 / 150, abs=0.02)
    nothing = drawn(pixels, lines, 100, 30, Sight("none", True, (9, 18)))
    assert "text" in nothing
    assert "▀" not in nothing
