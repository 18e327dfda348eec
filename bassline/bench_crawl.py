"""`bassline bench crawl`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from bassline import console
from bassline.bench_options import check_out
from shards.errors import ConfigError

__all__ = ["crawl"]


def crawl_table(record: dict[str, Any]) -> Table:
    """The contenders of a crawl record, fastest first, ours marked."""
    settings = record["settings"]
    made = console.table(
        f"Crawls: {settings['images']:,} pictures of a server beside, whole processes, 64 gets each",
        "contender", "images/s", "95 %", "x bare", "CPU s/1000", "peak MiB",
        right=("images/s", "95 %", "x bare", "CPU s/1000", "peak MiB"),
    )  # fmt: skip
    made.columns[0].no_wrap = True
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
        )
    # below the numbers: beside them it would have a few characters a line in a terminal of 80 columns
    made.caption = "\n".join(f"{name}: {found['about']}" for name, found in measurements.items())
    made.caption_justify = "left"
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


@console.short_command
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
    memory: Annotated[
        bool, typer.Option("--memory", help="Peak memory instead: of crawls, and of ones ten times as large.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the record here.")] = None,
    json: console.JsonFlag = False,
) -> None:
    """Compare a crawl with a bare client, img2dataset and Scrapy over one local server, in turns, whole processes.

    Example: bassline bench crawl --peers install --out crawl.json
    """
    check_out(out=out)
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
            record = crawl_memory(images=images or 8000, repeats=repeats, on_progress=progress)
        else:
            record = compare_crawls(
                images=images or 8000, repeats=repeats, names=tuple(only or ()), peers=python, on_progress=progress
            )
        stage.summary = f"{repeats} of each, in turns"
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
