"""A set whose manifest or index is lost or stale is made whole again from its tars."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.duplicates import hash_image
from shards.sample import Sample
from shards.shard_errors import ManifestMissing, StaleIndex
from shards.shard_set import MANIFEST_NAME, ShardSet, finish, rebuild
from shards.verify import verify
from shards.writer import ShardWriter, write_set


@pytest.fixture
def folder(tmp_path: Path, thumbnails: dict[str, list[Path]]) -> Path:
    jpegs = [path.read_bytes() for path in thumbnails["banjo"] if path.read_bytes().startswith(b"\xff\xd8")]
    assert hash_image(jpegs[0])
    samples = [Sample(f"k{number}", data, "jpg", number % 2, {}) for number, data in enumerate(jpegs)]
    write_set(tmp_path / "set", samples, ["a", "b"], source={"kind": "test"}).close()
    groups = {sample.key: 7 for sample in samples}
    finish(tmp_path / "set", ["a", "b"], source={"kind": "test"}, groups=groups).close()
    return tmp_path / "set"


def test_a_stale_index_is_rebuilt(folder: Path) -> None:
    before = (folder / "samples.idx").read_bytes()
    (folder / "samples.idx").write_bytes(before[:-8])
    with pytest.raises(StaleIndex, match="bassline shards index"):
        ShardSet.open(folder)
    with rebuild(folder) as made:
        assert made.labels == ("a", "b")
        assert made.manifest.source == {"kind": "test"}
    assert verify(folder) == []


def test_groups_of_a_good_index_are_kept(folder: Path) -> None:
    with rebuild(folder) as made:
        assert set(made.groups.tolist()) == {7}


def test_without_a_manifest_the_labels_must_be_named(folder: Path) -> None:
    (folder / MANIFEST_NAME).unlink()
    with pytest.raises(ManifestMissing, match="bassline shards index"):
        rebuild(folder)
    with rebuild(folder, ["x", "y"]) as made:
        assert made.labels == ("x", "y")
    assert verify(folder) == []


def test_an_unfinished_crawl_is_told_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "crawl.sqlite").touch()
    with pytest.raises(ManifestMissing, match="run the same `bassline crawl` again"):
        ShardSet.open(tmp_path)


def test_samples_that_came_since_have_groups_of_their_own(folder: Path, make) -> None:
    known = len(ShardSet.open(folder))
    with ShardWriter(folder, shard=7) as writer:
        for seed in range(3):
            writer.add(make(seed))
        writer.seal()
    for _ in range(2):
        with rebuild(folder) as made:
            assert set(made.groups[:known]) == {7}
            assert made.groups[known:].tolist() == [8, 9, 10]
