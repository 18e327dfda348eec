from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.record import read_record, write_record
from bench.shards import TARGETS, measure_shards
from shards.errors import ConfigError


def test_every_stage_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    (tmp_path / "scratch").mkdir()
    record = measure_shards(
        samples=300,
        repeats=2,
        hashes=3000,
        many=10_000,
        scratch=tmp_path / "scratch",
        on_progress=lambda *at: seen.append(at),
    )
    assert list((tmp_path / "scratch").iterdir()) == []
    assert [name for _, _, name in seen[:6]] == ["write", "tarfile", "index", "read", "open and resume", "verify"]
    assert TARGETS.keys() <= record.measurements.keys() | record.ratios.keys()
    assert all(len(one["values"]) == 2 for one in record.measurements.values())
    assert record.verdict is not None
    assert record.verdict["targets"].keys() == TARGETS.keys()
    write_record(record, tmp_path / "record.json")
    assert read_record(tmp_path / "record.json").to_json() == json.loads(json.dumps(record.to_json()))


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ConfigError):
        measure_shards(samples=1)
