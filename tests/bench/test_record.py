import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bassline.bench_compare import _notes, _table
from bench.compare import compare
from bench.errors import BenchError
from bench.record import SCHEMA, Record, fingerprint, measured, read_record, write_record
from bench.stats import summarise

RECORDS = Path(__file__).parents[2] / "bench" / "records"
NO_RECORD = "2026-11-28-residual.json"  # a result.json of a run


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


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda path: path.stem)
def test_the_records_that_are_kept_can_be_read(path: Path) -> None:
    if path.name == NO_RECORD:
        with pytest.raises(BenchError, match="schema"):
            read_record(path)
    else:
        assert read_record(path).kind


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", None),
        ("environment.digest", 3),
        ("settings.peers.ffcv", 1.0),
        ("measurements.ffcv.unit", None),
        ("measurements.ffcv.values", "fast"),
        ("measurements.ffcv.values.2", "fast"),
        ("measurements.ffcv.values.2", True),
        ("measurements.ffcv.values.2", 10**400),
        ("noise", {"ffcv": -1}),
    ],
)
def test_a_part_in_another_form_is_named(tmp_path: Path, key: str, value: Any) -> None:
    data = json.loads((RECORDS / "2026-11-29-loaders-ffcv.json").read_text())
    place, *rest = [int(step) if step.isdigit() else step for step in key.split(".")][::-1]
    part = data
    for step in rest[::-1]:
        part = part[step]
    part[place] = value
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data))
    with pytest.raises(BenchError, match=rf"bad\.json: {key}") as caught:
        read_record(path)
    assert "\n" not in str(caught.value)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["loaders-ffcv", "crawl", "crawl-hosts"]), st.data())
def test_a_record_that_was_cut_or_changed_is_compared_or_refused(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    whole = RECORDS / f"2026-11-29-{name}.json"
    changed = json.loads(whole.read_text())
    part = changed
    while True:
        places = sorted(part) if isinstance(part, dict) else range(len(part))
        place = data.draw(st.sampled_from(places))
        if not (isinstance(part[place], dict | list) and part[place] and data.draw(st.booleans(), label="deeper")):
            break
        part = part[place]
    if data.draw(st.booleans(), label="delete"):
        del part[place]
    else:
        part[place] = data.draw(ANY)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(changed))
    for old, new in ((whole, path), (path, whole), (path, path)):
        try:
            found = compare(read_record(old), read_record(new), noise=0.0)
        except BenchError:
            continue
        _table(found)
        _notes(found)


@given(st.integers(min_value=0))
def test_a_record_that_ends_early_is_refused(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    whole = (RECORDS / "2026-11-29-crawl.json").read_bytes().rstrip()
    path = tmp_path_factory.getbasetemp() / "short.json"
    path.write_bytes(whole[: length % len(whole)])
    with pytest.raises(BenchError, match=r"short\.json"):
        read_record(path)
