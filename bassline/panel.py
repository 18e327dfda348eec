"""The live panel of a crawl: how fast, how far, where it waits, what was dropped. Plain lines where there is no screen.

It bounds its own cost: a frame that took t seconds of processor time is followed by none for 150 t, and there are at
most four a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic, thread_time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.box import ROUNDED
from rich.console import Console
from rich.control import Control
from rich.live import Live
from rich.panel import Panel
from rich.segment import ControlType
from rich.text import Text

from bassline.console import amount, plain, seconds

if TYPE_CHECKING:
    from crawler.report import CrawlStats, HostStats

__all__ = ["CrawlPanel", "draw", "sentence"]

_FRAME_S = 0.25
_SHARE = 1 / 150  # of one core
_LINE_S = 5.0
_MARGIN = 2  # right of it: there a terminal echoes ^C, and must not wrap
_MOST_HOSTS = 16  # each costs a quarter of a millisecond a frame
_STAGES = {
    "explore": "exploring categories",
    "load": "reading the list",
    "collect": "collecting images",
    "settle": "settling",
    "done": "done",
}
_BEFORE = ("explore", "load")  # the stages that find out what there is to fetch


class CrawlPanel:
    """Draws a crawl on `console` while it runs; a context manager.

    Args:
        name: of the site.
        console: a terminal gets the panel, anything else a line every five seconds.
        quiet: nothing at all.
    """

    def __init__(self, name: str, console: Console, *, quiet: bool = False) -> None:
        self._name, self._console, self._quiet = name, console, quiet
        self._name_shown = name
        self._live: Live | None = None
        self._width = self._height = 0  # of the last frame
        self._due = 0.0
        self._told: set[str] = set()
        self.cost_s = 0.0  # processor time spent on drawing

    def __enter__(self) -> CrawlPanel:
        screen = self._console.is_terminal and not self._console.is_dumb_terminal
        if screen and not self._quiet:
            self._begin_anew(self._console.size.width)
        else:
            self._due = monotonic() + _LINE_S
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stopping(self) -> None:
        """Says in the next frame that a signal has come."""
        self._name_shown, self._due = f"{self._name}: stopping, keeping what is done", 0.0

    def close(self) -> None:
        """Takes the panel off the screen and gives the cursor back."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._quiet = True

    def update(self, stats: CrawlStats) -> None:
        """Draws if it is time to; a class of problem met for the first time is told at once.

        A crawl does not end because nobody reads what it says: when the pipe closes, nothing more is said.
        """
        if self._quiet:
            return
        try:
            self._update(stats)
        except (OSError, SystemExit):  # rich ends a process whose pipe has closed
            self._quiet = True

    def _update(self, stats: CrawlStats) -> None:
        if len(stats.problems) > len(self._told):
            self._tell_problems(stats)
        now = monotonic()
        if now < self._due:
            return
        if self._live is None:
            self._due = now + _LINE_S
            self._console.print(Text(f"crawl: {sentence(stats)}"), soft_wrap=True)
            return
        began = thread_time()
        width, height = self._console.size
        if width != self._width:
            self._begin_anew(width)
        assert self._live
        lines = _lines(stats, width - _MARGIN - 4, height - 3)
        self._height = len(lines) + 2
        self._live.update(_framed(lines, stats, self._name_shown, width - _MARGIN), refresh=True)
        cost = thread_time() - began
        self.cost_s += cost
        self._due = now + max(_FRAME_S, cost / _SHARE)

    def _begin_anew(self, width: int) -> None:
        """After the screen's width has changed: a narrower one has wrapped the last frame into more rows."""
        if self._live is not None:
            self._live.stop()
            more = self._height * (-(-(self._width - _MARGIN) // width) - 1)
            for _ in range(more):
                self._console.control(Control((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)))
        self._width, self._height = width, 0
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    def _tell_problems(self, stats: CrawlStats) -> None:
        for reason, problem in stats.problems.items():
            if reason not in self._told:
                self._told.add(reason)
                detail = f" ({plain(problem.first_detail)})" if problem.first_detail else ""
                text = Text.assemble(("! ", "yellow"), f"{plain(reason)}: first at {plain(problem.first_url)}{detail}")
                self._console.print(text, soft_wrap=True)


def sentence(stats: CrawlStats) -> str:
    """The crawl in one plain line."""
    if stats.stage == "explore":
        return f"exploring, {stats.categories:,} categories, {stats.in_flight} in flight"
    if stats.stage == "load":
        return f"reading the list, {stats.products:,} addresses"
    if stats.stage != "collect":
        return f"{_stage(stats)}, {stats.images_done:,} of {stats.images:,} images"
    dropped = sum(stats.dropped.values())
    parts = [
        f"{stats.images_done:,} of {stats.images:,} images",
        f"{stats.images_per_s:,.0f} images/s",
        f"{stats.pages_per_s:,.1f} pages/s",
        f"{amount(stats.bytes_per_s)}/s",
        f"{stats.in_flight} in flight",
        f"{dropped:,} dropped",
        f"{stats.retries:,} retries",
        f"left: {_left(stats)}",
    ]
    return ", ".join(parts)


def draw(stats: CrawlStats, name: str, width: int, height: int) -> Panel:
    """The panel, `width` characters wide, for a screen of `height` lines; never higher than it.

    Args:
        name: of the site.
    """
    return _framed(_lines(stats, width - 4, height - 3), stats, name, width)


def _lines(stats: CrawlStats, width: int, height: int) -> list[Text]:
    """What stands inside the frame, one line of the screen each; at least the first three."""
    lines = [_bar(stats, width), _pairs(_pace(stats), width), _pairs(_queues(stats), width)]
    below = list(_reasons(stats, width))
    if stats.refresh:
        shown = ("new", "changed", "unchanged", "vanished")
        below.insert(0, _pairs([(name, f"{stats.refresh[name]:,}") for name in shown], width))
    room = height - len(lines) - len(below)
    if room >= 3:
        lines += _hosts(stats.hosts, width, room)
    return [*lines, *below] if room >= 0 else lines


def _framed(lines: list[Text], stats: CrawlStats, name: str, width: int) -> Panel:
    title = Text.assemble(
        (" crawl ", "bold"),
        (plain(name), "bold cyan"),
        f" {_stage(stats)} ",
        (f"{_clock(stats.seconds)} ", "dim"),
    )
    # one text, not one a line, is a quarter of the cost less
    return Panel(
        Text("\n", no_wrap=True, overflow="ellipsis").join(lines),
        title=title,
        title_align="left",
        box=ROUNDED,
        border_style="dim",
        width=width,
    )


def _stage(stats: CrawlStats) -> str:
    return f"settling: {stats.step}" if stats.stage == "settle" and stats.step else _STAGES[stats.stage]


def _clock(value: float) -> str:
    whole = int(value)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _soon(value: float) -> str:
    """A time to wait, in whole seconds: what is guessed has no tenths."""
    whole = max(1, round(value))
    return f"{whole} s" if whole < 10 else seconds(whole) if whole < 7200 else _clock(whole)


def _left(stats: CrawlStats) -> str:
    if stats.stage in _BEFORE:
        return "unknown: still finding categories" if stats.stage == "explore" else "unknown: still reading"
    if stats.stage != "collect":
        return "soon"
    if stats.listings_left:
        return f"unknown: still finding pages ({stats.listings_left:,} listings)"
    return "unknown: nothing moves" if stats.eta_s is None else _soon(stats.eta_s)


def _bar(stats: CrawlStats, width: int) -> Text:
    known = stats.stage not in _BEFORE and stats.images > 0
    share = min(1.0, stats.images_done / stats.images) if known else 0.0
    said = f" {stats.images_done:,} of {stats.images:,} images {share:4.0%}" if known else ""
    if not known:
        return Text(
            f"{stats.categories:,} categories, {stats.products:,} products so far"
            if stats.stage != "load"
            else f"{stats.products:,} addresses so far",
            style="cyan",
            no_wrap=True,
            overflow="ellipsis",
        )
    room = max(8, width - len(said))
    full = round(room * share)
    return Text.assemble(("━" * full, "cyan"), ("━" * (room - full), "bright_black"), said, no_wrap=True)


def _pace(stats: CrawlStats) -> list[tuple[str, str]]:
    return [
        ("images/s", f"{stats.images_per_s:,.0f}"),
        ("pages/s", f"{stats.pages_per_s:,.1f}"),
        ("bytes/s", amount(stats.bytes_per_s)),
        ("in flight", f"{stats.in_flight}"),
        ("kept", f"{stats.kept:,}"),
        *([("unchanged", f"{stats.unchanged:,}")] if stats.unchanged else []),
        ("bytes", amount(stats.bytes)),
        ("retries", f"{stats.retries:,}"),
    ]


def _queues(stats: CrawlStats) -> list[tuple[str, str]]:
    return [
        ("left", _left(stats)),
        ("listings", f"{stats.listings_left:,}"),
        ("images", f"{max(0, stats.images - stats.images_done):,}"),
        ("to examine", f"{stats.to_examine:,}"),
        ("to ledger", f"{stats.to_ledger:,}"),
    ]


def _pairs(pairs: list[tuple[str, str]], width: int) -> Text:
    """As many of the pairs as the line holds."""
    text, used = Text(no_wrap=True), 0
    for name, value in pairs:
        size = len(name) + len(value) + 1 + 2 * bool(used)
        if used + size > width:
            break
        text.append("  " if used else "").append(f"{name} ", style="dim").append(value)
        used += size
    return text


def _hosts(hosts: tuple[HostStats, ...], width: int, room: int) -> Iterator[Text]:
    """A heading, a line a host as far as `room` lines reach, and what is not shown."""
    if not hosts:
        return
    wide = width >= 120
    name_width = min(44, max(12, width - (92 if wide else 52)))  # what the other columns take, the state with 20
    heading = f"{'host':<{name_width}}  {'in flight':<17}  {'waiting':>9}"
    heading += f"  {'requests':>9}  {'bytes':>9}  {'mean':>7}  {'retries':>7}" if wide else ""
    yield Text(f"{heading}  state", style="dim", no_wrap=True, overflow="ellipsis")
    shown = hosts[: max(1, min(_MOST_HOSTS, room - 2))]
    for host in shown:
        yield _host(host, name_width, wide)
    if rest := hosts[len(shown) :]:
        flying, waiting = sum(host.in_flight for host in rest), sum(host.pending for host in rest)
        more = f"and {len(rest):,} more hosts: {flying:,} in flight, {waiting:,} waiting"
        yield Text(more, style="dim", no_wrap=True, overflow="ellipsis")


def _host(host: HostStats, name_width: int, wide: bool) -> Text:
    slots = max(1, host.window)
    full = min(10, -(-10 * host.in_flight // slots))
    name = plain(host.host)
    name = name if len(name) <= name_width else f"{name[: name_width - 1]}…"
    text = Text.assemble(
        (f"{name:<{name_width}}", "bold"),
        "  ",
        ("█" * full, "green"),
        ("░" * (10 - full), "bright_black"),
        f" {f'{host.in_flight}/{slots}':<6}  {host.pending:>9,}",
        no_wrap=True,
        overflow="ellipsis",
    )
    if wide:
        mean = f"{1000 * host.fetch_s / host.requests:,.0f} ms" if host.requests else ""
        text.append(f"  {host.requests:>9,}  {amount(host.bytes):>9}  {mean:>7}  {host.retries:>7,}")
    if host.given_up:
        text.append(f"  given up: {plain(host.given_up)}", style="red")
    elif host.failing:
        text.append(f"  fails, again in {_soon(host.parked_s)}", style="red")
    elif host.parked_s > 0:
        text.append(f"  parked {_soon(host.parked_s)}", style="yellow")
    elif host.interval_s > 0:
        text.append(f"  {1 / host.interval_s:,.3g}/s at most", style="dim")
    return text


def _reasons(stats: CrawlStats, width: int) -> Iterator[Text]:
    for name, style, counts in (
        ("dropped", "yellow", stats.dropped),
        ("problems", "red", {reason: problem.count for reason, problem in stats.problems.items()}),
    ):
        if not counts or (name == "problems" and counts == stats.dropped):
            continue
        pairs = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        text, used = Text(f"{name} ", style=style, no_wrap=True), len(name) + 1
        for place, (reason, count) in enumerate(pairs):
            said = f"{', ' if place else ''}{count:,} {plain(reason)}"
            if used + len(said) > width - 4:
                text.append(", …", style="default")
                break
            text.append(said, style="default")
            used += len(said)
        yield text
