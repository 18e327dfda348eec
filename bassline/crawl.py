"""`bassline crawl`: a site file into a shard set."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bassline import console, crawl_summary, site_check
from bassline.crawl_watch import event_log, served_metrics
from bassline.panel import CrawlPanel
from bassline.site_file import load
from shards.errors import ConfigError

if TYPE_CHECKING:
    from crawler.report import CrawlReport, CrawlStats

__all__ = ["Interrupted", "crawl", "run_crawl"]


class Interrupted(KeyboardInterrupt):
    """The crawl stopped on a signal and kept its state."""


def run_crawl(
    site: str,
    out: Path,
    *,
    start: str | None = None,
    url_column: str | None = None,
    label_column: str | None = None,
    limits: Sequence[str] = (),
    metrics: str | None = None,
    log: Path | None = None,
    quiet: bool = False,
    refresh: bool = False,
    vanished: Literal["keep", "drop"] = "keep",
) -> CrawlReport:
    """Crawls with the live panel, or with a line every few seconds where there is no terminal.

    Args:
        site: a site file, the name of one that comes along, or a list of addresses.
        out: the set's folder.
        start: begin here instead.
        url_column, label_column: of a list.
        limits: KEY=VALUE laid over the site file's [limits].
        metrics: PORT or ADDRESS:PORT of a Prometheus endpoint.
        log: file of JSON lines that everything is appended to.
        quiet: nothing on stderr but errors.
        refresh, vanished: of a finished set; see `crawler.crawl.crawl`.

    Raises:
        Interrupted: a signal ended it; the same call goes on.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the crawl listens to both itself
    from crawler.crawl import run  # a second of imports: only a crawl pays for it

    loaded = load(site, start, url_column, label_column)
    loaded = loaded.model_copy(update={"limits": loaded.limits.with_settings(limits)})
    begun = perf_counter()
    name = loaded.site.name
    _allow_open_files(loaded.limits.concurrency)
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

        report = run(
            loaded,
            out,
            on_progress=on_progress,
            on_event=on_event,
            on_signal=on_signal,
            refresh=refresh,
            vanished=vanished,
        )
    if not report.finished:
        raise Interrupted
    from crawler.drop_page import keep_drop_page

    keep_drop_page(report)
    if not quiet:
        console.stage_line("crawl", perf_counter() - begun, crawl_summary.one_line(report))
    return report


def _allow_open_files(connections: int) -> None:
    """Most systems let a process have 1,024 open files, and more if it asks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(hard, wanted), hard)
        )


_FILES = 4096  # beside the connections in use: idle ones, shards, ledger
_AGAIN = "A finished set once more"
_WATCHING, _SITE_FILE, _LIST = "Watching", "Looking at a site file", "A list of addresses"


def crawl(
    site: Annotated[
        str,
        typer.Argument(
            metavar="SITE.toml",
            help="A site file, or one that comes along: thomann, embedded, folder, woocommerce (to extend); or a list "
            "of image addresses: CSV, TSV, JSON lines, Parquet, or text with one a line.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the shard set; an unfinished crawl in it goes on.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="URL", help="Begin here instead of at the site file's start.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Change a limit of the site file for this run, such as per_host=2; may be repeated.",
        ),
    ] = None,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh",
            rich_help_panel=_AGAIN,
            help="Of a finished set: walk the shop anew, take in what is new or has changed, ask of the rest only "
            "whether it has. The set can be read all the while; one that was interrupted goes on.",
        ),
    ] = False,
    vanished: Annotated[
        str,
        typer.Option(
            metavar="keep|drop",
            rich_help_panel=_AGAIN,
            help="With --refresh: samples of products that the shop lists no more.",
        ),
    ] = "keep",
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
    check: Annotated[
        bool,
        typer.Option("--check", rich_help_panel=_SITE_FILE, help="Say what the site file does and what may be wrong."),
    ] = False,
    tried: Annotated[
        str | None,
        typer.Option(
            "--try", metavar="URL", rich_help_panel=_SITE_FILE, help="Fetch this one page and show what is found on it."
        ),
    ] = None,
    path: Annotated[
        str | None,
        typer.Option(
            metavar="A / B",
            rich_help_panel=_SITE_FILE,
            help="With --try: the names of the page's category.",
        ),
    ] = None,
    url_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", rich_help_panel=_LIST, help='Column of the address; without, "url".'),
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=_LIST, help='Column of the label; without, "label" if it is there.'
        ),
    ] = None,
    json: console.JsonFlag = False,
) -> None:
    """Crawl a shop's thumbnails into a shard set; run it again to resume.

    A terminal shows one live panel; a pipe gets a line every five seconds. The first of each class of problem is
    told, all of them are counted. What was left out is listed in SET/drops.jsonl; SET/drops.html shows the pictures.

    Example: bassline crawl embedded --start http://127.0.0.1:8977/ --out set

    Example: bassline crawl shop.toml --out set --limit rate_per_host=2 --limit bytes_per_s=200e3

    Example: bassline crawl shop.toml --out set --metrics 9100 --log crawl.jsonl

    Example: bassline crawl shop.toml --out set --refresh

    Example: bassline crawl shop.toml --check

    Example: bassline crawl shop.toml --try https://shop.example/basses

    Example: bassline crawl urls.parquet --label-column class --out set
    """
    if path is not None and tried is None:
        raise ConfigError("--path", "", "is of --try URL; give that too")
    if check or tried is not None:
        loaded = load(site, start, url_column, label_column)
        loaded = loaded.model_copy(update={"limits": loaded.limits.with_settings(limit or ())})
        if check:
            site_check.check(loaded, site, json=json and tried is None)
        if tried is not None:
            site_check.try_url(loaded, tried, path=path, json=json)
        return
    if out is None:
        raise ConfigError("--out", "", "missing: the folder of the shard set (or give --check or --try URL)")
    if vanished not in ("keep", "drop"):
        raise ConfigError("--vanished", "", f"expected keep or drop, not {vanished!r}")
    if vanished != "keep" and not refresh:
        raise ConfigError("--vanished", "", "is of --refresh; give that too")
    report = run_crawl(
        site,
        out,
        start=start,
        url_column=url_column,
        label_column=label_column,
        limits=limit or (),
        metrics=metrics,
        log=log,
        quiet=quiet,
        refresh=refresh,
        vanished="drop" if vanished == "drop" else "keep",
    )
    if json:
        console.emit(report.to_json())
    else:
        crawl_summary.show(report)
