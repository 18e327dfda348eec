"""`bassline play`: you against the network, image by image, in the terminal, a pipe or a browser."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from bassline import console, places
from bassline.predict import Part, count
from shards.errors import ConfigError

if TYPE_CHECKING:
    from bassline.pictures import Protocol
    from bassline.play_table import Table
    from bassline.terminal import Terminal

__all__ = ["play"]

_WEB = "In a browser (--web)"


class Pictures(StrEnum):
    """How pictures are shown in a terminal."""

    AUTO = "auto"
    KITTY = "kitty"
    SIXEL = "sixel"
    QUARTERS = "quarters"
    BLOCKS = "blocks"
    NONE = "none"


def play(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or its best.safetensors alone.")],
    data: Annotated[
        Path,
        typer.Option(parser=places.whole, metavar="SPLIT|SET", help="The split, or a set: folder or address."),
    ],
    part: Part = "test",
    rounds: Annotated[int, typer.Option(min=1, help="Images, fewer if the set has fewer.")] = 100,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Deals the same images in the same order; without, other ones each time.")
    ] = None,
    hard: Annotated[bool, typer.Option("--hard", help="The images the network is least sure of.")] = False,
    same_pixels: Annotated[
        bool, typer.Option("--same-pixels", help="See no more than the network does: its own few pixels.")
    ] = False,
    show: Annotated[
        Pictures, typer.Option("--pictures", help="auto asks the terminal; quarters and blocks are characters.")
    ] = Pictures.AUTO,
    name: Annotated[str | None, typer.Option(help="Yours, among the high scores; $USER without.")] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Of high scores.", show_default="RUN/scores.json, or the user's state folder"
        ),
    ] = None,
    web: Annotated[
        bool, typer.Option("--web", rich_help_panel=_WEB, help="One page served from here, until Ctrl-C.")
    ] = False,
    host: Annotated[str, typer.Option(rich_help_panel=_WEB, help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, rich_help_panel=_WEB, help="Port to serve on; 0 takes a free one.")
    ] = 0,
    json: console.JsonFlag = False,
) -> None:
    """Play against a trained network: label images it has never seen, answer first, and see who is right more often.

    Keys are shown beside each picture; q ends early. In a pipe stdin has an answer a line.

    Example: bassline play demo/run --data demo/split --rounds 20

    Example: yes guitar | bassline play demo/run --data demo/split --seed 1 --json

    Example: bassline play demo/run --data demo/split --web
    """
    from bassline import high_scores

    if web and show is not Pictures.AUTO:
        raise ConfigError("--pictures", show, "is of terminals; a browser shows the images themselves")
    path: Path | None = scores or high_scores.file_for(run, os.environ)
    assert path
    try:
        high_scores.read(path)
    except high_scores.ScoresDamaged as error:
        console.note(f"[yellow]![/] {console.literal(str(error))}; this game will not be kept")
        path = None
    if not data.is_dir():
        raise ConfigError("--data", "", f"{data}: no such folder; give a split or a shard set")

    def lay(chosen: int) -> Table:
        return _laid(run, data, part, rounds, chosen, hard, same_pixels)

    table = lay(_any_seed() if seed is None else seed)
    kept = _Keeper(path, name if name is not None else os.environ.get("USER", "you"))
    if web:
        _in_browser(table, lambda last: lay(_any_seed() if seed is None else last.seed + 1), kept, host, port, json)
    else:
        _in_terminal(table, kept, show, json)


def _any_seed() -> int:
    return int.from_bytes(os.urandom(3))


def _laid(run: Path, data: Path, part: str, rounds: int, chosen: int, hard: bool, same_pixels: bool) -> Table:
    with console.stage("network") as stage:
        stage.update(0, None, "loading torch")
        from bassline.play_table import lay
        from trainer.predict import load

        def tell(done: int, total: int) -> None:
            stage.update(done, total, f"answers {done:,} of {total:,} images")

        table = lay(
            load(run),
            data,
            part,
            rounds=rounds,
            seed=chosen,
            hard=hard,
            same_pixels=same_pixels,
            on_progress=tell,
        )
        stage.summary = f"{console.literal(table.run)} has answered; now you, over {count(len(table.game.questions))}"
    if table.unread:
        console.note(f"[yellow]![/] {count(table.unread)} cannot be read, and not asked")
    if table.part == "train":
        console.note("[yellow]![/] the network was trained on these images: it has seen the answers")
    return table


class _Keeper:
    """Keeps each game among the high scores once."""

    def __init__(self, path: Path | None, name: str) -> None:
        self._path, self._name = path, name
        self._kept: dict[int, dict[str, Any] | None] = {}

    def keep(self, table: Table) -> dict[str, Any] | None:
        """Where the game stands; None if it could not be kept, which is told, or is not to be."""
        if id(table) not in self._kept:
            self._kept[id(table)] = self._keep(table) if self._path else None
        return self._kept[id(table)]

    def _keep(self, table: Table) -> dict[str, Any] | None:
        from bassline import play_end
        from bassline.high_scores import ScoresDamaged

        assert self._path
        try:
            return play_end.keep(table, self._path, self._name)
        except (ScoresDamaged, OSError) as error:
            console.note(f"[yellow]![/] this game was not kept: {console.literal(str(error))}")
            return None


def _in_browser(table: Table, again: Callable[[Table], Table], kept: _Keeper, host: str, port: int, json: bool) -> None:
    from bassline import play_end
    from bassline.play_web import serve

    def ended(game: Table) -> None:
        kept.keep(game)
        console.note(play_end.verdict(game.game.score()))

    last, over = serve(table, again, ended, host, port, json=json)
    _finish(last, kept, pictured=False, interrupted=not over, json=json)


def _in_terminal(table: Table, kept: _Keeper, show: Pictures, json: bool) -> None:
    from bassline.terminal import Terminal

    terminal = Terminal.found(os.environ)
    interrupted = False
    try:
        if terminal is not None:
            _by_keys(table, terminal, show)
        else:
            _by_lines(table, show, json)
    except KeyboardInterrupt:
        interrupted = True
    pictured = terminal is not None and show is not Pictures.NONE
    _finish(table, kept, pictured=pictured, interrupted=interrupted, json=json)


def _by_keys(table: Table, terminal: Terminal, show: Pictures) -> None:
    from bassline import play_terminal

    wanted: dict[Pictures, Protocol | None] = {
        Pictures.AUTO: None,
        Pictures.KITTY: "kitty",
        Pictures.SIXEL: "sixel",
        Pictures.QUARTERS: "quarters",
        Pictures.BLOCKS: "blocks",
        Pictures.NONE: "none",
    }
    play_terminal.play(table, terminal, os.environ, wanted[show])


def _by_lines(table: Table, show: Pictures, json: bool) -> None:
    from bassline import play_lines

    if show in (Pictures.KITTY, Pictures.SIXEL):
        raise ConfigError("--pictures", show, "needs a terminal with keys; in a pipe there are quarters, or none")
    out = sys.stderr if json else sys.stdout
    answers: TextIO = sys.stdin or io.StringIO()  # None where a shell closed it
    if isinstance(answers, io.TextIOWrapper):
        answers.reconfigure(errors="replace")  # bytes that are no UTF-8 are no label either

    def say(line: str) -> None:
        out.write(f"{line}\n")
        out.flush()

    pictured = show in (Pictures.BLOCKS, Pictures.QUARTERS) or (show is Pictures.AUTO and out.isatty())
    play_lines.play(table, answers, say, show=pictured, true_colour=_true_colour())


def _true_colour() -> bool:
    """By the environment alone: the last screen asks nothing."""
    from bassline.terminal import sight_of

    return sight_of("", os.environ).true_colour


def _finish(table: Table, kept: _Keeper, *, pictured: bool, interrupted: bool, json: bool) -> None:
    """Keeps the game among the high scores, shows the last screen, prints the JSON; 130 if it was interrupted."""
    from bassline import play_end

    stands = kept.keep(table)
    out = console.err if json else console.out
    play_end.show(table, stands, out, pictured=pictured and out.is_terminal, true_colour=_true_colour())
    if interrupted and table.game.turns:
        console.note("[yellow]interrupted[/] what was played is kept")
    if json:
        console.emit(play_end.result(table, stands, interrupted=interrupted))
    if interrupted:
        raise typer.Exit(130)
