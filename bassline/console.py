"""What a person sees: one line a stage, tables, one JSON object for programs. Progress: stderr; results: stdout."""

from __future__ import annotations

import errno
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bassline import places
from shards.errors import BasslineError

__all__ = [
    "INTERRUPTED",
    "STOPPED",
    "JsonFlag",
    "Stage",
    "amount",
    "command",
    "emit",
    "err",
    "literal",
    "note",
    "out",
    "plain",
    "seconds",
    "seconds_table",
    "short_command",
    "stage",
    "stage_line",
    "table",
]

out = Console(highlight=False, emoji=False)  # ":x:" in a text is a text
err = Console(stderr=True, highlight=False, emoji=False)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]

INTERRUPTED = "[yellow]interrupted[/] the state is kept; run the same command again to go on"
STOPPED = "[yellow]interrupted[/] nothing half-written is left; run the same command again to begin anew"

DEBUG = False
"""Set by `--debug` anywhere on the command line: unexpected errors then show their traceback."""

Command = TypeVar("Command", bound=Callable[..., Any])


def command(function: Command) -> Command:
    """Turns every way a command can end early into one line on stderr and the exit code of DESIGN section 5."""
    return _guarded(function, INTERRUPTED)


def short_command(function: Command) -> Command:
    """`command` for what begins anew after an interrupt."""
    return _guarded(function, STOPPED)


def _guarded(function: Command, interrupted: str) -> Command:
    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            with places.resolved(kwargs, stage) as arguments:
                return function(*args, **arguments)
        except typer.Exit:
            raise
        except BasslineError as error:
            err.print(f"[bold red]error[/] {literal(places.renamed(str(error)))}", soft_wrap=True)
            code = error.exit_code
        except KeyboardInterrupt:
            err.print(interrupted, soft_wrap=True)
            code = 130
        except BrokenPipeError:
            # The reader of our stdout went away (`| head`): nobody is left to tell.
            sys.stderr.close()
            code = 1
        except OSError as error:
            if DEBUG:
                raise
            err.print(f"[bold red]error[/] {literal(_refused(error, kwargs))}", soft_wrap=True)
            code = 1
        except Exception as error:
            if DEBUG:
                raise
            err.print(
                f"[bold red]error[/] unexpected {type(error).__name__}: {escape(' '.join(str(error).split())[:500])} "
                "(run again with --debug for the traceback, and please report it)",
                soft_wrap=True,
            )
            code = 1
        raise typer.Exit(code)

    return guarded  # type: ignore[return-value]


_REMEDIES = {
    errno.EACCES: "look at its owner and mode (ls -ld), or name another place",
    errno.EPERM: "look at its owner and mode (ls -ld), or name another place",
    errno.EROFS: "name another place",
    errno.ENOSPC: "make room (df -h) and run the same command again, or name another place",
    errno.EDQUOT: "make room and run the same command again, or name another place",
}


def _refused(error: OSError, arguments: dict[str, Any]) -> str:
    """What the system refused, where and what to do. A full disk names no file: then it is where the command writes."""
    place = error.filename or next((arguments[name] for name in ("out", "shards") if arguments.get(name)), "")
    text = error.strerror or str(error)
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{place}: {text}" + (f"; {remedy}" if remedy else "") if place else text


def emit(result: dict[str, Any]) -> None:
    """Prints `result` as one line of JSON on stdout. NaN and infinity, which JSON lacks, are refused."""
    sys.stdout.write(json.dumps(result, allow_nan=False) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line of progress or advice (rich markup) on stderr."""
    err.print(text, soft_wrap=True)


def plain(text: str) -> str:
    """Text from elsewhere as one line that moves no cursor and sets no title: what is not printable becomes "?"."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def literal(text: str) -> str:
    """Text from elsewhere for a line of rich markup: printable, and no markup of its own."""
    return escape(plain(text))


def amount(size: float) -> str:
    """Bytes as a person says them: 812 B, 4.2 kB, 1.3 GB."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        del units[0]
    unit = units[0]
    return f"{size:,.0f} {unit}" if unit == "B" or size >= 99.5 else f"{size:.1f} {unit}"


def seconds(value: float) -> str:
    """A duration as a person says it: 0.42 s, 8.4 s, 3 min 05 s."""
    if value < 9.95:
        return f"{value:.2f} s" if value < 0.995 else f"{value:.1f} s"
    whole = round(value)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60:02d} s"


class Stage:
    """One line of progress: a bar while it runs, a sentence and its seconds once it is done."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.name = name
        self.summary = ""
        self.seconds = 0.0
        self._progress = progress
        self._task = progress.add_task(name, total=None, text="")

    def update(self, done: float, total: float | None, text: str = "") -> None:
        """Moves the bar to `done` of `total` (None: unknown) and shows `text` beside it."""
        self._progress.update(self._task, completed=done, total=total, text=text)


@contextmanager
def stage(name: str) -> Iterator[Stage]:
    """Draws one stage of long work on stderr; set `.summary` before it ends."""
    columns = (
        SpinnerColumn(),
        TextColumn("[bold]{task.description:<8}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
    )
    begun = time.perf_counter()
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        current = Stage(name, progress)
        yield current
    current.seconds = time.perf_counter() - begun
    stage_line(name, current.seconds, current.summary)


def stage_line(name: str, spent_s: float, summary: str) -> None:
    """What is left of a stage of long work: one line on stderr."""
    line = Table.grid(padding=(0, 1), expand=False)
    line.add_column(width=10)
    line.add_column(width=10, justify="right")
    line.add_column(overflow="fold")
    line.add_row(f"[green]✓[/] [bold]{name}[/]", f"[cyan]{seconds(spent_s)}[/]", summary)
    err.print(line)


def table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty results table in the house style; columns named in `right` are right-aligned."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=column in right)
    return made


def seconds_table(title: str, rows: Sequence[tuple[str, float, bool]]) -> Table:
    """Where time went: (name, seconds, whether it is part of the row above), with a bar for the share of the whole."""
    total = sum(spent for _, spent, inner in rows if not inner)
    made = table(title, "stage", "time", "share", "", right=("time", "share"))
    for name, spent, inner in rows:
        share = spent / total if total else 0.0
        bar = ("░" if inner else "█") * round(40 * share)
        style = "dim" if inner else ""
        made.add_row(f"{'  ' * inner}{name}", seconds(spent), f"{share:.1%}", f"[cyan]{bar}[/]", style=style)
    made.add_row("[bold]all[/]", f"[bold]{seconds(total)}[/]", "", "")
    return made
