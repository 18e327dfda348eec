"""Two records: faster, slower, cannot tell; and when no verdict is given."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bassline import console
from bassline.__main__ import app
from bench.compare import compare
from bench.errors import BenchError
from bench.record import Record, measured, read_record, write_record
from bench.stats import summarise

RECORDS = Path(__file__).parents[2] / "bench" / "records"
HERE = {"digest": "a", "cpu": "x", "cores": 2}


def _record(rates: list[float], unit: str = "images/s", **more: Any) -> Record:
    told = {"environment": HERE, "noise": {"warm": 0.01}, **more}
    return Record("stalls", {"batch": 8}, {"warm": measured(unit, summarise(rates))}, **told)


def _loaders(peer: str = "ffcv", version: str = "1.0.2", **rates: float) -> Record:
    """Ours beside others, five rounds; every machine's mood is in all of a round."""
    measurements = {
        name: measured("images/s", summarise(_spread(rate)), ours=name.startswith("stream"))
        for name, rate in rates.items()
    }
    return Record("loaders", {"peers": {peer: version}}, measurements, environment=HERE)


def _spread(rate: float, share: float = 0.01) -> list[float]:
    return [rate * (1 + share * step) for step in (-1, -0.5, 0, 0.5, 1)]


@pytest.mark.parametrize(
    ("unit", "old", "new", "verdict"),
    [
        ("images/s", 100, 80, "slower"),
        ("images/s", 100, 125, "faster"),
        ("images/s", 100, 99, "cannot tell"),
        ("s", 100, 80, "faster"),
        ("s", 100, 125, "slower"),
    ],
)
def test_rates_and_times(unit: str, old: float, new: float, verdict: str) -> None:
    (row,) = compare(_record(_spread(old), unit), _record(_spread(new), unit)).rows
    assert row.verdict == verdict
    assert row.low is not None
    assert row.high is not None
    assert row.low <= row.slowdown <= row.high
    assert row.slowdown == pytest.approx(new / old if unit == "s" else old / new)


def test_the_noise_floor_and_the_spread_must_be_beaten() -> None:
    old, new = _record(_spread(100)), _record(_spread(90))
    assert compare(old, new).regressed == ("warm",)
    assert compare(_record(_spread(100), noise={"warm": 0.15}), new).regressed == ()
    assert compare(_record(_spread(100, 0.3)), _record(_spread(90, 0.3))).rows[0].verdict == "cannot tell"
    assert compare(_record([100.0]), _record([50.0])).rows[0].verdict == "cannot tell"


def test_a_rate_alone_is_judged_only_where_its_noise_is_known() -> None:
    old, new = _record(_spread(100), noise={}), _record(_spread(70), noise={})
    (row,) = compare(old, new).rows
    assert (row.verdict, row.why, row.threshold) == ("cannot tell", "no A/A runs", None)
    assert compare(old, new, noise=0.1).regressed == ("warm",)
    assert compare(old, new, noise=0.5).rows[0].why == "within the noise"
    with pytest.raises(BenchError, match="share"):
        compare(old, new, noise=-0.1)


def test_ours_is_judged_beside_theirs_whatever_the_hour() -> None:
    old = _loaders(stream=100, ffcv=110)
    slower_hour = compare(old, _loaders(stream=75, ffcv=82.5))
    assert slower_hour.regressed == ()
    assert {row.name: row.verdict for row in slower_hour.rows} == {
        "stream": "cannot tell", "ffcv": "", "stream / ffcv": "cannot tell",
    }  # fmt: skip
    assert compare(old, _loaders(stream=70, ffcv=110)).regressed == ("stream / ffcv",)
    assert compare(old, _loaders(stream=84, ffcv=132)).regressed == ("stream / ffcv",)  # in a faster hour


def test_a_peer_that_changed_is_not_our_regression() -> None:
    old = _loaders(stream=100, ffcv=110)
    found = compare(old, _loaders(version="1.1", stream=100, ffcv=170))
    assert (found.regressed, found.peers) == ((), ("ffcv 1.0.2 and 1.1",))
    assert [row.name for row in found.rows] == ["stream", "ffcv"]
    assert compare(old, _loaders(version="1.1", stream=100, ffcv=60)).regressed == ()
    assert compare(old, _loaders(version="1.1", stream=60, ffcv=60), noise=0.1).regressed == ("stream",)


def test_what_did_not_change_takes_the_place_of_a_peer_that_did() -> None:
    old = _loaders(stream=100, ffcv=110, decode=120)
    assert compare(old, _loaders(version="1.1", stream=70, ffcv=70, decode=120)).regressed == ("stream / decode",)
    peer = _loaders("mosaicml-streaming", stream=100, mds=10)
    assert compare(peer, _loaders("mosaicml-streaming", "2", stream=70, mds=10)).regressed == ()


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("2026-11-29-loaders", "stream-simplejpeg", "imagefolder"),
        ("2026-11-29-loaders-ffcv", "stream-simplejpeg", "decode"),
        ("2026-11-29-crawl", "bassline", "bare"),
        ("2026-11-29-crawl-hosts", "together", "alone"),
        ("2026-11-29-train-64", "epochs ours", "epochs plain"),
        ("2026-11-29-stalls", "warm", ""),
    ],
)
def test_a_third_less_in_a_real_record_is_a_regression(name: str, ours: str, theirs: str) -> None:
    old = read_record(RECORDS / f"{name}.json")
    assert compare(old, old).regressed == ()
    entry = old.measurements[ours]
    share = 0.7 if entry["unit"].endswith("/s") else 1 / 0.7
    worse = {**entry, "values": [value * share for value in entry["values"]]}
    found = compare(old, replace(old, measurements={**old.measurements, ours: worse}))
    assert found.regressed == (f"{ours} / {theirs}" if theirs else ours,)


def test_the_same_thing_twice_is_seldom_a_regression() -> None:
    draw = random.Random(0)
    told = [compare(*(_record([draw.gauss(100, 3) for _ in range(5)]) for _ in range(2))).regressed for _ in range(400)]
    assert sum(map(bool, told)) <= 10  # 2.5 % by chance, fewer beyond the floor of 2 %


def test_another_machine_or_another_task_gets_no_verdict() -> None:
    old = _record(_spread(100))
    other = compare(old, _record(_spread(50), environment={"digest": "b", "cpu": "y", "cores": 2}))
    assert (other.regressed, other.differing, other.rows[0].verdict) == ((), ("cpu: x and y",), "")
    task = compare(old, Record("stalls", {"batch": 16}, old.measurements, environment=HERE))
    assert task.differing == ("batch: 8 and 16",)
    with pytest.raises(BenchError, match="bench crawl"):
        compare(old, Record("crawl", {}, {}, environment=HERE))


def test_the_command_fails_on_a_regression(tmp_path: Path) -> None:
    paths = []
    for name, rate in (("old", 100.0), ("new", 70.0)):
        paths.append(str(tmp_path / f"{name}.json"))
        write_record(_record(_spread(rate)), Path(paths[-1]))
    done = CliRunner().invoke(app, ["bench", "compare", *paths, "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout.splitlines()[-1])["regressed"] == ["warm"]
    assert CliRunner().invoke(app, ["bench", "compare", *paths[::-1]]).exit_code == 0
    assert CliRunner().invoke(app, ["bench", "compare", paths[0], paths[0]]).exit_code == 0


def test_the_command_says_what_it_cannot_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.out, "width", 200)
    paths = [str(tmp_path / f"{name}.json") for name in ("old", "new")]
    for path, version, rate in zip(paths, ("1.0.2", "1.1"), (100.0, 60.0), strict=True):
        write_record(_loaders(version=version, stream=rate, ffcv=110), Path(path))
    done = CliRunner().invoke(app, ["bench", "compare", *paths])
    assert done.exit_code == 0
    assert "no A/A runs" in done.stdout
    assert "cannot tell" in done.stdout
    assert "--noise" in done.stdout
    assert "ffcv 1.0.2 and 1.1" in done.stdout
    assert CliRunner().invoke(app, ["bench", "compare", *paths, "--noise", "0.1"]).exit_code == 1


def test_records_without_anything_in_common_are_no_pass() -> None:
    with pytest.raises(BenchError, match="no measurement in common"):
        compare(_record([1.0] * 5), replace(_record([1.0] * 5), measurements={}))
