"""`bassline bench stalls`: which stage holds a run back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bassline import console, places
from bassline.bench_options import check_out

__all__ = ["for_report", "run_stalls", "stalls"]


def run_stalls(
    run_file: Path, data: Path, out: Path | None, overrides: list[str], *, rounds: int = 6, seconds: float = 0.4
) -> dict[str, Any]:
    """Measures a run's stages with a progress line; returns the record."""
    from trainer.config import load_run

    config = load_run(run_file, overrides)
    with console.stage("bench") as stage:
        stage.update(0, None, "loading torch")
        from bench.record import write_record
        from bench.stalls import find_stalls

        record = find_stalls(
            config,
            data,
            rounds=rounds,
            seconds=seconds,
            on_progress=lambda done, total, name: stage.update(done, total, name),
        )
        if out is not None:
            write_record(record, out)
        ratio = record.ratios["epochs/step"]
        stage.summary = (
            f"epochs run at {ratio['median']:.0%} of the bare step; {record.verdict and record.verdict['name']}"
        )
    return record.to_json()


def for_report(record: dict[str, Any]) -> dict[str, Any]:
    """A stalls record as the report page draws it."""
    settings = record["settings"]
    return {
        "sentence": record["verdict"]["sentence"],
        "rates": [(name, measured["median"]) for name, measured in record["measurements"].items()],
        "note": f"Each stage alone, and whole epochs, in images/s: medians of {settings['rounds']} rounds of "
        f"{settings['seconds']:g} s, in turns. Decoder {settings['decoder']}, {settings['mode']} set, "
        f"{settings['executor']} {settings['precision']} step, batches of {settings['batch']}.",
    }


@console.command
def stalls(
    run_file: Annotated[Path, typer.Argument(metavar="RUN.toml", help="The run file.")],
    data: Annotated[Path, typer.Option(parser=places.whole, metavar="PARTS", help="The split the run trains on.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the run file.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements a stage; a verdict needs 5.")] = 6,
    seconds: Annotated[float, typer.Option(min=0.01, help="Of each measurement.")] = 0.4,
    out: Annotated[Path | None, typer.Option(help="Write the record here.")] = None,
    json: console.JsonFlag = False,
) -> None:
    """Measure a run's stages alone against its epochs, and say which one holds it back.

    Example: bassline bench stalls battery/demo.toml --data demo/split
    """
    check_out(out)
    record = run_stalls(run_file, data, out, overrides or [], rounds=rounds, seconds=seconds)
    if json:
        console.emit(record)
        return
    made = console.table(
        "Rates of each stage alone, and of epochs", "stage", "images/s", "95 %", right=("images/s", "95 %")
    )
    for name, measured in record["measurements"].items():
        low, high = measured["ci95"]
        interval = "-" if low is None else f"{low:,.0f} to {high:,.0f}"
        made.add_row(name, f"{measured['median']:,.0f}", interval)
    console.out.print(made)
    console.out.print(f"\n{record['verdict']['sentence']}")
