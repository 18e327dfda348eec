"""What a game looks like on a terminal of any size: where the picture goes, what is written beside it. Draws text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.cells import cell_len, set_cell_size

from bassline import pictures
from bassline.console import plain
from bassline.terminal import Sight
from trainer.game import Game, Turn, keys_for

__all__ = ["Layout", "arranged", "drawn", "question_lines", "told_lines", "wrapped"]

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Line = tuple[str, str]
"""A text and the SGR codes it is written in, "" for none."""

_TEXT = 30  # columns beside the picture
_ROWS = 13  # of labels, a row each: what 24 rows hold with the rest; of more, several share a row
_DIM, _BOLD, _GOOD, _BAD = "2", "1", "32", "31"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things go, in cells from 0: the picture's width and height at the top left, and the text's place."""

    picture: tuple[int, int]
    text: tuple[int, int]
    text_width: int
    text_rows: int


def arranged(columns: int, rows: int, lines: int) -> Layout:
    """The largest square picture (a cell is twice as high as wide) with the text beside it or below.

    Args:
        columns, rows: of the terminal; the last row stays free, since what is drawn there may scroll.
        lines: that the text wants.
    """
    high = max(1, rows - 1)
    beside = min((columns - _TEXT - 2) // 2, high)
    below = min(columns // 2, high - lines)
    if max(beside, below) < 4:  # no room for both: a small picture, and as much text as there is
        side = max(1, min(columns // 2, high // 2))
        return Layout((2 * side, side), (0, side), columns, max(0, high - side))
    if beside >= below:
        return Layout((2 * beside, beside), (2 * beside + 2, 0), columns - 2 * beside - 2, high)
    return Layout((2 * below, below), (0, below), columns, high - below)


def drawn(pixels: Pixels, lines: Sequence[Line], columns: int, rows: int, sight: Sight) -> str:
    """A whole screen."""
    layout = arranged(columns, rows, len(lines))
    wide, high = layout.picture
    made = ["\x1b[0m", pictures.FORGET_KITTY if sight.protocol == "kitty" else "", "\x1b[2J\x1b[H"]
    if sight.protocol in ("quarters", "blocks"):
        fine = sight.protocol == "quarters"
        lines_of = pictures.in_cells(pixels, wide, high, fine=fine, true_colour=sight.true_colour)
        for row, line in enumerate(lines_of, 1):
            made.append(f"\x1b[{row};1H{line}")
    elif sight.protocol == "kitty":
        cells = _cells(pixels, wide, high, sight.cell)
        made.append(pictures.kitty(pixels, *cells))
    elif sight.protocol == "sixel":
        # a whole number of bands, so that the last does not reach into a row below
        room = max(6, high * sight.cell[1] // 6 * 6)
        made.append(pictures.sixel(pictures.fitted(pixels, wide * sight.cell[0], room)))
    x, y = layout.text
    for row, (text, style) in enumerate(lines[: layout.text_rows], y + 1):
        shown = set_cell_size(text, min(cell_len(text), layout.text_width))
        made.append(f"\x1b[{row};{x + 1}H\x1b[{style}m{shown}\x1b[0m")
    return "".join(made)


def _cells(pixels: Pixels, wide: int, high: int, cell: tuple[int, int]) -> tuple[int, int]:
    """Columns and rows that keep the picture's shape, within wide x high, by the cell's pixels."""
    scale = min(wide * cell[0] / pixels.shape[1], high * cell[1] / pixels.shape[0])
    columns, rows = (round(pixels.shape[1] * scale / cell[0]), round(pixels.shape[0] * scale / cell[1]))
    return min(max(columns, 1), wide), min(max(rows, 1), high)


def wrapped(words: Sequence[str], width: int) -> list[str]:
    """Words in lines of so many cells."""
    lines: list[str] = []
    for word in words:
        if lines and cell_len(f"{lines[-1]}  {word}") <= width:
            lines[-1] += f"  {word}"
        else:
            lines.append(word)
    return lines


def _standing(game: Game, shown: int) -> list[Line]:
    score = game.score()
    of = f" of {score.images}" if score.images else ""
    return [
        (f"image {shown} of {len(game.questions)}", _BOLD),
        (f"you {score.person}{of}   network {score.network}{of}", ""),
        ("", ""),
    ]


def question_lines(game: Game, typed: str, hint: str = "") -> list[Line]:
    """Beside a picture that waits for its answer: standing, labels with their keys, what was typed so far."""
    keys = keys_for(game.labels)
    names = [plain(label) for label in game.labels]
    if len(names) <= 9:
        choices = [" ".join(f"[{key}]" for key in keys[place]) + f" {name}" for place, name in enumerate(names)]
        lines = [(choice, "") for choice in choices]
        end = ("q ends the game", _DIM)
    else:
        words = [
            f"{place}{'/' + keys[place - 1][0] if keys[place - 1] else ''} {name}"
            for place, name in enumerate(names, 1)
        ]
        rows = words if len(words) <= _ROWS else wrapped(words, _TEXT)
        lines = [(line, "") for line in rows]
        lines += [("", ""), (f"number: {typed}_", _BOLD)]
        end = ("a number and Enter, or a letter; q ends", _DIM)
    told = [(hint, _BAD)] if hint else []
    return [*_standing(game, len(game.turns) + 1), *lines, ("", ""), *told, end]


def told_lines(game: Game, turn: Turn, title: str) -> list[Line]:
    """Beside a picture that was answered: both answers, the truth, what the image is."""
    names = [plain(label) for label in game.labels]
    question = turn.question

    def said(who: str, label: int, right: bool, more: str = "") -> Line:
        return f"{who:<8} {names[label]}{more} {'✓' if right else '✗'}", _GOOD if right else _BAD

    certain = f" {question.certainty:.1%}"
    told: list[Line] = [
        said("you", turn.person, turn.person_right),
        said("network", question.network, turn.network_right, certain),
        (f"{'truth':<8} {names[question.truth]}", _BOLD),
        ("", ""),
    ]
    about = [(line, _DIM) for text in (title, question.key) for line in textwrap.wrap(plain(text), _TEXT)]
    last = "any key shows who won" if game.finished else "any key goes on"
    return [*_standing(game, len(game.turns)), *told, *about, ("", ""), (f"{last}, q ends the game", _DIM)]
