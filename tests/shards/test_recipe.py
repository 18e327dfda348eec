"""A part that is repaired, and the split.json beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shards.recipe import contradiction
from shards.repair import repair
from shards.shard_set import ShardSet
from shards.split import split
from shards.verify import verify

PARTS = ("train", "val", "test")


@pytest.fixture
def parts(real: ShardSet, tmp_path: Path) -> Path:
    for part in split(real, tmp_path / "parts", fractions=(0.6, 0.2, 0.2)).parts.values():
        part.close()
    return tmp_path / "parts"


def recipe(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "split.json").read_bytes()))


def test_a_repaired_part_is_told_to_the_recipe(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe(parts)
    assert all(verify(parts / name) == [] for name in PARTS)
    tar = parts / "val" / "shard-000000.tar"
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    tar.write_bytes(data)
    assert len(repair(parts / "val", decode=False).lost) == 1
    after = recipe(parts)
    with ShardSet.open(parts / "val") as val:
        assert after["parts"]["val"] == {"samples": len(val), "counts": val.counts, "digest": val.digest}
        assert len(val) == before["parts"]["val"]["samples"] - 1
    assert after["repaired"] == {"val": before["parts"]["val"]}
    assert {name: after["parts"][name] for name in ("train", "test")} == {
        name: before["parts"][name] for name in ("train", "test")
    }
    monkeypatch.chdir(parts / "val")
    assert verify(Path()) == []


def test_a_part_that_is_not_what_was_split_is_named_and_mended(parts: Path, small: ShardSet) -> None:
    """As after a repair that was killed before its last step, or of a part that was replaced by hand."""
    told = recipe(parts)
    told["parts"]["train"]["digest"] = "0" * 64
    (parts / "split.json").write_text(json.dumps(told))
    assert contradiction(parts / "val") is None
    (found,) = verify(parts / "train", decode=False)
    assert found.kind == "split"
    assert "names 48 samples with digest 000000000000..., there are 48" in found.problem
    before = {path.name: path.read_bytes() for path in (parts / "train").iterdir()}
    assert repair(parts / "train", decode=False).kept == 48
    assert {path.name: path.read_bytes() for path in (parts / "train").iterdir()} == before
    assert contradiction(parts / "train") is None
    assert repair(parts / "train", decode=False).findings == ()


@pytest.mark.parametrize("text", ["", "[]", '{"recipe": 3}', '{"recipe": {"names": ["small"]}, "parts": []}', "\xff"])
def test_a_recipe_that_is_none_says_nothing(small: ShardSet, text: str) -> None:
    (small.folder.parent / "split.json").write_bytes(text.encode("latin-1"))
    assert contradiction(small.folder) is None
    assert verify(small.folder, decode=False) == []
