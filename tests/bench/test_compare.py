"""Two records: faster, slower, cannot tell; and when no verdict is given."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bassline.__main__ import app
from bench.compare import compare
from bench.errors import BenchError
from bench.record import Record, measured, write_record
from bench.stats import summarise

HERE = {"digest": "a", "cpu": "x", "cores": 2}


def _record(rates: list[float], unit: str = "images/s", **more: Any) -> Record:
    return Record("stalls", {"batch": 8}, {"warm": measured(unit, summarise(rates))}, **{"environment": HERE, **more})


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
