"""`bassline bench loaders`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from bassline import console, places
from bassline.bench_options import check_out, verdict_told
from shards.errors import ConfigError

__all__ = ["loaders"]


def rate_table(record: dict[str, Any]) -> Table:
    """How fast the loaders of a record are, fastest first, ours marked."""
    settings = record["settings"]
    right = ("images/s", "95 %", f"x {settings['reference']}", "1st epoch", "cold")
    made = console.table(
        f"Loaders: {settings['samples']:,} samples, {settings['size']} pixels, batches of {settings['batch']}, "
        f"{settings['workers']} workers, {settings['repeats']} round{'s' * (settings['repeats'] > 1)}",
        "loader", *right, right=right,
    )  # fmt: skip
    made.columns[0].no_wrap = True
    for name, found in _fastest_first(record):
        low, high = found["ci95"]
        made.add_row(
            f"[bold]{name}[/]" if found["ours"] else name,
            f"{found['median']:,.0f}",
            "-" if low is None else f"±{(high - low) / 2:,.0f}",
            f"{record['ratios'][name + '/' + settings['reference']]['median']:.2f}",
            _epoch(found["first_epoch"]),
            _epoch(found["cold_epoch"]),
        )
    return made


def cost_table(record: dict[str, Any]) -> Table:
    """What they cost, in the same order."""
    right = ("1st batch", "CPU s/1000", "MiB", "levels off", "written before")
    made = console.table("What they cost", "loader", *right, right=right)
    made.columns[0].no_wrap = True
    for name, found in _fastest_first(record):
        levels = f"{found['pixels']['levels']:.2f}"
        written = f"{console.seconds(found['convert_s'])}, {console.amount(found['converted_bytes'])}"
        made.add_row(
            f"[bold]{name}[/]" if found["ours"] else name,
            console.seconds(found["first_batch_s"]),
            f"{found['cpu_s_per_1000']:.3f}",
            f"{found['extra_mib']:,.0f}",
            levels if found["same_pixels"] else f"[yellow]{levels}[/]",
            written if found["convert_s"] else "-",
        )
    return made


def _fastest_first(record: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return sorted(record["measurements"].items(), key=lambda item: -item[1]["median"])


def _epoch(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    doubted = "[yellow]?[/]" if found["cache"] == "cache_unverified" else ""
    return f"{found['median']:,.0f}{doubted}"


_RATES = (
    "[dim]images/s: warm epochs after the first, median; 95 %: half the interval of the mean. 1st epoch, cold: "
    "images/s of the first epoch with all that opening costs, page cache warm or emptied ([/][yellow]?[/][dim]: not "
    "proven by the bytes read). -float32: normalised as well, in planes of float32; all others give uint8.[/]\n"
)
_COSTS = (
    "[dim]1st batch: after torch's import. MiB: peak over what torch's import takes. Levels off: mean difference, of "
    "255, from Pillow's decode ([/][yellow]yellow[/][dim]: other pixels than the set's). Written before: into the "
    "loader's own format, not counted.[/]"
)


def target_table(record: dict[str, Any]) -> Table:
    """What was to be reached, and whether it was."""
    made = console.table("Targets", "what", "wanted", "found", "95 %", "", right=("wanted", "found", "95 %"))
    for target in record["verdict"]["targets"]:
        digits = 0 if target["found"] >= 100 else 2
        low, high = target["ci95"]
        made.add_row(
            target["name"],
            f"{'≥' if target['at'] == 'least' else '≤'} {target['wanted']:,g} {target['unit']}".removesuffix(" ratio"),
            f"{target['found']:,.{digits}f}",
            "-" if low is None else f"{low:,.{digits}f} to {high:,.{digits}f}",
            verdict_told(target["verdict"]) + (f" [dim]by {target['by']}[/]" if "by" in target else ""),
        )
    return made


def _peers_python(peers: str | None) -> Path | None:
    """The Python that has the peers: the one named, or that of an environment made now."""
    from bench.loader_peers import BUILT, PINS, install_loader_peers, loader_peers
    from crawler.shop.render import default_cache

    if peers is None:
        return None
    if peers == "install":
        folder = default_cache().with_name("bench-loader-peers")
        with console.stage("peers") as stage:
            stage.update(0, None, f"installing {', '.join(PINS + BUILT)} into {folder}")
            python, problem = install_loader_peers(folder)
            stage.summary = ", ".join(f"{name} {version}" for name, version in loader_peers(python).items())
        if problem:
            console.note(
                f"[yellow]![/] FFCV could not be built ({console.literal(problem)}): it needs a C++ compiler, "
                "pkg-config, OpenCV 4 and libjpeg-turbo (Debian: g++ pkg-config libopencv-dev libturbojpeg0-dev)"
            )
        return python
    python = Path(peers)
    if not loader_peers(python):
        raise ConfigError("--peers", "", f'{peers}: expected a Python that has LitData or others, or "install"')
    return python


@console.short_command
def loaders(
    shards: Annotated[Path, typer.Argument(metavar="SET", parser=places.whole, help="The shard set to read.")],
    only: Annotated[list[str] | None, typer.Option(help="Measure only this loader; repeat for more.")] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            metavar="PYTHON|install",
            help="A Python that has LitData, MosaicML Streaming, SPDL, webdataset and FFCV; "
            '"install" makes one in the cache folder, once.',
        ),
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Pixels a side.")] = 150,
    batch: Annotated[int, typer.Option(min=1, help="Samples a batch.")] = 256,
    workers: Annotated[int, typer.Option(min=1, help="Threads or processes a loader may use.")] = 2,
    epochs: Annotated[int, typer.Option(min=2, help="Warm epochs a process at most; the first is told apart.")] = 6,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds over all loaders; a claim needs 5.")] = 5,
    budget: Annotated[float, typer.Option(min=0, help="Minutes: no round begins that would end later.")] = 14,
    cold: Annotated[bool, typer.Option("--cold/--no-cold", help="Also with the page cache emptied.")] = True,
    out: Annotated[Path | None, typer.Option(help="Write the record here.")] = None,
    json: console.JsonFlag = False,
) -> None:
    """Compare our loaders with others over one shard set, interleaved, each in a process of its own.

    All give shuffled uint8 batches of the same samples, -float32 normalised ones; pixels and labels are held against
    Pillow's decode.

    Example: bassline bench loaders demo/split/train --peers install --out loaders.json
    """
    check_out(out=out)
    from bench.loaders import Loaders, compare_loaders
    from bench.record import write_record

    plan = Loaders(
        names=tuple(only or ()),
        size=size,
        batch=batch,
        workers=workers,
        epochs=epochs,
        repeats=repeats,
        budget_s=60 * budget,
        cold=cold,
        peers=_peers_python(peers),
    )
    with console.stage("bench") as stage:
        record = compare_loaders(shards, plan, lambda done, total, name: stage.update(done, total, name))
        rounds = record.settings["repeats"]
        stage.summary = f"{len(record.measurements)} loaders, {rounds} round{'s' * (rounds > 1)} in turns"
    if rounds < repeats:
        console.note(f"[yellow]![/] {rounds} of {repeats} rounds fit into {budget:g} minutes; --budget gives more")
    for name, why in record.settings["left_out"].items():
        console.note(f"[dim]{name} was left out: {console.literal(why)}[/]")
    if out is not None:
        write_record(record, out)
    data = record.to_json()
    if json:
        console.emit(data)
        return
    console.out.print(rate_table(data), _RATES, cost_table(data), _COSTS, sep="\n")
    if data["verdict"]["targets"]:
        console.out.print("", target_table(data), sep="\n")
    told = " (a claim needs 5 rounds)" if data["verdict"]["targets"] and rounds < 5 else ""
    console.out.print(f"\n{data['verdict']['sentence'].partition(';')[0]}{told}")
    for target in data["verdict"]["targets"]:
        if target["verdict"] != "reached" and target.get("ceiling", target["wanted"]) < target["wanted"]:
            name = target["name"].partition(" / ")[2]
            console.out.print(
                f"{target['wanted']:g} times {name} is out of reach here of any loader that decodes every epoch:"
                f" decoding alone is {target['ceiling']:.2f} times {name}"
            )
        if alike := target.get("alike"):
            told_alike = ", ".join(f"{pair} is {found:.2f}" for pair, found in alike.items())
            console.out.print(f"[dim]{target['name']} compares each as it is used. Of the same work {told_alike}.[/]")
    if peers is None and not only:
        console.note("LitData, MosaicML Streaming, SPDL and FFCV were not measured: --peers install brings them")
    if out is not None:
        console.out.print(f"\nrecord: {out}", soft_wrap=True)
