"""`bassline bench shards`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from bassline import console
from bassline.bench_options import check_out, verdict_told
from shards.errors import ConfigError

__all__ = ["shards"]


@console.short_command
def shards(
    samples: Annotated[int, typer.Option(min=256, help="Samples of the set that is made for it.")] = 20_000,
    image_bytes: Annotated[int, typer.Option(min=16, help="Bytes of each picture.")] = 5_000,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; a claim needs 5.")] = 5,
    scratch: Annotated[Path | None, typer.Option(help="Folder to write in; some 35 KB a sample.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the record here.")] = None,
    json: console.JsonFlag = False,
) -> None:
    """Measure writing (beside tarfile), indexing, opening, reading, resuming, verifying, grouping and splitting sets.

    Example: bassline bench shards --repeats 5 --out shards.json
    """
    check_out(out=out)
    if scratch is not None and not scratch.is_dir():
        raise ConfigError("--scratch", "", f"{scratch}: expected a folder that exists")
    from bench.record import write_record
    from bench.shards import measure_shards

    with console.stage("bench") as stage:
        record = measure_shards(
            samples=samples,
            image_bytes=image_bytes,
            repeats=repeats,
            scratch=scratch,
            on_progress=lambda done, total, name: stage.update(done, total, name),
        )
        stage.summary = f"{samples:,} samples of {image_bytes:,} bytes, {repeats} rounds"
    if out is not None:
        write_record(record, out)
    data = record.to_json()
    if json:
        console.emit(data)
        return
    console.out.print(shards_table(data))
    console.out.print(f"\n{data['verdict']['sentence']}")


def shards_table(record: dict[str, Any]) -> Table:
    """What a shards record measured, and what each was to reach."""
    made = console.table(
        "Shard sets: samples per second and seconds of one core, bytes per second of the clock, peak memory",
        "what", "measured", "95 %", "target", "",
        right=("measured", "95 %", "target"),
    )  # fmt: skip
    made.columns[0].no_wrap = True
    targets = record["verdict"]["targets"]
    for name, measured in [*record["measurements"].items(), *record["ratios"].items()]:
        unit = {"ratio": "", "bytes/s": " MB/s", "samples/s": " /s"}.get(measured["unit"], f" {measured['unit']}")
        scale = 1e6 if measured["unit"] == "bytes/s" else 1
        low, high = (None if bound is None else bound / scale for bound in measured["ci95"])
        target = targets.get(name)
        limit = f"{'at most' if target['below'] else 'at least'} {target['value']:,g}" if target else ""
        mark = "" if target is None else verdict_told(target["verdict"])
        interval = "-" if low is None or high is None else f"{_short(low)} to {_short(high)}"
        made.add_row(name, f"{_short(measured['median'] / scale)}{unit}", interval, limit, mark)
    return made


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
