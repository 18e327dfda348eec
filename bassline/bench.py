"""`bassline bench`: measurements that become records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from bassline import console, places
from shards.errors import ConfigError

__all__ = ["app", "crawl", "loaders"]

app = typer.Typer(
    help="Measure loaders and training against their ceilings and against what people use.", no_args_is_help=True
)


@app.callback()
def _group() -> None:
    """Measure loaders and training against their ceilings and against what people use."""


def _check_out(out: Path | None) -> None:
    """Before minutes of measuring, not after."""
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise ConfigError("--out", "", f"{out}: expected a file in a folder that exists")


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


@app.command()
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
    _check_out(out)
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


@app.command()
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
    _check_out(out)
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


@app.command()
@console.command
def shards(
    samples: Annotated[int, typer.Option(min=256, help="Samples of the set that is made for it.")] = 20_000,
    image_bytes: Annotated[int, typer.Option(min=16, help="Bytes of each picture.")] = 5_000,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; a claim needs 5.")] = 5,
    scratch: Annotated[Path | None, typer.Option(help="Folder to write in; some 10 KB a sample.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the record here.")] = None,
    json: console.JsonFlag = False,
) -> None:
    """Measure writing (beside tarfile), indexing, opening, reading, resuming and verifying shard sets.

    Example: bassline bench shards --repeats 5 --out shards.json
    """
    _check_out(out)
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
        "Shard sets: samples per second of one core, bytes per second of the clock",
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
        mark = "" if target is None else "[green]met[/]" if target["met"] else "[red]missed[/]"
        interval = "-" if low is None or high is None else f"{_short(low)} to {_short(high)}"
        made.add_row(name, f"{_short(measured['median'] / scale)}{unit}", interval, limit, mark)
    return made


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def crawl_table(record: dict[str, Any]) -> Table:
    """The contenders of a crawl record, fastest first, ours marked."""
    settings = record["settings"]
    made = console.table(
        f"Crawls: {settings['images']:,} pictures of a server beside, whole processes, 64 gets at a time",
        "contender", "images/s", "95 %", "x bare", "CPU s/1000", "peak MiB", "what it does",
        right=("images/s", "95 %", "x bare", "CPU s/1000", "peak MiB"),
    )  # fmt: skip
    measurements = record["measurements"]
    bare = measurements.get("bare", {}).get("median")
    for name, found in sorted(measurements.items(), key=lambda item: -item[1]["median"]):
        low, high = found["ci95"]
        made.add_row(
            f"[bold]{name}[/]" if found["ours"] else name,
            f"{found['median']:,.0f}",
            "-" if low is None else f"{low:,.0f} to {high:,.0f}",
            f"{found['median'] / bare:.2f}" if bare else "-",
            f"{found['cpu_s_per_1000']:.2f}",
            f"{found['peak_mib']:,.0f}",
            f"[dim]{found['about']}[/]",
        )
    return made


def _peers_python(peers: str | None) -> Path | None:
    """The Python that has the peers: the one named, or that of an environment made now."""
    from bench.crawl_peers import PINS, install_peers, peer_versions
    from crawler.shop.render import default_cache

    if peers is None:
        return None
    if peers == "install":
        folder = default_cache().with_name("bench-peers")
        with console.stage("peers") as stage:
            stage.update(0, None, f"installing {', '.join(PINS)} into {folder}")
            python = install_peers(folder)
            stage.summary = str(folder)
        return python
    python = Path(peers)
    if not peer_versions(python):
        raise ConfigError("--peers", "", f'{peers}: expected a Python that has img2dataset or scrapy, or "install"')
    return python


@app.command()
@console.command
def crawl(
    images: Annotated[int | None, typer.Option(min=1, help="Pictures (8000; of each host with --hosts: 20).")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Processes a contender; a claim needs 5.")] = 5,
    only: Annotated[list[str] | None, typer.Option(help="Measure only this contender; repeat for more.")] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            metavar="PYTHON|install",
            help='A Python that has img2dataset and Scrapy; "install" makes one in the cache folder, once.',
        ),
    ] = None,
    hosts: Annotated[bool, typer.Option("--hosts", help="50 hosts instead, half of them sick.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Peak memory instead: one crawl, one ten times it.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the record here.")] = None,
    json: console.JsonFlag = False,
) -> None:
    """Compare a crawl with a bare client, img2dataset and Scrapy over one local server, in turns, whole processes.

    Example: bassline bench crawl --peers install --out crawl.json
    """
    _check_out(out)
    if hosts and memory:
        raise ConfigError("--hosts", "", "give one of --hosts and --memory: each makes a record of its own")
    from bench.crawl import compare_crawls, crawl_memory, slow_hosts
    from bench.record import write_record

    python = None if hosts or memory else _peers_python(peers)
    with console.stage("bench") as stage:

        def progress(done: int, total: int, name: str) -> None:
            stage.update(done, total, name)

        if hosts:
            record = slow_hosts(images=images or 20, repeats=repeats, on_progress=progress)
        elif memory:
            record = crawl_memory(images=images or 8000, on_progress=progress)
        else:
            record = compare_crawls(
                images=images or 8000, repeats=repeats, names=tuple(only or ()), peers=python, on_progress=progress
            )
        stage.summary = f"{repeats} of each, in turns" if not memory else "one crawl of each size"
    if out is not None:
        write_record(record, out)
    data = record.to_json()
    if json:
        console.emit(data)
        return
    if not hosts and not memory:
        console.out.print(crawl_table(data))
        if python is None:
            console.note("img2dataset and Scrapy were not measured: --peers install brings them")
    console.out.print(f"\n{data['verdict']['sentence']}")
    if out is not None:
        console.out.print(f"\nrecord: {out}", soft_wrap=True)
