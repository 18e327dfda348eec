"""`bassline bench planted`: bottlenecks planted on purpose, and how often `bench stalls` names them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bassline import console
from bassline.bench_options import check_out

__all__ = ["planted"]


@console.command
def planted(
    runs: Annotated[int, typer.Option(min=1, help="Of each; a claim needs 20.")] = 20,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="disk, decode, processes, step, copy, shards, collate, balanced or short."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The record, written after every run; the same command goes on with it.")
    ] = None,
    json: console.JsonFlag = False,
) -> None:
    """Count how often `bench stalls` is right about bottlenecks that were planted; exit 1 if one is below 19 of 20.

    Example: bassline bench planted --runs 20 --out planted.json
    """
    check_out(out=out)
    with console.stage("bench") as stage:
        stage.update(0, None, "loading torch")
        from bench.planted import count_planted

        record = count_planted(
            runs, only or (), out, on_progress=lambda done, total, what: stage.update(done, total, what)
        ).to_json()
        stage.summary = f"{runs} runs of each"
    verdict = record["verdict"]
    if json:
        console.emit(record)
    else:
        made = console.table(
            "How often each was named correctly",
            "planted",
            "right",
            "seconds",
            "said when wrong",
            right=("right", "seconds"),
        )
        for name, each in verdict["tally"].items():
            wrong = next((one["sentence"] for one in each["told"] if not one["right"]), "")
            seconds = record["measurements"][name]["median"]
            made.add_row(name, f"{each['right']} of {each['runs']}", f"{seconds:.0f}", console.literal(wrong))
        console.out.print(made)
        console.out.print(f"\n{console.literal(verdict['sentence'])}")
    if verdict["name"] == "MISSED":
        raise typer.Exit(1)
