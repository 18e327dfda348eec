"""What a crawl leaves on the screen: every product's outcome by reason, labels, rates, and where each second went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.columns import Columns
from rich.table import Table
from rich.text import Text

from bassline import console

if TYPE_CHECKING:
    from crawler.report import CrawlReport

__all__ = ["one_line", "show"]


def one_line(report: CrawlReport) -> str:
    """What the stage's line says (rich markup)."""
    rate = f", {report.images_per_s:,.0f} images/s" if report.images_per_s else ""
    before = ", finished before" if report.already_finished else ""
    counts = sorted([*report.dropped.items(), *report.failed.items()], key=lambda item: (-item[1], item[0]))
    reasons = ", ".join(f"{count:,} {console.literal(reason)}" for reason, count in counts)
    return f"{report.kept:,} of {report.products:,} products kept in {_labels_said(report)}{rate}{before}" + (
        f"; left out: {reasons}" if reasons else ""
    )


def _labels_said(report: CrawlReport) -> str:
    count = len(report.labels)
    return f"{count} label{'s' * (count != 1)}"


def show(report: CrawlReport) -> None:
    """Prints the tables on stdout."""
    out = console.out
    out.print()
    out.print(Columns([_outcomes(report), _labels(report)], padding=(0, 6)))
    spent = [(name, value, False) for name, value in report.time_s.items() if value >= 0.0005]
    if spent:
        out.print()
        out.print(console.seconds_table("Time", spent))
    if report.refresh:
        out.print()
        out.print(_refreshed(report.refresh))
    out.print()
    out.print(_rates(report))
    for problem, urls in _by_problem(report).items():
        more = f" and {len(urls) - 1:,} more" if len(urls) > 1 else ""
        where = f"{console.plain(urls[0])}{more}"
        page = where.startswith(("http://", "https://"))  # the others are a list and its lines
        said = (
            f"not read to the end ({console.plain(problem)}): {where}" if page else f"{where}: {console.plain(problem)}"
        )
        out.print(Text.assemble(("! ", "yellow"), said), soft_wrap=True)
    for overlap in report.label_conflicts:
        out.print(Text.assemble(("! ", "yellow"), console.plain(str(overlap))), soft_wrap=True)
    if report.failed or report.failed_pages:
        failed = [(sum(report.failed.values()), "product"), (report.failed_pages, "page")]
        said = " and ".join(f"{count:,} {what}{'s' * (count > 1)}" for count, what in failed if count)
        out.print(f"[yellow]![/] {said} failed: the same command tries them again", soft_wrap=True)
    if report.dropped or report.failed:
        drops = report.folder / "drops.jsonl"
        out.print(f"left out, one by one: {console.literal(str(drops))}", soft_wrap=True)
        out.print(f"left out, to look at: {console.literal(str(drops.with_suffix('.html')))}", soft_wrap=True)
    out.print(f"shard set: {console.literal(str(report.folder))}", soft_wrap=True)


def _outcomes(report: CrawlReport) -> Table:
    table = console.table("Products", "outcome", "why", "products", "share", right=("products", "share"))
    rows = [("[green]kept[/]", "", report.kept)]
    for outcome, style, counts in (("dropped", "yellow", report.dropped), ("failed", "red", report.failed)):
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        rows += [(f"[{style}]{outcome}[/]", console.literal(reason), count) for reason, count in ordered]
    for outcome, reason, count in rows:
        table.add_row(outcome, reason, f"{count:,}", f"{count / report.products:.1%}" if report.products else "")
    table.add_row("[bold]all[/]", "", f"[bold]{report.products:,}[/]", "")
    return table


def _refreshed(found: dict[str, int]) -> Table:
    table = console.table("Refresh", "since the crawl before", "products", right=("products",))
    for name, count in found.items():
        kind, _, what = name.partition("_")
        if name == "unasked":
            name = "unchanged, for it could not be asked"
        elif name == "not_met":
            name = "not met, for pages could not be read"
        elif what:
            name = f"  {kind}: {what}"
        if count or name in ("new", "changed", "unchanged", "vanished"):
            table.add_row(name, f"{count:,}")
    return table


def _labels(report: CrawlReport) -> Table:
    table = console.table("Labels", "label", "samples", right=("samples",))
    for label, count in report.labels.items():
        table.add_row(console.literal(label), f"{count:,}")
    return table


def _rates(report: CrawlReport) -> Text:
    runs = "" if report.already_finished or not report.answered else f", {report.answered:,} images by this run"
    alike = f"{report.kept:,} samples in {report.groups:,} groups of near-duplicates"
    parts = [alike, f"{report.requests:,} requests", console.amount(report.bytes)]
    if report.images_per_s:
        parts.append(f"{report.images_per_s:,.0f} images/s")
    if report.bytes_per_s:
        parts.append(f"{console.amount(report.bytes_per_s)}/s")
    if len(report.by_host) > 1:
        parts.append(f"{len(report.by_host):,} hosts")
    retries = sum(int(host["retries"]) for host in report.by_host.values())
    parts.append(f"{retries:,} retries")
    return Text(", ".join(parts) + runs, style="dim")


def _by_problem(report: CrawlReport) -> dict[str, list[str]]:
    """Category pages that could not be read, by what was wrong: a line a class, not a line a page."""
    classes: dict[str, list[str]] = {}
    for url, problem in report.problems.items():
        classes.setdefault(problem, []).append(url)
    return classes
