"""`bassline bench compare`: faster, slower or cannot tell."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from bassline import console

if TYPE_CHECKING:
    from bench.compare import Comparison

__all__ = ["compare"]

_STYLE = {"faster": "green", "slower": "red", "cannot tell": "dim", "": "dim"}


@console.command
def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD.json", help="The record that is the measure.")],
    new: Annotated[Path, typer.Argument(metavar="NEW.json", help="The record that is judged.")],
    json: console.JsonFlag = False,
) -> None:
    """Say of each measurement of two records whether it is faster, slower, or cannot be told; exit 1 if one is slower.

    A difference counts beyond max(2 %, noise floor); `bench stalls --aa` measures that floor and keeps it in the
    record. Records of two machines, or of two different tasks, are shown without a verdict.

    Example: bassline bench compare before.json after.json
    """
    from bench import compare as comparing
    from bench.record import read_record

    found = comparing.compare(read_record(old), read_record(new))
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
        "measurement", "unit", "old", "new", "slowdown", "95 %", "beyond", "",
        right=("old", "new", "slowdown", "95 %", "beyond"),
    )  # fmt: skip
    for row in found.rows:
        interval = "-" if row.low is None or row.high is None else f"{row.low:.2f} to {row.high:.2f}"
        made.add_row(
            row.name, row.unit, f"{row.old:,.4g}" if row.old < 100 else f"{row.old:,.0f}",
            f"{row.new:,.4g}" if row.new < 100 else f"{row.new:,.0f}", f"{row.slowdown:.2f}", interval,
            f"{row.threshold:.0%}", f"[{_STYLE[row.verdict]}]{row.verdict or '-'}[/]",
        )  # fmt: skip
    return made


def _notes(found: Comparison) -> list[str]:
    """What else is to be known."""
    notes = []
    if found.differing:
        notes.append(f"\nno verdict: the records differ in {console.literal('; '.join(found.differing))}")
    elif not found.noise_known:
        notes.append("\nneither record has A/A runs (--aa): the noise floor is not known, 2 % is taken")
    for which, names in (("old", found.only_old), ("new", found.only_new)):
        if names:
            notes.append(f"only in the {which} record: {', '.join(names)}")
    if found.regressed:
        notes.append(f"\n[red]slower:[/] {', '.join(found.regressed)}")
    return notes
