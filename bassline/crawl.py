"""`bassline crawl`: a site file into a shard set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from rich.markup import escape

from bassline import console
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


def _progress(stats: CrawlStats) -> tuple[float, float | None, str]:
    """Where the bar stands, of how much (None: not known yet), and what to say beside it."""
    if stats.stage == "explore":
        return 0, None, f"exploring: {stats.categories:,} categories"
    if stats.stage == "settle":
        return stats.images_done, stats.images, "settling: near-duplicates, indexes, manifest"
    rate = stats.images_done / stats.seconds if stats.seconds else 0.0
    text = f"{stats.images_done:,} of {stats.images:,} thumbnails, {rate:,.0f}/s, {stats.in_flight} in flight"
    dropped = sum(stats.dropped.values())
    return stats.images_done, stats.images or None, text + (f", {dropped:,} dropped" if dropped else "")


def _reasons(report: CrawlReport) -> str:
    counts = sorted([*report.dropped.items(), *report.failed.items()], key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {reason}" for reason, count in counts)


def _by_problem(report: CrawlReport) -> dict[str, list[str]]:
    """Category pages that could not be read, by what was wrong: a line a class, not a line a page."""
    classes: dict[str, list[str]] = {}
    for url, problem in report.problems.items():
        classes.setdefault(problem, []).append(url)
    return classes


def run_crawl(site: str, out: Path, *, start: str | None = None) -> CrawlReport:
    """Crawls with a progress line.

    Raises:
        Interrupted: a signal ended it; the same call goes on.
    """
    from crawler.crawl import run  # a second of imports: only a crawl pays for it

    loaded = _load(site, start)
    with console.stage("crawl") as stage:
        report = run(loaded, out, on_progress=lambda stats: stage.update(*_progress(stats)))
        if not report.finished:
            raise Interrupted
        rate = f", {report.images_per_s:,.0f} images/s" if report.images_per_s else ", finished before"
        reasons = _reasons(report)
        stage.summary = f"{report.kept:,} of {report.products:,} products kept in {len(report.labels)} labels{rate}" + (
            f"; left out: {reasons}" if reasons else ""
        )
    return report


def crawl(
    site: Annotated[
        str,
        typer.Argument(metavar="SITE.toml", help="A site file, or one that comes along: thomann, embedded, folder."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the shard set; an unfinished crawl in it goes on.")],
    start: Annotated[
        str | None, typer.Option(metavar="URL", help="Begin here instead of at the site file's start.")
    ] = None,
    json: console.JsonFlag = False,
) -> None:
    """Crawl a shop's thumbnails into a shard set; run it again to resume.

    Example: bassline crawl embedded --start http://127.0.0.1:8977/ --out set
    """
    report = run_crawl(site, out, start=start)
    if json:
        console.emit(report.to_json())
        return
    table = console.table("Labels", "label", "samples", right=("samples",))
    for label, count in report.labels.items():
        table.add_row(label, f"{count:,}")
    console.out.print(table)
    for problem, urls in _by_problem(report).items():
        more = f" and {len(urls) - 1:,} more" if len(urls) > 1 else ""
        console.note(f"[yellow]![/] not read ({escape(problem)}): {escape(urls[0])}{more}")
    if report.dropped or report.failed:
        console.out.print(f"\nleft out, with the reason of each: {out / 'drops.jsonl'}", soft_wrap=True)
    console.out.print(f"shard set: {out}", soft_wrap=True)
