import json
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.record import SCHEMA, Record, fingerprint, measured, read_record, write_record
from bench.stats import summarise


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = Record("loaders", {"batch": 256}, {"ours": measured("images/s", summarise([1.0, 2.0, 3.0]), cpu_s=0.5)})
    write_record(record, tmp_path / "record.json")
    assert read_record(tmp_path / "record.json") == record
    assert json.loads((tmp_path / "record.json").read_text())["schema"] == SCHEMA
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_the_fingerprint_names_no_machine() -> None:
    import socket

    found = fingerprint()
    assert found["cores"] >= 1
    assert socket.gethostname() not in json.dumps(found)
    assert found["digest"] == fingerprint()["digest"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": "bassline.bench/0"}'])
def test_a_file_that_is_no_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(BenchError, match=r"bad\.json"):
        read_record(tmp_path / "bad.json")
