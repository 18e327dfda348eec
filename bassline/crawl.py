"""`bassline crawl`: a site file into a shard set."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from bassline import console, crawl_summary
from bassline.crawl_watch import event_log, served_metrics
from bassline.panel import CrawlPanel
from shards.errors import ConfigError

if TYPE_CHECKING:
    from crawler.report import CrawlReport, CrawlStats
    from crawler.site import Site

__all__ = ["Interrupted", "crawl", "run_crawl"]


class Interrupted(KeyboardInterrupt):
    """The crawl stopped on a signal and kept its state."""


def _load(site: str, start: str | None) -> Site:
    """The site file, begun at another address if one is given."""
    from crawler.site import load_site

    source = Path(site) if site.endswith(".toml") or "/" in site else site
    if start is None:
        return load_site(source)
    parts = urlsplit(start)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("--start", "", f"{start!r} is not an http(s) address")
    return load_site(source, site={"start": [start], "hosts": [parts.hostname]})


def run_crawl(
    site: str,
    out: Path,
    *,
    start: str | None = None,
    metrics: str | None = None,
    log: Path | None = None,
    quiet: bool = False,
) -> CrawlReport:
    """Crawls with the live panel, or with a line every few seconds where there is no terminal.

    Args:
        site: a site file, or the name of one that comes along.
        out: the set's folder.
        start: begin here instead.
        metrics: PORT or ADDRESS:PORT of a Prometheus endpoint.
        log: file of JSON lines that everything is appended to.
        quiet: nothing on stderr but errors.

    Raises:
        Interrupted: a signal ended it; the same call goes on.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the crawl listens to both itself
    from crawler.crawl import run  # a second of imports: only a crawl pays for it

    loaded = _load(site, start)
    begun = perf_counter()
    name = loaded.site.name
    with (
        served_metrics(metrics, name) as measure,
        event_log(log) as on_event,
        CrawlPanel(name, console.err, quiet=quiet) as panel,
    ):

        def on_progress(stats: CrawlStats) -> None:
            measure(stats)
            panel.update(stats)

        def on_signal(times: int) -> None:
            panel.stopping()
            if times > 1:  # whatever is being written is safe: the crawl survives a kill at any moment
                panel.close()
                console.note(console.INTERRUPTED)
                os._exit(130)

        report = run(loaded, out, on_progress=on_progress, on_event=on_event, on_signal=on_signal)
    if not report.finished:
        raise Interrupted
    if not quiet:
        console.stage_line("crawl", perf_counter() - begun, crawl_summary.one_line(report))
    return report


_WATCHING = "Watching"


def crawl(
    site: Annotated[
        str,
        typer.Argument(metavar="SITE.toml", help="A site file, or one that comes along: thomann, embedded, folder."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the shard set; an unfinished crawl in it goes on.")],
    start: Annotated[
        str | None, typer.Option(metavar="URL", help="Begin here instead of at the site file's start.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", rich_help_panel=_WATCHING, help="No panel and no lines, only errors.")
    ] = False,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS:]PORT",
            rich_help_panel=_WATCHING,
            help="Serve Prometheus metrics while it runs; a port alone is of this machine only.",
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=_WATCHING,
            help="Append every request, retry and refusal to this file, one JSON object a line.",
        ),
    ] = None,
    json: console.JsonFlag = False,
) -> None:
    """Crawl a shop's thumbnails into a shard set; run it again to resume.

    A terminal shows one live panel; a pipe gets a line every five seconds. The first of each class of problem is
    told, all of them are counted; what was left out is listed in SET/drops.jsonl.

    Example: bassline crawl embedded --start http://127.0.0.1:8977/ --out set

    Example: bassline crawl shop.toml --out set --metrics 9100 --log crawl.jsonl
    """
    report = run_crawl(site, out, start=start, metrics=metrics, log=log, quiet=quiet)
    if json:
        console.emit(report.to_json())
    else:
        crawl_summary.show(report)
