"""`bassline battery`: many runs over one decoded set, one table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bassline import STARTED, console, places
from shards.errors import BasslineError, ConfigError

if TYPE_CHECKING:
    from trainer.battery import Battery, BatteryProgress, Outcome

__all__ = ["battery", "terminal_table"]

_WIDE, _WIDE_ONLY = 150, {"best_epoch", "total_s", "original_total_s", "min_loss"}
TABLES_S = 10.0
"""Least seconds between two writings of the tables while runs end: a page of many curves takes a while."""


class RunsFailed(BasslineError):
    """Some runs could not be done; the others' table is written."""

    def __init__(self, names: Sequence[str], total: int) -> None:
        shown = ", ".join(names[:5]) + (" and more" if len(names) > 5 else "")
        super().__init__(f"{len(names)} of {total} runs failed ({shown}), why is said above and in the table's notes")


def battery(
    file: Annotated[Path, typer.Argument(metavar="BATTERY.toml", help="The battery file.")],
    data: Annotated[
        Path,
        typer.Option(
            parser=places.whole, metavar="PARTS", help="The split: a folder, or an address such as s3://bucket/parts."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Runs and tables; an interrupted battery in it goes on.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key of every run.")
    ] = None,
    only: Annotated[str, typer.Option(metavar="NAME,NAME", help="Only these runs of the file.")] = "",
    jobs: Annotated[
        int, typer.Option(min=1, help="Runs at a time, each in a process of its own; they share out the cores.")
    ] = 1,
    json: console.JsonFlag = False,
) -> None:
    """Train a battery of runs over one decoded set and write one table: battery.txt, .csv, .md and .html.

    What is finished is not run again; a run that goes wrong costs its row. docs/battery.md has the file's keys.

    Example: bassline battery battery/seed.toml --data demo/split --out runs/seed --only T5,T6
    """
    from trainer.battery import load_battery

    names = [name.strip() for name in only.split(",") if name.strip()]
    plan = load_battery(file, overrides or [], names)  # before torch is imported: a typo should answer at once
    cores = len(os.sched_getaffinity(0))
    if jobs > cores:
        raise ConfigError("--jobs", "", f"{jobs} at a time on {cores} cores: at most {cores}, fewer are often faster")
    outcomes = _run(plan, data, out, jobs)
    failed = [each for each in outcomes if each.end.state == "failed"]
    if json:
        console.emit(_told(plan, outcomes, out))
    else:
        console.out.print(terminal_table(plan, outcomes))
        console.out.print(f"\ntables: {out / 'battery.html'} (.txt, .csv, .md)", soft_wrap=True)
    if failed:
        raise RunsFailed([each.entry.name for each in failed], len(outcomes))


def _run(plan: Battery, data: Path, out: Path, jobs: int) -> list[Outcome]:
    import time

    from bassline import battery_page
    from trainer.battery import run_battery

    ended: list[Outcome] = []
    written = time.monotonic()
    with console.stage("battery") as stage:
        stage.update(0, None, "loading torch")

        def show(progress: BatteryProgress) -> None:
            stage.update(_share(progress), progress.total, _text(progress))

        def take(outcome: Outcome) -> None:
            nonlocal written
            ended.append(outcome)
            if not outcome.before:
                console.note(_line(outcome))
            if time.monotonic() - written > TABLES_S:
                battery_page.write_tables(plan, ended, out)
                written = time.monotonic()

        try:
            outcomes = run_battery(plan, data, out, jobs=jobs, started=STARTED, on_progress=show, on_outcome=take)
        except KeyboardInterrupt:
            if ended:
                battery_page.write_tables(plan, ended, out)
            raise
        battery_page.write_tables(plan, outcomes, out)
        before = sum(each.before for each in outcomes)
        stage.summary = f"{len(outcomes) - before} runs" + (f", {before} were finished already" if before else "")
    return outcomes


def _share(progress: BatteryProgress) -> float:
    """Ended runs and the shares of those under way."""
    return progress.ended + sum(each.epoch / max(each.epochs, 1) for each in progress.running.values())


def _text(progress: BatteryProgress) -> str:
    from bassline.train import position

    said = [f"{progress.ended} of {progress.total} runs"]
    if progress.eta_s is not None:
        said.append(f"about {console.seconds(progress.eta_s)} left")
    said += [f"{name}: {position(each)[2]}" for name, each in sorted(progress.running.items())]
    return " · ".join(said)


def _line(outcome: Outcome) -> str:
    from bassline.battery_table import note_of

    result, note = outcome.result, console.literal(note_of(outcome))
    name = f"[bold]{outcome.entry.name:<10}[/]"
    if result is None:
        mark = "[red]✗[/]" if outcome.end.state == "failed" else "[yellow]·[/]"
        return f"{mark} {name} {note}"
    spent = f"[cyan]{console.seconds(result['total_s'])}[/]"
    said = f"best epoch {result['best_epoch']}, test {result['test']['accuracy']:.2%}"
    return f"[green]✓[/] {name} {spent} {said}" + (f" [yellow]{note}[/]" if note else "")


def terminal_table(plan: Battery, outcomes: list[Outcome]) -> Any:
    """The battery's table as a terminal has room for it."""
    from bassline import battery_table

    rows = battery_table.in_order(plan, outcomes)
    wide = console.out.width >= _WIDE
    columns = [
        column
        for column in battery_table.columns_of(plan, outcomes)
        if column.brief and (wide or column.key not in _WIDE_ONLY)
    ]
    heads = [f"{column.group[:4]}. {column.heading}" if column.group else column.heading for column in columns]
    right = tuple(head for head, column in zip(heads, columns, strict=True) if column.key not in ("run", "note"))
    made = console.table(plan.name, *heads, right=right)
    made.columns[0].no_wrap = True
    for each in rows:
        made.add_row(*(console.literal(column.cell(each)) for column in columns))
    return made


def _told(plan: Battery, outcomes: list[Outcome], out: Path) -> dict[str, Any]:
    from bassline import battery_table

    runs = [
        {
            "name": each.entry.name,
            "state": each.end.state,
            "epoch": each.end.epoch,
            "reason": each.end.reason or None,
            "folder": str(each.folder),
            "values": each.entry.trial.values if each.entry.trial else None,
            "original": each.entry.original.model_dump() if each.entry.original else None,
            "result": each.result,
        }
        for each in battery_table.in_order(plan, outcomes)
    ]
    return {"battery": plan.name, "runs": runs, "page": str(out / "battery.html")}
