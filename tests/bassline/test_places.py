"""Commands take addresses wherever they take sets: with a store in memory, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from PIL import Image

from bassline.__main__ import app
from shards.remote_errors import TransferFailed
from shards.shard_set import ShardSet
from shards.store import Store

Call = Callable[..., dict[str, Any]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Runs a command and gives its JSON; `code`: how it must end. The store in memory is emptied before and after."""
    fsspec.filesystem("memory").store.clear()  # one for the whole process
    monkeypatch.setenv("BASSLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            app([*words, "--json"])
        shown = capsys.readouterr()
        assert (ended.value.code or 0) == code, shown.err
        lines = shown.out.splitlines()
        return dict(json.loads(lines[-1])) if lines and code == 0 else {"err": " ".join(shown.err.split())}

    yield run
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(40):
        place = tmp_path / "photos" / ("bass" if number % 2 else "guitar")
        place.mkdir(parents=True, exist_ok=True)
        image = Image.effect_noise((24, 24), 90).convert("RGB")
        image.putpixel((0, 0), (number, number, number))
        image.save(place / f"{number}.png")
    return tmp_path / "photos"


def test_the_road_of_a_set_through_a_store(call: Call, photos: Path, tmp_path: Path) -> None:
    made = call("shards", "convert", str(photos), "--out", "memory://box/set")
    assert (made["samples"], made["out"]) == (40, "memory://box/set")
    assert not list((tmp_path / "cache" / "staging").glob("*"))
    assert call("shards", "info", "memory://box/set")["samples"] == 40
    assert len(call("shards", "head", "memory://box/set", "-n", "3")["samples"]) == 3
    assert call("shards", "verify", "memory://box/set")["findings"] == []
    call("shards", "split", "memory://box/set", "--out", "memory://box/parts", "--fractions", "0.5,0.25,0.25")
    assert call("shards", "info", "memory://box/parts")
    call("shards", "convert", "memory://box/parts", "--out", "small", "--size", "16")
    with ShardSet.open(tmp_path / "small" / "train") as part:
        assert set(part.widths.tolist()) == {16}
    assert call("shards", "copy", "memory://box/set", "here")["there"] == 0
    assert call("shards", "copy", "memory://box/set", "here")["there"] == 1
    assert call("shards", "diff", "memory://box/set", "here")
    assert not list((tmp_path / "cache" / "pins").iterdir())
    assert all(len(path.name) == 64 for path in (tmp_path / "cache" / "views").iterdir())


def test_a_place_that_is_taken_is_told_before_any_work(call: Call, photos: Path) -> None:
    call("shards", "convert", str(photos), "--out", "memory://box/set")
    told = call("shards", "convert", str(photos), "--out", "memory://box/set", code=1)
    assert "memory://box/set: holds something already" in told["err"]


def test_what_cannot_be_sent_is_kept_and_named(call: Call, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Store.upload

    def failing(self: Store, name: str, *rest: Any) -> None:
        if name == "samples.idx":
            raise TransferFailed(self.at(name), 5, "cut")
        real(self, name, *rest)

    monkeypatch.setattr(Store, "upload", failing)
    told = call("shards", "convert", str(photos), "--out", "memory://box/set", code=1)["err"]
    monkeypatch.setattr(Store, "upload", real)
    words = told[told.index("`bassline ") + 10 : told.rindex("`")].split()
    assert call(*words)["there"] == 1  # the remedy works, and goes on where it stopped
    assert call("shards", "info", "memory://box/set")["samples"] == 40


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["crawl", "embedded", "--out", "s3://bucket/set"], "s3://bucket/set: an address is not taken here"),
        (["shards", "index", "s3://bucket/set"], "`bassline shards copy` carries sets"),
        (["shards", "info", "s3://me:secret@bucket/set"], "s3://bucket/set: the address has credentials in it"),
        (["--cache-size", "lots", "shards", "info", "memory://box/set"], "'lots': expected a size such as 20GB"),
    ],
)
def test_wrong_places_end_with_2(call: Call, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASSLINE_CACHE_SIZE", "")
    told = call(*words, code=2)["err"]
    assert said in told
    assert "secret" not in told


def test_a_set_in_a_store_is_not_repaired_in_place(call: Call, photos: Path) -> None:
    call("shards", "convert", str(photos), "--out", "memory://box/set")
    told = call("shards", "verify", "memory://box/set", "--repair", code=2)["err"]
    assert "a set in a store is not changed in place" in told
