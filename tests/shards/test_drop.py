from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shards.diff import diff
from shards.drop import DROPS_NAME, DropProgress, drop, read_keys
from shards.errors import ConfigError
from shards.rules import parse
from shards.sample import Sample
from shards.shard_errors import TargetNotEmpty
from shards.shard_set import ShardSet
from shards.verify import verify
from shards.writer import write_set

from .conftest import Draw


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / DROPS_NAME).read_text().splitlines()]


def test_keys_and_rules_go_and_the_rest_stays_as_it_was(real: ShardSet, tmp_path: Path) -> None:
    chosen = {real.key(3): "ticked: flute, looks like sitar", real.key(50): ""}
    done = drop(real, tmp_path / "new", reason="blurred", keys=chosen, rules=[parse("label = violin")])
    gone = {real.key(i) for i in range(len(real)) if real.labels[real.label_ids[i]] == "violin"} | set(chosen)
    assert {one.key for one in done.dropped} == gone
    kept = [real.key(i) for i in range(len(real)) if real.key(i) not in gone]
    assert [done.made.key(i) for i in range(len(done.made))] == kept
    for i, key in enumerate(kept):
        was = real.find(key)
        assert was is not None
        assert done.made.image(i) == real.image(was)
        assert done.made.meta(i) == real.meta(was) | {"group": int(real.groups[was])}
    assert done.made.labels == real.labels
    assert done.made.counts["violin"] == 0
    source = done.made.manifest.source
    assert source["reason"] == "blurred"
    assert source["rules"] == ["label = violin"]
    assert source["of"] == real.digest
    assert source["was"] == real.manifest.source
    told = lines(tmp_path / "new")
    assert {line["key"] for line in told} == gone
    assert {line["reason"] for line in told} == {"blurred"}
    assert {line["detail"] for line in told} == {"label = violin", "ticked: flute, looks like sitar", "keys"}
    assert verify(tmp_path / "new") == []


def test_the_account_grows_with_each_drop(real: ShardSet, tmp_path: Path) -> None:
    first = drop(real, tmp_path / "a", reason="one", keys=[real.key(0)])
    (tmp_path / "b").mkdir()
    second = drop(first.made, tmp_path / "b", reason="two", keys=[real.key(1)])
    assert [(line["key"], line["reason"]) for line in lines(tmp_path / "b")] == [
        (real.key(0), "one"),
        (real.key(1), "two"),
    ]
    assert second.made.manifest.source["was"]["was"] == real.manifest.source


def test_empty_labels_can_be_forgotten(real: ShardSet, tmp_path: Path) -> None:
    done = drop(real, tmp_path / "new", reason="x", rules=[parse("label = banjo")], forget_empty_labels=True)
    assert done.made.labels == tuple(label for label in real.labels if label != "banjo")
    for sample in done.made:
        was = real.find(sample.key)
        assert was is not None
        assert done.made.labels[sample.label] == real.labels[real.label_ids[was]]


def test_the_largest_of_near_duplicates_stays(draw: Draw, tmp_path: Path) -> None:
    def variant(seed: int, side: int, quality: int = 90) -> bytes:
        out = io.BytesIO()
        with Image.open(io.BytesIO(draw(seed, size=(160, 160)))) as image:
            image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS).save(out, "JPEG", quality=quality)
        return out.getvalue()

    samples = [
        Sample("small", variant(1, 120), "jpg", 0),
        Sample("large", variant(1, 160), "jpg", 0),
        Sample("other-label", variant(1, 150), "jpg", 1),
        Sample("alone", variant(2, 160), "jpg", 0),
    ]
    with write_set(tmp_path / "set", samples, ["a", "b"], source={}) as made:
        done = drop(made, tmp_path / "new", reason="doubles", near_duplicates=True)
        assert [(one.key, one.detail) for one in done.dropped] == [("small", "near-duplicate of large")]
        assert done.torn == 1
        # what a key takes away is no reason to drop its double
        again = drop(made, tmp_path / "again", reason="doubles", near_duplicates=True, keys=["large"])
        assert [one.key for one in again.dropped] == ["large"]


def test_what_is_not_there_and_what_would_be_left(real: ShardSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.txt: nosuch: no sample of the set has this key and 1 more"):
        drop(real, tmp_path / "new", reason="x", keys=["nosuch", "neither"], keys_from="mine.txt")
    assert len(drop(real, tmp_path / "same", reason="x", keys=["nosuch"], allow_missing=True).made) == len(real)
    with pytest.raises(ConfigError, match="nothing would be left"):
        drop(real, tmp_path / "new", reason="x", rules=[parse("width > 0")])
    with pytest.raises(TargetNotEmpty):
        drop(real, tmp_path / "same", reason="x", keys=[real.key(0)])
    assert [path.name for path in tmp_path.iterdir()] == ["same"]


def test_an_interrupted_drop_leaves_nothing(draw: Draw, tmp_path: Path) -> None:
    def stop(progress: DropProgress) -> None:
        assert (progress.stage, progress.done) == ("write", 256)
        raise KeyboardInterrupt

    samples = [Sample(f"k{n}", draw(n, size=(16, 16)), "jpg", 0) for n in range(300)]
    with write_set(tmp_path / "set", samples, ["a"], source={}) as made, pytest.raises(KeyboardInterrupt):
        drop(made, tmp_path / "new", reason="x", keys=["k299"], on_progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_file_of_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text('﻿# a comment\n\nabc\ndef\tlooks wrong\r\n{"key": "ghi", "detail": "torn"}\nabc\tagain\n')
    assert read_keys(file) == {"abc": "", "def": "looks wrong", "ghi": "torn"}
    for text, says in (("a b\n", "line 1"), ('ok\n{"k": 1}\n', "line 2"), ("{no json\n", "line 1")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=says):
            read_keys(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_keys(file)


@settings(max_examples=10, deadline=None)
@given(chosen=st.sets(st.integers(0, 79), max_size=79))
def test_what_diff_finds_after_a_drop_is_what_was_dropped(real: ShardSet, chosen: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = drop(real, Path(folder) / "new", reason="x", keys=[real.key(i) for i in chosen])
        with done.made as made:
            found = diff(real, made)
            assert [entry.key for entry in found.removed] == sorted(real.key(i) for i in chosen)
            assert found.counts() == {
                "same": 80 - len(chosen),
                "added": 0,
                "removed": len(chosen),
                "changed": 0,
                "relabelled": 0,
                "rekeyed": 0,
            }
            assert not diff(made, made)
