"""The game by lines: answers from stdin, a line an image, as a pipe or a terminal without a cursor has them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from bassline import pictures
from bassline.console import plain
from bassline.play_table import Table
from trainer.game import QUIT, keys_for, meant

__all__ = ["play"]

_CELLS = 72, 36


def play(table: Table, answers: TextIO, say: Callable[[str], None], *, show: bool, true_colour: bool) -> None:
    """Plays until the last image, `q` or the end of the answers; a line that means no label is asked again.

    Args:
        table: laid for the game.
        answers: a line each: a label's name, its number from 1, its key, or the beginning of one name.
        say: prints a line.
        show: draw the pictures, in quarter-blocks.
        true_colour: in 24 bits a colour.
    """
    game = table.game
    own = [f"{place} {plain(label)}" for place, label in enumerate(game.labels, 1)]
    say(f"answers: {', '.join(own)}; q ends the game")
    while (question := game.question) is not None:
        say(f"image {len(game.turns) + 1} of {len(game.questions)}")
        if show:
            for line in pictures.in_cells(table.pixels(question), *_CELLS, fine=True, true_colour=true_colour):
                say(line)
        began = time.monotonic()
        label = _answer(game.labels, answers, say)
        if label is None:
            return
        turn = game.answer(label, time.monotonic() - began)
        names = [plain(one) for one in game.labels]
        score = game.score()
        say(
            f"  you {names[turn.person]} {'right' if turn.person_right else 'wrong'}, "
            f"network {names[question.network]} {question.certainty:.1%} {'right' if turn.network_right else 'wrong'}, "
            f"truth {names[question.truth]}; you {score.person}, network {score.network} of {score.images}"
        )


def _answer(labels: tuple[str, ...], answers: TextIO, say: Callable[[str], None]) -> int | None:
    """The label that the next line means; None at the end or where a line says so."""
    for line in answers:
        text = line.strip()
        if not text:
            continue
        label = meant(labels, text)
        if label is not None:
            return label
        if text.casefold() in (QUIT, "quit"):
            return None
        keys = ", ".join(sorted({key for own in keys_for(labels) for key in own}))
        say(f"  {plain(text)[:60]!r} is no label; expected a name, a number from 1 to {len(labels)}, or of {keys}")
    return None
