"""The game by keys: one picture at a time, the person answers first, then the network's answer and the truth."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from bassline.pictures import Protocol
from bassline.play_screen import Line, Pixels, drawn, question_lines, told_lines
from bassline.play_table import Table
from bassline.terminal import Sight, Terminal
from trainer.game import QUIT, Turn, keys_for, meant

__all__ = ["play"]

_LOOK_S = 0.25  # how often the terminal's size is looked at


def play(table: Table, terminal: Terminal, environ: Mapping[str, str], wanted: Protocol | None) -> None:
    """Plays until the last image or `q`; the game keeps what was answered, also where Ctrl-C ends it.

    Args:
        table: laid for the game.
        terminal: not yet entered.
        environ: as `os.environ`.
        wanted: how pictures are shown; None for the best that the terminal says it can.

    Raises:
        KeyboardInterrupt: Ctrl-C, SIGTERM, or the terminal was closed.
    """
    game = table.game
    with terminal:
        sight = terminal.ask_sight(environ)
        if wanted is not None:
            sight = replace(sight, protocol=wanted)
        while (question := game.question) is not None:
            pixels = table.pixels(question)
            answer = _ask(table, terminal, sight, pixels)
            if answer is None:
                return
            if not _tell(table, terminal, sight, pixels, game.answer(*answer)):
                return


def _ask(table: Table, terminal: Terminal, sight: Sight, pixels: Pixels) -> tuple[int, float] | None:
    """The label and the seconds it took; None for `q`."""
    game = table.game
    keys = {key: place for place, own in enumerate(keys_for(game.labels)) for key in own}
    typed, hint = "", ""
    screen = _Screen(terminal, sight, pixels)
    terminal.forget_keys()  # an answer is to a picture that was seen
    screen.draw(question_lines(game, typed))
    began = time.monotonic()
    while True:
        key = screen.key()
        if key == QUIT:
            return None
        if key in keys:
            return keys[key], time.monotonic() - began
        label: int | None = None
        hint = ""
        if key == "\n" and typed:
            label = meant(game.labels, typed)
            hint, typed = f"{typed} is no label's number", ""
        elif key in ("\x7f", "\b"):
            typed = typed[:-1]
        elif key.isdigit() and len(game.labels) > 9:
            typed = f"{typed}{key}"[-4:]
        else:
            hint = f"{key!r} is no label's key" if key.isprintable() else ""
        if label is not None:
            return label, time.monotonic() - began
        screen.write(question_lines(game, typed, hint))


def _tell(table: Table, terminal: Terminal, sight: Sight, pixels: Pixels, turn: Turn) -> bool:
    """Shows how a turn went until a key; whether the game goes on."""
    screen = _Screen(terminal, sight, pixels)
    terminal.forget_keys()
    screen.draw(told_lines(table.game, turn, table.title(turn.question)))
    return screen.key() != QUIT


class _Screen:
    """A picture with lines beside it, drawn again when the terminal's size changes."""

    def __init__(self, terminal: Terminal, sight: Sight, pixels: Pixels) -> None:
        self._terminal, self._sight, self._pixels = terminal, sight, pixels
        self._lines: list[Line] = []
        self._size = terminal.size

    def draw(self, lines: list[Line]) -> None:
        """Draws all of it."""
        self._lines, self._size = lines, self._terminal.size
        self._terminal.write(drawn(self._pixels, lines, *self._size, self._sight))

    def write(self, lines: list[Line]) -> None:
        """Draws again if other lines are to stand there."""
        if lines != self._lines:
            self.draw(lines)

    def key(self) -> str:
        """The next key, waited for as long as it takes; letters in lower case."""
        while (key := self._terminal.key(_LOOK_S)) is None:
            if self._terminal.size != self._size:
                self.draw(self._lines)
        return key.lower()
