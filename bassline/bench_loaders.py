"""`bassline bench loaders`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from bassline import console, places
from bassline.bench_options import check_out

__all__ = ["loaders"]


def loader_table(record: dict[str, Any]) -> Table:
    """The loaders of a record, fastest first, ours marked."""
    against = record["settings"]["reference"]
    made = console.table(
        f"Loaders: {record['settings']['samples']:,} samples, {record['settings']['size']} pixels, "
        f"batches of {record['settings']['batch']}, {record['settings']['workers']} workers, warm cache",
        "loader", "images/s", f"x {against}", "first batch", "CPU s/1000", "peak MiB", "what it is",
        right=("images/s", f"x {against}", "first batch", "CPU s/1000", "peak MiB"),
    )  # fmt: skip
    rows = sorted(record["measurements"].items(), key=lambda item: -item[1]["median"])
    for name, measured in rows:
        ratio = record["ratios"][f"{name}/{against}"]
        made.add_row(
            f"[bold]{name}[/]" if measured["ours"] else name,
            f"{measured['median']:,.0f}",
            f"{ratio['median']:.2f}",
            console.seconds(measured["first_batch_s"]),
            f"{measured['cpu_s_per_1000']:.3f}",
            f"{measured['peak_mib']:,.0f}",
            f"[dim]{measured['about']}[/]",
        )
    return made


@console.command
def loaders(
    shards: Annotated[Path, typer.Argument(metavar="SET", parser=places.whole, help="The shard set to read.")],
    only: Annotated[list[str] | None, typer.Option(help="Measure only this loader; repeat for more.")] = None,
    size: Annotated[int, typer.Option(min=1, help="Pixels a side.")] = 150,
    batch: Annotated[int, typer.Option(min=1, help="Samples a batch.")] = 256,
    workers: Annotated[int, typer.Option(min=1, help="Threads or processes a loader may use.")] = 2,
    epochs: Annotated[int, typer.Option(min=2, help="Epochs a process; the first is counted apart.")] = 3,
    repeats: Annotated[int, typer.Option(min=1, help="Processes a loader; a claim needs 5.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Write the record here.")] = None,
    json: console.JsonFlag = False,
) -> None:
    """Compare our loaders with others over one shard set, interleaved, each in a process of its own.

    Example: bassline bench loaders demo/split/train --repeats 5 --out loaders.json
    """
    check_out(out)
    from bench.loaders import compare_loaders
    from bench.record import write_record

    with console.stage("bench") as stage:
        record = compare_loaders(
            shards,
            names=tuple(only or ()),
            size=size,
            batch=batch,
            workers=workers,
            epochs=epochs,
            repeats=repeats,
            on_progress=lambda done, total, name: stage.update(done, total, name),
        )
        stage.summary = f"{len(record.measurements)} loaders, {repeats} processes each, in turns"
    if out is not None:
        write_record(record, out)
    data = record.to_json()
    if json:
        console.emit(data)
        return
    console.out.print(loader_table(data))
    if out is not None:
        console.out.print(f"\nrecord: {out}", soft_wrap=True)
