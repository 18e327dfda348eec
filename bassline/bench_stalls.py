"""`bassline bench stalls`: where an epoch's time goes, what binds, and what would help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from bassline import bench_page, console, places
from bassline.bench_options import check_out
from shards.errors import ConfigError

__all__ = ["for_report", "run_stalls", "stalls"]

_WHAT = {
    "step": "the step alone",
    "contention": "the step slowed by the loader beside it",
    "copy": "waiting for batches to be copied",
    "preparation": "waiting for batches to be made",
    "unexplained": "what no measurement accounts for",
    "fetch": "on top where the page cache is cold",
}


def run_stalls(
    run_file: Path, data: Path, out: Path | None, overrides: list[str], *, rounds: int = 6, seconds: float = 0.4
) -> dict[str, Any]:
    """Measures a run's stages quickly, in this process, with a progress line; returns the record."""
    from trainer.config import load_run

    config = load_run(run_file, overrides)
    with console.stage("bench") as stage:
        stage.update(0, None, "loading torch")
        from bench.quick import quick_stalls
        from bench.record import write_record

        record = quick_stalls(
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
    """A quick record as the report page draws it."""
    settings = record["settings"]
    return {
        "sentence": record["verdict"]["sentence"],
        "rates": [(name, measured["median"]) for name, measured in record["measurements"].items()],
        "note": f"Each stage alone, and whole epochs, in images/s: medians of {settings['rounds']} rounds of "
        f"{settings['seconds']:g} s, in turns. Decoder {settings['decoder']}, {settings['mode']} set, "
        f"{settings['executor']} {settings['precision']} step, batches of {settings['batch']}.",
    }


@console.short_command
def stalls(
    run_file: Annotated[Path | None, typer.Argument(metavar="[RUN.toml]", help="The run file.")] = None,
    data: Annotated[
        Path | None, typer.Option(parser=places.whole, metavar="PARTS", help="The split the run trains on.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the run file.")
    ] = None,
    loader: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="Measure your own loader: any iterable of batches, no --data."),
    ] = None,
    compute: Annotated[
        str | None, typer.Option(metavar="sleep:20ms", help="Stands in for the step; spin:20ms holds a core too.")
    ] = None,
    hook: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="Changes stages first; bench/stages.py says how.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="In seconds: stages in one process, and a verdict.")] = False,
    repeats: Annotated[int | None, typer.Option(min=1, help="Processes a mode; a verdict needs 5 (quick: 6).")] = None,
    most: Annotated[
        int, typer.Option(min=0, help="Goes on to so many repeats while the verdict is open; 0: none are added.")
    ] = 20,
    seconds: Annotated[float | None, typer.Option(min=0.01, max=600, help="Of each window (1; quick: 0.4).")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Make the best predicted change and measure it.")] = False,
    aa: Annotated[bool, typer.Option("--aa", help="Measure everything twice, for the noise floor.")] = False,
    page: Annotated[Path | None, typer.Option("--html", help="Write the pictures here, one page.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the record here.")] = None,
    json: console.JsonFlag = False,
) -> None:
    """Find where an epoch's time goes: the real training and parts of it, in processes of their own, in turns.

    Synthetic batches, replayed ones, a warm and a cold page cache, the loader without a step, and the step with the
    loader beside it; from the differences a decomposition, the ceilings, a verdict, and what would help.

    Example: bassline bench stalls battery/demo.toml --data demo/split --set data.mode=stream --verify
    """
    check_out(out=out, html=page)
    if quick:
        if run_file is None or data is None or loader or compute or hook or verify or aa or page:
            raise ConfigError("--quick", "", "takes RUN.toml, --data, --set, --repeats, --seconds and --out only")
        record = run_stalls(run_file, data, out, overrides or [], rounds=repeats or 6, seconds=seconds or 0.4)
        if json:
            console.emit(record)
        else:
            _print_quick(record)
        return
    if run_file is None and overrides:
        raise ConfigError("--set", "", "changes a run file; give RUN.toml")
    if not loader and (run_file is None or data is None):
        raise ConfigError("bench stalls", "", "give RUN.toml with --data PARTS, or --loader module:function")
    from trainer.config import load_run

    config = load_run(run_file, overrides or []) if run_file else None
    with console.stage("bench") as stage:
        stage.update(0, None, "loading torch")
        from bench.record import write_record
        from bench.runs import Plan
        from bench.stalls import find_stalls

        plan = Plan(
            config, None if loader and data is None else data, loader or "", compute or "", hook or "",
            repeats=repeats or 5, most=most if repeats is None or repeats >= 5 else 0, seconds=seconds or 1.0, aa=aa,
        )  # fmt: skip
        found = find_stalls(plan, verify=verify, on_progress=lambda done, total, what: stage.update(done, total, what))
        if out is not None:
            write_record(found, out)
        record = found.to_json()
        stage.summary = f"{record['settings']['repeats']} processes a mode, in turns; {record['verdict']['name']}"
    if page is not None:
        bench_page.write_page(record, page)
    if json:
        console.emit(record)
        return
    _print(record)
    for what, path in (("record", out), ("page", page)):
        if path is not None:
            console.out.print(f"{what}: {path}", soft_wrap=True)


def _print_quick(record: dict[str, Any]) -> None:
    made = console.table(
        "Rates of each stage alone, and of epochs", "stage", "images/s", "95 %", right=("images/s", "95 %")
    )
    for name, measured in record["measurements"].items():
        made.add_row(name, f"{measured['median']:,.0f}", _interval(measured["ci95"]))
    console.out.print(made)
    console.out.print(f"\n{record['verdict']['sentence']}")


def _interval(bounds: list[float | None], digits: int = 0) -> str:
    low, high = bounds
    return "-" if low is None or high is None else f"{low:,.{digits}f} to {high:,.{digits}f}"


def _print(record: dict[str, Any]) -> None:
    verdict = record["verdict"]
    out = console.out
    out.print(_rates(record))
    out.print()
    out.print(_parts(verdict))
    out.print()
    out.print(_roofs(verdict))
    if verdict["what_if"]:
        out.print()
        out.print(_what_if(verdict))
    out.print()
    for line in _facts(record):
        out.print(line, soft_wrap=True)
    out.print(f"\n[bold]{verdict['name']}[/]{console.literal(verdict['sentence'].removeprefix(verdict['name']))}")


def _rates(record: dict[str, Any]) -> Table:
    made = console.table("What was measured", "mode", "images/s", "95 %", "A/A", right=("images/s", "95 %", "A/A"))
    for name, measured in record["measurements"].items():
        noise = record["noise"].get(name)
        made.add_row(
            name, f"{measured['median']:,.0f}", _interval(measured["ci95"]), f"± {noise:.0%}" if noise else ""
        )  # fmt: skip
    return made


def _parts(verdict: dict[str, Any]) -> Table:
    """The decomposition: of an epoch where its length is known, of 1,000 images otherwise."""
    found = verdict["decomposition"]
    images = found["samples"] or 1000
    whole = found["parts"]["epoch"]
    made = console.table(
        f"Where an epoch of {images:,} images goes" if found["samples"] else "Where the time of 1,000 images goes",
        "part", "seconds", "95 %", "share", "what it is", right=("seconds", "95 %", "share"),
    )  # fmt: skip
    for name, part in found["parts"].items():
        if part is None or whole is None:
            if name in _WHAT:
                made.add_row(name, "-", "-", "-", f"[dim]not measured: {_WHAT[name]}[/]")
            continue
        low, high = part["ci95"]
        interval = "-" if low is None else _interval([low * images, high * images], 2)
        share = "" if name == "fetch" else f"{part['median'] / whole['median']:.0%}"
        shown = "[bold]epoch, warm[/]" if name == "epoch" else name
        made.add_row(shown, f"{part['median'] * images:.2f}", interval, share, f"[dim]{_WHAT.get(name, '')}[/]")
    return made


def _roofs(verdict: dict[str, Any]) -> Table:
    made = console.table("Ceilings of the input path, lowest first", "ceiling", "images/s", "", "what it is",
                         right=("images/s",))  # fmt: skip
    for place, roof in enumerate(verdict["roofline"]):
        told = "[bold]binds[/]" if place == 0 else f"{roof['rate'] / verdict['roofline'][0]['rate']:.3g} x"
        made.add_row(roof["name"], f"{roof['rate']:,.0f}", told, f"[dim]{roof['about']}[/]")
    return made


def _what_if(verdict: dict[str, Any]) -> Table:
    made = console.table("What would help, as predicted", "change", "images/s", "interval", "gain",
                         right=("images/s", "interval", "gain"))  # fmt: skip
    for each in verdict["what_if"]:
        gain = f"{each['gain']:.2f} x" if abs(each["gain"] - 1) >= 0.005 else "none"
        made.add_row(each["name"], f"{each['rate']:,.0f}", f"{each['low']:,.0f} to {each['high']:,.0f}", gain)
    return made


def _facts(record: dict[str, Any]) -> list[str]:
    verdict, evidence = record["verdict"], record["verdict"]["evidence"]
    lines = []
    if verdict["slack"]:
        first, second = verdict["roofline"][:2]
        slack = f"{verdict['slack']:.3g} times as fast"
        lines.append(f"the lowest ceiling is the {first['name']}; the next, {slack}, is the {second['name']}")
    if verdict["fill_s"] is not None:
        lines.append(f"the set was decoded once, in {console.seconds(verdict['fill_s'])}, and stays resident")
    if record["settings"]["mode"] == "loader":
        lines.append("cache not known: warm is what came first, and cold was not measured")
    if evidence["cold_read"] is not None:
        said = "proven cold" if evidence["cold_verified"] else "cache_unverified: not used"
        lines.append(f"cold epochs read {evidence['cold_read']:.0%} of their bytes from the disk: {said}")
    if verified := bench_page.verified_told(verdict):
        lines.append(verified)
    if tax := bench_page.tax_told(verdict):
        lines.append(tax)
    return lines
