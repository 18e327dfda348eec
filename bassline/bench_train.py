"""`bassline bench train`: a run beside the plain PyTorch loop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from bassline import console, places
from bassline.bench_options import check_out
from shards.errors import ConfigError

__all__ = ["train"]


@console.short_command
def train(
    run_file: Annotated[Path, typer.Argument(metavar="RUN.toml", help="The run file.")],
    data: Annotated[Path, typer.Option(parser=places.whole, metavar="PARTS", help="The split the run trains on.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the run file.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=2, help="Epochs of each run; the first is left out of rates.")] = 4,
    peer: Annotated[str, typer.Option(metavar="plain|none", help="What it is held against.")] = "plain",
    repeats: Annotated[int, typer.Option(min=1, help="Processes of each, in turns; a claim needs 5.")] = 5,
    trace: Annotated[
        Path | None, typer.Option(help="Only write a Chrome trace of some steps here, and name the longest gaps.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the record here.")] = None,
    json: console.JsonFlag = False,
) -> None:
    """Measure whole runs, from the process's start, beside a plain PyTorch loop with the same net, batch and seed.

    Example: bassline bench train battery/T5.toml --data parts --set data.size=64 --repeats 5
    """
    check_out(out=out, trace=trace)
    if trace is not None and out is not None:
        raise ConfigError("--trace", "", "measures nothing, so there is no record for --out; leave one of them out")
    from trainer.config import load_run

    config = load_run(run_file, [*(overrides or []), f"train.epochs={epochs}"])
    with console.stage("bench") as stage:
        stage.update(0, None, "loading torch")
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own chatter, "no GPU" as an error among it
        from bench.record import write_record
        from bench.train import measure_training
        from bench.zygote import Zygote

        if trace is not None:
            job = {"config": config.model_dump(mode="json"), "data": str(data), "out": str(trace)}
            with Zygote(("torch", "bench.train")) as mother:
                gaps = mother.run("bench.train:trace_job", job)["gaps"]
            stage.summary = str(trace)
        else:
            record = measure_training(
                config,
                data,
                peer=peer,
                repeats=repeats,
                on_progress=lambda done, total, name: stage.update(done, total, name),
            )
            if out is not None:
                write_record(record, out)
            found = record.to_json()
            stage.summary = f"{repeats} processes each, {epochs} epochs"
    if trace is not None:
        if json:
            console.emit({"trace": str(trace), "gaps": gaps})
            return
        console.out.print(_gap_table(gaps))
        console.out.print(f"\ntrace: {trace} (open it at ui.perfetto.dev or chrome://tracing)", soft_wrap=True)
        return
    if json:
        console.emit(found)
        return
    console.out.print(_table(found))
    console.out.print(f"\n{console.literal(found['verdict']['sentence'])}")


def _table(record: dict[str, Any]) -> Table:
    made = console.table(
        f"Runs of {record['settings']['epochs']} epochs, {record['settings']['size']} pixels, batches of "
        f"{record['settings']['batch']}",
        "what", "median", "95 %", "of which",
        right=("median", "95 %"),
    )  # fmt: skip
    targets = record["verdict"]["targets"]
    for name, measured in [*record["measurements"].items(), *record["ratios"].items()]:
        low, high = measured["ci95"]
        more = ""
        if "parts_s" in measured:
            more = ", ".join(f"{part} {value:.1f}" for part, value in measured["parts_s"].items() if value >= 0.05)
        elif "percentiles" in measured:
            more = ", ".join(f"p{share} {value * 1e3:,.1f} ms" for share, value in measured["percentiles"].items())
        elif name in targets:
            more = f"at least {targets[name]['value']:g}: {targets[name]['verdict']}"
        elif name == "best loss ours-plain":
            more = "above 0: our best model is the worse"
        elif "by_epoch" in measured:
            more = "by epoch " + ", ".join(f"{value:,.0f}" for value in measured["by_epoch"][:6])
        unit = {"ratio": ""}.get(measured["unit"], f" {measured['unit']}")
        interval = "-" if low is None else f"{_short(low)} to {_short(high)}"
        made.add_row(name, f"{_short(measured['median'])}{unit}", interval, more)
    return made


def _gap_table(gaps: list[dict[str, Any]]) -> Table:
    made = console.table(
        "The longest gaps, in which no operation ran", "ms", "at ms", "during", "after", "before", right=("ms", "at ms")
    )
    for gap in gaps:
        at = f"{gap['at_us'] / 1e3:,.1f}"
        made.add_row(f"{gap['us'] / 1e3:,.2f}", at, gap["during"], gap["after"], gap["before"])
    return made


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
