"""The crawl's panel on screens of any size, in a pipe, without colour; and what a hostile shop may not do to it."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from time import monotonic, thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from bassline import panel
from bassline.console import amount, plain
from bassline.panel import CrawlPanel, draw, sentence
from crawler.report import CrawlStats, HostStats
from crawler.traffic import FETCH_BUCKETS_S, Problem

BUCKETS = (0,) * (len(FETCH_BUCKETS_S) + 1)


def host(name: str, in_flight: int = 3, **told: float) -> HostStats:
    numbers = {"requests": 1200, "bytes": 6_000_000, "retries": 4, "window": 8, "parked_s": 0.0, "interval_s": 0.1}
    return HostStats(name, in_flight=in_flight, pending=900, fetch_s=31.0, buckets=BUCKETS, **{**numbers, **told})  # type: ignore[arg-type]


def busy(**told: object) -> CrawlStats:
    stats = CrawlStats(
        stage="collect", seconds=95, categories=40, pages=120, products=9000, images=8000, images_done=3812, kept=3790,
        dropped={"too-small": 14, "http-404": 8}, requests=4000, bytes=21_400_000, in_flight=24, retries=6,
        pages_per_s=8.4, images_per_s=412.0, bytes_per_s=2.1e6, eta_s=75.0, to_examine=12, to_ledger=3,
        hosts=tuple(host(f"thumbs{n}.example.org") for n in range(60)),
        problems={"http-404": Problem(8, "http://shop/1.jpg", "")},
    )  # fmt: skip
    return replace(stats, **told)  # type: ignore[arg-type]


def screen(stats: CrawlStats, width: int, height: int) -> list[str]:
    out = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    out.print(draw(stats, "music shop", width, height))
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.file.getvalue())  # type: ignore[attr-defined]
    return text.rstrip("\n").split("\n")


@given(
    st.integers(24, 260), st.integers(6, 80), st.sampled_from(["explore", "load", "collect", "settle", "done"]),
    st.integers(0, 60), st.sampled_from([None, 0.0, 3.0, 1e6]), st.integers(0, 10**9), st.booleans(),
)  # fmt: skip
def test_it_fits_every_screen(
    width: int, height: int, stage: str, hosts: int, eta: float | None, images: int, troubled: bool
) -> None:
    stats = busy(stage=stage, eta_s=eta, images=images, images_done=images // 3)
    stats = replace(stats, hosts=stats.hosts[:hosts], **({} if troubled else {"dropped": {}, "problems": {}}))
    lines = screen(stats, width, height)
    assert len(lines) <= max(5, height - 1)
    assert {cell_len(line) for line in lines} == {width}


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
def test_what_stands_on_it(width: int, height: int) -> None:
    text = "\n".join(screen(busy(), width, height))
    for said in ("3,812 of 8,000 images", "48%", "images/s 412", "pages/s 8.4", "bytes/s 2.1 MB", "left 75 s",
                 "to examine 12", "14 too-small", "8 http-404", "thumbs0.example.org", "3/8",
                 "more hosts"):  # fmt: skip
        assert said in text, said


def test_an_end_that_cannot_be_known_is_not_invented() -> None:
    text = "\n".join(screen(busy(eta_s=None, listings_left=4), 100, 30))
    assert "left unknown: still finding pages (4 listings)" in text
    assert "unknown: still finding pages" in sentence(busy(eta_s=None, listings_left=4))


def test_a_parked_host_says_until_when() -> None:
    assert "parked 31 s" in "\n".join(screen(busy(hosts=(host("a.example", parked_s=30.6),)), 80, 24))


def test_a_host_in_trouble_says_so() -> None:
    hosts = (replace(host("a.example"), given_up="host-down"), replace(host("b.example"), failing=5, parked_s=8.0))
    text = "\n".join(screen(busy(hosts=hosts), 80, 24))
    assert "given up: host-down" in text
    assert "fails, again in 8 s" in text


def test_every_stage_says_what_it_is_at() -> None:
    loading = CrawlStats(stage="load", products=1234)
    assert "reading the list" in "\n".join(screen(loading, 100, 24))
    assert "1,234 addresses so far" in "\n".join(screen(loading, 100, 24))
    assert sentence(loading) == "reading the list, 1,234 addresses"
    settling = CrawlStats(stage="settle", step="shard 2 of 9 that change")
    assert "settling: shard 2 of 9 that change" in "\n".join(screen(settling, 100, 24))


def test_a_refresh_says_what_it_found() -> None:
    found = {"new": 3, "changed": 4, "unchanged": 50, "vanished": 6}
    shown = "\n".join(screen(CrawlStats(stage="settle", unchanged=5, refresh=found), 100, 24))
    assert "unchanged 5 " in shown
    assert "new 3  changed 4  unchanged 50  vanished 6" in shown


def test_a_pipe_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel, "_LINE_S", 0.0)
    out = Console(file=io.StringIO(), force_terminal=False, width=80)
    with CrawlPanel("shop", out) as drawn:
        drawn.update(busy())
        drawn.update(busy())
    said = out.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in said
    assert said.count("\n") == 3  # one line a class of problem, however often it is met
    assert said.startswith("! http-404: first at http://shop/1.jpg\ncrawl: 3,812 of 8,000 images, 412 images/s")


def test_a_terminal_may_echo_ctrl_c_beside_it() -> None:
    out = Console(file=io.StringIO(), force_terminal=True, width=80, height=30, color_system=None)
    with CrawlPanel("shop", out) as drawn:
        drawn.update(busy())
        lines = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", out.file.getvalue()).splitlines()  # type: ignore[attr-defined]
    assert {cell_len(line) for line in lines if line.startswith(("╭", "│", "╰"))} == {78}


def test_quiet_is_quiet() -> None:
    out = Console(file=io.StringIO(), force_terminal=True)
    with CrawlPanel("shop", out, quiet=True) as drawn:
        drawn.update(busy())
    assert out.file.getvalue() == ""  # type: ignore[attr-defined]


def test_no_colour_has_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = Console(file=io.StringIO(), force_terminal=True, width=90, height=30)
    with CrawlPanel("shop", out) as drawn:
        drawn.update(busy())
    styles = re.findall(r"\x1b\[([0-9;]*)m", out.file.getvalue())  # type: ignore[attr-defined]
    assert {number for style in styles for number in style.split(";")} <= {"", "0", "1", "2"}  # bold and dim only


def test_a_narrowed_screen_is_cleared_of_the_wrapped_frame() -> None:
    out = Console(file=io.StringIO(), force_terminal=True, width=120, height=30, color_system=None)
    with CrawlPanel("shop", out) as drawn:
        drawn.update(busy())
        drawn._due = 0.0
        out.width = 60
        before = len(out.file.getvalue())  # type: ignore[attr-defined]
        rows = drawn._height
        drawn.update(busy())
        erased = out.file.getvalue()[before:].rpartition("╭")[0]  # type: ignore[attr-defined]
    assert erased.count("\x1b[2K") >= 2 * rows


def test_a_shop_cannot_speak_to_the_terminal() -> None:
    evil = "http://shop/\x1b]0;owned\x07\x1b[2J\u202e[bold]x"
    stats = busy(problems={"http-404": Problem(1, evil, "\x9b31m\r\n")}, hosts=(host(evil),), dropped={evil: 1})
    out = Console(file=io.StringIO(), force_terminal=False, width=100)
    with CrawlPanel(evil, out) as drawn:
        drawn.update(stats)
    out.print(draw(stats, evil, 100, 30))
    said = out.file.getvalue()  # type: ignore[attr-defined]
    assert not {"\x1b", "\x07", "\x9b", "\r", "\u202e"} & set(said)
    assert "[bold]x" in said
    assert plain("bässe ♪") == "bässe ♪"


def test_it_costs_less_than_one_percent() -> None:
    """Of one core, after the first frame: the panel spaces its frames by what they cost."""
    out = Console(file=io.StringIO(), force_terminal=True, width=160, height=50)
    with CrawlPanel("shop", out) as drawn:
        drawn.update(busy())
        first, began, used = drawn.cost_s, monotonic(), thread_time()
        frames = 0
        while frames < 2 and monotonic() - began < 20:
            before = drawn.cost_s
            drawn.update(busy())
            frames += drawn.cost_s != before
        spent = monotonic() - began
    assert frames == 2
    assert first > 0
    # the last frame's pause is still to come
    assert (drawn.cost_s - first) / (spent + drawn._due - monotonic()) < 0.01
    assert thread_time() > used


class _Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_crawl_goes_on_when_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel, "_LINE_S", 0.0)
    with CrawlPanel("shop", Console(file=_Closed(), force_terminal=False)) as drawn:
        drawn.update(busy(problems={}))
        drawn.update(busy())
    assert drawn._quiet


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 B"), (812, "812 B"), (4200, "4.2 kB"), (999_600, "1.0 MB"), (2e12, "2.0 TB"), (5e16, "50,000 TB")],
)
def test_amounts(size: float, said: str) -> None:
    assert amount(size) == said
