from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from bassline import chart, console, results
from bassline.report import time_parts, write_page
from bassline.run_folder import RunUnreadable, find_runs, read_run

from .conftest import Run
from .run_folders import make_run, make_split


@pytest.fixture
def runs(tmp_path: Path, thumbnails: dict[str, list[Path]]) -> Path:
    answers = make_split(tmp_path / "parts", thumbnails)
    make_run(tmp_path / "runs" / "T5", "T5", sorted(thumbnails), answers)
    make_run(tmp_path / "runs" / "T1", "T1", sorted(thumbnails), answers, always="guitar")
    return tmp_path / "runs"


def test_a_page_is_whole_in_itself(runs: Path, tmp_path: Path) -> None:
    found = find_runs([runs])
    page = write_page(found, tmp_path / "r.html", title="<Ten> & labels", lead="x", data=tmp_path / "parts")
    html = page.read_text()
    assert "&lt;Ten&gt; &amp; labels" in html
    assert not re.search(r"""(src|href)=(?!"data:image/)""", html), "no outside asset"
    assert "<script" not in html
    assert html.count('<div class="thumb"') == 24 + min(24, len(_wrong(found[1].folder)))
    assert "T1 learned only to say “guitar”" in html
    assert not list(tmp_path.glob("*.part"))


def _wrong(folder: Path) -> list[dict[str, str]]:
    answers = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    return [answer for answer in answers if answer["label"] != answer["predicted"]]


def test_the_table_says_what_a_number_means(runs: Path) -> None:
    t1, t5 = find_runs([runs])
    (said,) = results.warnings([t1, t5])
    assert said.startswith("T1 learned only to say 'guitar'")
    assert results.net_summary(t5.config["net"]) == "5x5/10 bn"
    row = dict(zip(results.HEADINGS, results.cells(t5), strict=True))
    assert row["batch"] == "256"
    assert row["best epoch"] == "13"
    assert row["test acc %"] == f"{100 * t5.result['test']['accuracy']:.2f}"


def test_a_narrow_table_cuts_no_net_short(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = Console(width=80, file=io.StringIO())
    monkeypatch.setattr(console, "out", narrow)
    narrow.print(results.terminal_table(find_runs([runs])))
    assert "…" not in narrow.file.getvalue()  # type: ignore[attr-defined]


def test_the_time_no_part_claims_is_named(runs: Path) -> None:
    run = read_run(runs / "T5")
    parts = dict(time_parts(run))
    assert sum(parts.values()) == pytest.approx(run.result["total_s"])
    assert parts["other"] == pytest.approx(75.4 - 3.4 - 1.9 - 62.0 - 7.5)
    assert "compile" not in parts


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda run: (run / "result.json").unlink(), "the run is not finished"),
        (lambda run: (run / "result.json").write_text("{"), "result.json is damaged"),
        (lambda run: (run / "metrics.jsonl").unlink(), "metrics.jsonl is damaged or missing"),
        (lambda run: (run / "result.json").write_text('{"run": "x"}'), "no 'test'"),
    ],
)
def test_a_damaged_run_is_named(runs: Path, damage: object, said: str) -> None:
    damage(runs / "T5")  # type: ignore[operator]
    with pytest.raises(RunUnreadable, match="T5") as caught:
        read_run(runs / "T5")
    assert said in str(caught.value)


def test_the_report_command(runs: Path, bassline: Run, tmp_path: Path) -> None:
    done = bassline("report", runs, "--data", tmp_path / "parts")
    assert "T5" in done.stdout
    assert "T1 learned only to say 'guitar'" in done.stderr
    assert (runs / "report.html").is_file()
    told = json.loads(bassline("report", runs / "T5", "--json").stdout.splitlines()[-1])
    assert [run["run"] for run in told["runs"]] == ["T5"]


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    answers = [("a", "bass"), ("b", "guitar")]
    folders = [make_run(tmp_path / at, "T5", ("bass", "guitar"), answers) for at in ("one", "two", "three/two")]
    folders.append(make_run(tmp_path / "four", "T6", ("bass", "guitar"), answers))
    names = [run.name for run in find_runs([*folders, folders[0]])]
    assert names == ["T5 (one)", f"T5 ({tmp_path.name}/two)", "T5 (three/two)", "T6"]


def test_every_part_of_a_runs_time_has_a_colour_of_its_own(runs: Path, tmp_path: Path) -> None:
    names = ("start", "decode", "compile", "train", "validate", "test", "save", "ceiling", "other")
    bar = str(chart.stacked_bar([(name, 1.0) for name in names]))
    fills = re.findall(r'<i class="(fill\d)" style', bar)
    assert len(set(fills)) == len(names)
    write_page([read_run(runs / "T5")], tmp_path / "page.html", title="", lead="")
    html = (tmp_path / "page.html").read_text()
    assert all(f".{fill}{{background" in html and f"--t{fill[-1]}:#" in html for fill in fills)


def test_ticks_are_round_and_cover() -> None:
    assert chart._ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    for low, high in ((0.031, 0.047), (0, 0.0), (-3, 812), (0.998, 1.0)):
        ticks = chart._ticks(low, high)
        assert ticks[0] <= low + 1e-9
        assert ticks[-1] >= high - 1e-9
        assert len(ticks) <= 12
