"""A terminal that is asked and answered key by key, and left as it was found however a game ends."""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import select
import signal
import struct
import sys
import termios
import time
import tty
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

from bassline.pictures import FORGET_KITTY, Protocol

__all__ = ["Sight", "Terminal", "sight_of"]

_ASK = (
    "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"  # kitty's way: may I show a picture?
    "\x1b[48;2;1;2;3m\x1bP$qm\x1b\\\x1b[0m"  # DECRQSS: is a 24-bit colour still one?
    "\x1b[16t"  # a cell's size in pixels
    "\x1b[c"  # what every terminal answers, so that the wait ends; 4 among it is sixel
)
_ANSWERED = re.compile(r"\x1b\[\?([0-9;]*)c")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[_P\]X^][^\x1b]*(?:\x1b\\)?|.)?", re.S)


@dataclass(frozen=True, slots=True)
class Sight:
    """What a terminal can show: by which protocol, in 24-bit colour or 256, and a cell's width and height in pixels."""

    protocol: Protocol
    true_colour: bool
    cell: tuple[int, int]


def sight_of(answer: str, environ: Mapping[str, str], cell: tuple[int, int] | None = None) -> Sight:
    """What a terminal can show, by what it answered to our questions, or else by what the environment says.

    Over ssh the environment has TERM alone, so the answers count more.

    Args:
        answer: all it sent.
        environ: as `os.environ`.
        cell: size of a cell in pixels as the kernel knows it.
    """
    attributes = _ANSWERED.search(answer)
    kinds = attributes[1].split(";") if attributes else []
    protocol: Protocol = "quarters"
    if "\x1b_Gi=31;OK" in answer:
        protocol = "kitty"
    elif "4" in kinds[1:]:  # the first is the terminal's class
        protocol = "sixel"
    asked = re.search(r"48[:;]2[:;]{1,2}1[:;]2[:;]3", answer) is not None
    name = environ.get("TERM", "")
    by_name = environ.get("COLORTERM", "").lower() in ("truecolor", "24bit") or "direct" in name
    by_name = by_name or name.startswith("tmux") or "TMUX" in environ  # it makes of 24 bits what its terminal has
    told = re.search(r"\x1b\[6;(\d+);(\d+)t", answer)
    if told and int(told[1]) and int(told[2]):
        cell = int(told[2]), int(told[1])
    return Sight(protocol, asked or by_name or protocol == "kitty", cell or (8, 16))


class Terminal:
    """A terminal on its alternate screen, keys as they are pressed; use as a context manager.

    SIGTERM and SIGHUP end it as Ctrl-C does, by KeyboardInterrupt, so that it is restored. Ctrl-Z is a key like others:
    a game that is put aside would leave its screen behind.

    Args:
        keys: file descriptor to read from.
        screen: file descriptor to draw on.
    """

    def __init__(self, keys: int, screen: int) -> None:
        self._keys, self._screen = keys, screen
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._pending = ""
        self._before: list[Any] = []
        self._handlers: dict[int, Any] = {}

    @classmethod
    def found(cls, environ: Mapping[str, str]) -> Terminal | None:
        """The terminal a person sits at, drawn on by stderr if stdout goes elsewhere; None where there is none."""
        screen = next((stream.fileno() for stream in (sys.stdout, sys.stderr) if stream and stream.isatty()), None)
        if sys.stdin is None or not sys.stdin.isatty() or screen is None or environ.get("TERM", "dumb") in ("dumb", ""):
            return None
        return cls(sys.stdin.fileno(), screen)

    def __enter__(self) -> Terminal:
        self._before = termios.tcgetattr(self._keys)
        # SIGINT too: whoever was started in the background of a script ignores it, and then Ctrl-C would do nothing
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, _interrupted)
        try:
            tty.setcbreak(self._keys, termios.TCSANOW)
            mode = termios.tcgetattr(self._keys)
            mode[6][termios.VSUSP] = os.fpathconf(self._keys, "PC_VDISABLE").to_bytes(1, "little")
            termios.tcsetattr(self._keys, termios.TCSANOW, mode)
            self.write("\x1b[?1049h\x1b[?25l\x1b[2J")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError, termios.error):  # a terminal that is gone needs no restoring
            self.write(f"{FORGET_KITTY}\x1b[0m\x1b[2J\x1b[?25h\x1b[?1049l")
            termios.tcsetattr(self._keys, termios.TCSAFLUSH, self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        try:
            columns, rows = os.get_terminal_size(self._screen)
        except OSError:
            columns, rows = 0, 0
        return columns or 80, rows or 24

    def write(self, text: str) -> None:
        """Writes all of it."""
        data = text.encode()
        while data:
            data = data[os.write(self._screen, data) :]

    def ask_sight(self, environ: Mapping[str, str], wait_s: float = 1.0) -> Sight:
        """Asks the terminal what it can show; waits so long at most, which ssh to far away needs."""
        self.write(_ASK)
        answer, until = "", time.monotonic() + wait_s
        while not _ANSWERED.search(answer) and (left := until - time.monotonic()) > 0:
            answer += self._read(left)
        self.write("\r\x1b[2J\x1b[H")  # what an old terminal may have printed of the questions
        return sight_of(answer, environ, self._cell())

    def key(self, wait_s: float) -> str | None:
        """The next key, "\\n" for Enter, "\\x7f" for Backspace; None if there is none so soon.

        Arrows, pastes' brackets and late answers of the terminal are passed over.
        """
        until = time.monotonic() + wait_s
        while True:
            while self._pending:
                if self._pending[0] == "\x1b":
                    escape = _ESCAPE.match(self._pending)
                    assert escape
                    if escape.end() == len(self._pending) and (more := self._read(0.05)):
                        self._pending += more  # over ssh an arrow may come in two pieces, and its "A" is no answer
                        continue
                    self._pending = self._pending[escape.end() :]
                    continue
                first, self._pending = self._pending[0], self._pending[1:]
                return "\n" if first == "\r" else first
            if (left := until - time.monotonic()) <= 0:
                return None
            self._pending += self._read(left)

    def forget_keys(self) -> None:
        """Drops what was typed before now."""
        self._pending = ""
        termios.tcflush(self._keys, termios.TCIFLUSH)

    def _read(self, wait_s: float) -> str:
        if not select.select([self._keys], [], [], wait_s)[0]:
            return ""
        data = b""
        with suppress(OSError):
            data = os.read(self._keys, 4096)
        if not data:
            raise KeyboardInterrupt  # the terminal hung up: what was played is still to be kept
        return self._decode(data)

    def _cell(self) -> tuple[int, int] | None:
        try:
            high, wide, x, y = struct.unpack("HHHH", fcntl.ioctl(self._screen, termios.TIOCGWINSZ, bytes(8)))
        except OSError:
            return None
        return (x // wide, y // high) if wide and high and x >= wide and y >= high else None


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
