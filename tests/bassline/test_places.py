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
        told = {"err": " ".join(shown.err.split())}
        return told | json.loads(lines[-1]) if lines else told

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


def test_sets_in_a_store_are_cut_joined_and_compared(call: Call, photos: Path, tmp_path: Path) -> None:
    call("shards", "convert", str(photos), "--out", "memory://box/set")
    dropped = call(
        "shards", "drop", "memory://box/set", "--out", "memory://box/few", "--where", "label = bass", "--reason", "loud"
    )
    assert (dropped["samples"], dropped["dropped"]) == (20, 20)
    merged = call("shards", "merge", "memory://box/set", "memory://box/few", "--out", "memory://box/both")
    assert (merged["samples"], merged["same_bytes"]) == (40, 20)
    call("shards", "copy", "memory://box/both", "both")
    with ShardSet.open(tmp_path / "both") as both:
        origins = [origin["set"] for i in range(len(both)) for origin in both.meta(i).get("origins", [])]
        assert set(origins) == {"set", "few"}  # and not the folders that stood for them
        assert [one["name"] for one in both.manifest.source["of"]] == ["set", "few"]
    found = call("shards", "diff", "memory://box/set", "memory://box/few")
    assert (found["counts"]["same"], len(found["removed"])) == (20, 20)
    assert call("shards", "shuffle", "memory://box/set", "--out", "memory://box/shuffled", "--seed", "3")
    told = call("shards", "drop", "memory://box/none", "--out", "x", "--where", "width < 3", "--reason", "x", code=1)
    assert "memory://box/none: no dataset.json there" in told["err"]
    call("shards", "split", "memory://box/set", "--out", "memory://box/parts", "--fractions", "0.5,0.25,0.25")
    told = call("shards", "drop", "memory://box/parts", "--out", "x", "--where", "width < 3", "--reason", "x", code=1)
    assert "memory://box/parts: no dataset.json here" in told["err"]
    assert "views" not in told["err"]
    told = call("shards", "split", "memory://box/set", "--out", "memory://box/folds", "--folds", "3", code=2)
    assert "folds are not written to stores" in told["err"]


def test_what_became_of_a_set_in_its_store_is_found_and_mended_elsewhere(call: Call, photos: Path) -> None:
    """The cache has the tar as it was, by its digest: verify asks the store."""
    call("shards", "convert", str(photos), "--out", "memory://box/set")
    assert call("shards", "verify", "memory://box/set")["findings"] == []
    call("shards", "diff", "memory://box/set", "memory://box/set")
    store = Store("memory://box/set")
    data = bytearray(store._fs.cat(store.at("shard-000000.tar")))
    data[520] ^= 1
    store._fs.pipe(store.at("shard-000000.tar"), bytes(data))
    assert call("shards", "info", "memory://box/set")["samples"] == 40
    mended = call("shards", "verify", "memory://box/set", "--repair", "--out", "memory://box/mended")
    assert {found["kind"] for found in mended["findings"]} >= {"crc", "digest"}
    assert (mended["repaired"]["set"], mended["repaired"]["kept"]) == ("memory://box/mended", 39)
    assert call("shards", "verify", "memory://box/mended")["findings"] == []
    (lost,) = Store("memory://box/mended").read("lost.jsonl").splitlines()
    assert json.loads(lost)["file"] == "shard-000000.tar"
    store._fs.pipe(store.at("shard-000000.tar"), bytes(data[:3000]))
    cut = call("shards", "verify", "memory://box/set", code=1)["findings"]
    assert {"truncated", "digest"} <= {found["kind"] for found in cut}
    store._fs.rm(store.at("shard-000000.tar"))
    assert [found["kind"] for found in call("shards", "verify", "memory://box/set", code=1)["findings"]] == ["missing"]
