"""`bassline bench compare`: faster, slower or cannot tell."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from bassline import console

if TYPE_CHECKING:
    from bench.compare import Compared, Comparison

__all__ = ["compare"]

_STYLE = {"faster": "green", "slower": "red", "cannot tell": "dim", "": "dim"}


@console.short_command
def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD.json", help="The record that is the measure.")],
    new: Annotated[Path, typer.Argument(metavar="NEW.json", help="The record that is judged.")],
    noise: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="How far two measurements of the same thing lie apart on this machine, such as 0.1: judges rates and "
            "times that have no A/A runs.",
        ),
    ] = None,
    json: console.JsonFlag = False,
) -> None:
    """Say of each measurement of two records whether it is faster, slower, or cannot be told; exit 1 if one is slower.

    Ours is judged by its ratio to a peer or a ceiling of the same run, beyond 5 %. A rate or a time alone is judged
    only where its noise is known, beyond max(2 %, noise): `bench stalls --aa` measures it and keeps it in the record,
    --noise gives it. Others' own rates are never judged, nor is anything held against a peer of another version.
    Records of two machines, or of two different tasks, are shown without a verdict.

    Example: bassline bench compare before.json after.json
    """
    from bench import compare as comparing
    from bench.record import read_record

    found = comparing.compare(read_record(old), read_record(new), noise=noise)
    if json:
        console.emit({**asdict(found), "regressed": list(found.regressed)})
    else:
        console.out.print(_table(found))
        for line in _notes(found):
            console.out.print(line, soft_wrap=True)
    if found.regressed:
        raise typer.Exit(1)


def _table(found: Comparison) -> Table:
    made = console.table(
        "New against old: time for the same work, 1.10 is a tenth slower",
        "measurement", "old", "new", "slowdown", "95 %", "verdict",
        right=("old", "new", "slowdown", "95 %"),
    )  # fmt: skip
    for row in found.rows:
        interval = "-" if row.low is None or row.high is None else f"{row.low:.2f} to {row.high:.2f}"
        unit = f", {row.unit}" if row.unit != "ratio" else ""
        made.add_row(
            console.literal(row.name + unit), _number(row.old), _number(row.new), f"{row.slowdown:.2f}", interval,
            f"[{_STYLE[row.verdict]}]{_said(row)}[/]",
        )  # fmt: skip
    return made


def _said(row: Compared) -> str:
    """The verdict in a few words; what cannot be told by its reason."""
    if row.why == "within the noise" and row.threshold is not None:
        return f"within {row.threshold:.0%}"
    return row.why or row.verdict or "-"


def _number(value: float) -> str:
    return f"{value:,.4g}" if value < 100 else f"{value:,.0f}"


def _notes(found: Comparison) -> list[str]:
    """What else is to be known."""
    notes = []
    if found.differing:
        notes.append(f"\nno verdict: the records differ in {console.literal('; '.join(found.differing))}")
    elif any(row.verdict == "cannot tell" for row in found.rows):
        notes.append(
            "\nwithin its noise, without A/A runs (bench stalls --aa, or --noise) or with too few repeats: cannot tell"
        )
    if found.peers:
        notes.append(f"nothing is held against peers of another version: {console.literal('; '.join(found.peers))}")
    for which, names in (("old", found.only_old), ("new", found.only_new)):
        if names:
            notes.append(f"only in the {which} record: {console.literal(', '.join(names))}")
    if found.regressed:
        notes.append(f"\n[red]slower:[/] {console.literal(', '.join(found.regressed))}")
    return notes
