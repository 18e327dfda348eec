from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shards.index import INDEX_NAME, write_dali_index
from shards.quarantine import QUARANTINE_NAME, Quarantined, add_to_quarantine
from shards.sample import Sample
from shards.shard_errors import (
    BadLabel,
    ComponentMissing,
    DuplicateKey,
    ManifestDamaged,
    ManifestMissing,
    QuarantineDamaged,
    ShardError,
    StaleIndex,
    TarDamaged,
)
from shards.shard_set import MANIFEST_NAME, ShardSet, finish, read_manifest
from shards.verify import verify
from shards.writer import ShardWriter, rewrite, shard_name, write_set

Make = Callable[..., Sample]


def test_what_a_set_says(small: ShardSet, make: Make) -> None:
    assert len(small) == 10
    assert small.labels == ("guitar", "bass")
    assert small.counts == {"guitar": 5, "bass": 5}
    assert small.label_ids.tolist() == [0, 1] * 5
    assert small.label_ids.dtype == np.int64
    assert set(small.widths.tolist()) == {40}
    assert set(small.heights.tolist()) == {32}
    assert small.groups.tolist() == list(range(10))
    assert [small.ext(i) for i in (7, 8, 9)] == ["jpg", "png", "webp"]
    assert bytes(small.image(3)) == make(3).image
    assert small.key(8) == "a-png"
    assert small.meta(3) == {"seed": 3}
    assert small.sizes[3] == len(make(3).image)
    assert [small.find(small.key(i)) for i in range(10)] == list(range(10))
    assert small.find("zzz") is None
    assert str(small.where(5)).startswith("shard-000001.tar@")
    assert (small.folder / "shard-000001.tar").read_bytes()[small.where(5).offset :].startswith(small.key(5).encode())


def test_manifest(small: ShardSet) -> None:
    told = json.loads((small.folder / MANIFEST_NAME).read_bytes())
    assert told["samples"] == 10
    assert [shard["samples"] for shard in told["shards"]] == [4, 4, 2]
    assert read_manifest(small.folder) == small.manifest


def test_finish_again_changes_nothing(small: ShardSet) -> None:
    before = {path.name: path.read_bytes() for path in small.folder.iterdir()}
    finish(small.folder, small.labels, source={"kind": "test"}).close()
    assert {path.name: path.read_bytes() for path in small.folder.iterdir()} == before


def test_finish_leaves_parts_alone_and_clears_old_indexes(small: ShardSet, make: Make) -> None:
    with ShardWriter(small.folder, shard=3) as writer:
        writer.add(make(20))
    (small.folder / "shard-000009.idx").write_text("v1.2 0\n")
    with finish(small.folder, small.labels, source={}) as made:
        assert len(made) == 10
    assert (small.folder / "shard-000003.tar.part").exists()
    assert not (small.folder / "shard-000009.idx").exists()


def test_groups_given_told_and_neither(tmp_path: Path, make: Make) -> None:
    samples = [make(0, group=5), make(1, group=7), make(2), make(3, group="x"), make(4, group=5)]
    with write_set(tmp_path / "set", samples, ["a"], source={}) as told:
        assert told.groups.tolist() == [5, 7, 8, 9, 5]
    with finish(tmp_path / "set", ["a"], source={}, groups={samples[1].key: 0, samples[2].key: 0}) as given:
        assert given.groups.tolist() == [1, 0, 0, 2, 3]


def test_an_empty_set(tmp_path: Path) -> None:
    with write_set(tmp_path / "set", [], ["a", "b"], source={}) as made:
        assert (len(made), made.counts, list(made)) == (0, {"a": 0, "b": 0}, [])


def test_views_outlive_the_set(tmp_path: Path, make: Make) -> None:
    with write_set(tmp_path / "set", [make(0)], ["a"], source={}) as made:
        view = made.image(0)
    assert bytes(view) == make(0).image
    assert view.readonly


def test_a_set_crosses_to_another_process_by_its_path(small: ShardSet) -> None:
    with pickle.loads(pickle.dumps(small)) as other:
        assert other.digest == small.digest
        assert list(other) == list(small)


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (lambda f: (f / MANIFEST_NAME).unlink(), ManifestMissing, "no dataset.json"),
        (lambda f: (f / MANIFEST_NAME).write_text("{"), ManifestDamaged, "cannot be read"),
        (lambda f: (f / MANIFEST_NAME).write_text('{"format": "x", "version": 1}'), ManifestDamaged, "not a bassline"),
        (lambda f: (f / "shard-000001.tar").unlink(), StaleIndex, "shard-000001.tar: .*missing"),
        (lambda f: (f / "shard-000001.tar").write_bytes(b"x"), StaleIndex, "has 1 bytes, the manifest says"),
        (lambda f: (f / INDEX_NAME).unlink(), StaleIndex, "samples.idx: the index is missing"),
        (lambda f: (f / INDEX_NAME).write_bytes(b""), StaleIndex, "not an index"),
        (lambda f: (f / INDEX_NAME).write_bytes((f / INDEX_NAME).read_bytes()[:-70]), StaleIndex, "damaged"),
    ],
)  # fmt: skip
def test_damage_is_refused_at_open(
    small: ShardSet, damage: Callable[[Path], object], error: type[ShardError], says: str
) -> None:
    small.close()
    damage(small.folder)
    with pytest.raises(error, match=says) as caught:
        ShardSet.open(small.folder)
    assert str(small.folder) in str(caught.value)
    assert "`bassline shards index`" in str(caught.value)


def test_every_flipped_byte_of_the_index_is_noticed(small: ShardSet) -> None:
    path = small.folder / INDEX_NAME
    good = path.read_bytes()
    for at in range(0, len(good), 37):
        bad = bytearray(good)
        bad[at] ^= 0x10
        path.write_bytes(bad)
        with pytest.raises(StaleIndex):
            ShardSet.open(small.folder)


def test_an_index_of_other_tars_is_refused_and_finish_repairs(small: ShardSet, make: Make, tmp_path: Path) -> None:
    other = write_set(tmp_path / "other", [make(n, n % 2) for n in range(50, 60)], small.labels, source={})
    (small.folder / INDEX_NAME).write_bytes((other.folder / INDEX_NAME).read_bytes())
    with pytest.raises(StaleIndex, match="was made from"):
        ShardSet.open(small.folder)
    with finish(small.folder, small.labels, source={"kind": "test"}) as repaired:
        assert repaired.digest == small.digest


def test_a_manifest_whose_shards_were_edited_is_refused(small: ShardSet) -> None:
    path = small.folder / MANIFEST_NAME
    told = json.loads(path.read_bytes())
    told["shards"][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(told))
    with pytest.raises(ManifestDamaged, match="digest"):
        ShardSet.open(small.folder)


def tar_of(path: Path, members: dict[str, bytes]) -> None:
    import io
    import tarfile

    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    ("members", "error", "says"),
    [
        ({"a.jpg": b"x"}, ComponentMissing, r"x.tar@0: sample 'a' has no label \(.cls\) \(it has jpg\)"),
        ({"a.cls": b"0", "a.json": b"{}"}, ComponentMissing, "has no image"),
        ({"a.jpg": b"x", "a.cls": b"7"}, BadLabel, "label '7'.*0 to 1"),
        ({"a.jpg": b"x", "a.cls": b"cat"}, BadLabel, "label 'cat'"),
        ({"a.jpg": b"x", "a.cls": b""}, BadLabel, "label ''"),
        ({"a.jpg": b"x", "a.cls": b"0", "b.jpg": b"y", "b.cls": b"1", "d/../a.txt": b""}, ComponentMissing, "no image"),
    ],
)
def test_tars_that_are_no_set(tmp_path: Path, members: dict[str, bytes], error: type[ShardError], says: str) -> None:
    tar_of(tmp_path / "x.tar", members)
    with pytest.raises(error, match=says):
        finish(tmp_path, ["a", "b"], source={})
    assert not (tmp_path / MANIFEST_NAME).exists()


def test_a_truncated_tar_is_no_set(small: ShardSet) -> None:
    path = small.folder / "shard-000000.tar"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(TarDamaged, match=r"shard-000000.tar@\d+"):
        finish(small.folder, small.labels, source={})


def test_the_same_key_in_two_tars(tmp_path: Path) -> None:
    for name in ("x.tar", "y.tar"):
        tar_of(tmp_path / name, {"a.jpg": b"x", "a.cls": b"0"})
    with pytest.raises(DuplicateKey, match=r"'a' stands twice: at .*x.tar@0 and at .*y.tar@0"):
        finish(tmp_path, ["a"], source={})


def test_json_that_is_none(tmp_path: Path) -> None:
    tar_of(tmp_path / "x.tar", {"a.jpg": b"x", "a.cls": b"0", "a.json": b"{"})
    with finish(tmp_path, ["a"], source={}) as made, pytest.raises(ShardError, match=r"x.tar@0 a: its .json is none"):
        made.meta(0)


def test_dali_index_is_what_wds2idx_writes(real: ShardSet, small: ShardSet, tmp_path: Path) -> None:
    tar_of(
        tmp_path / "theirs.tar",
        {"d/a.JPG": b"1" * 600, "d/a.cls": b"0", ".hidden": b"", "d/b.JPG": b"2", "d/b.cls": b"1"},
    )
    write_dali_index(tmp_path / "theirs.tar")
    tool = Path(sys.executable).with_name("wds2idx")
    for path in [*real.folder.glob("*.tar"), *small.folder.glob("*.tar"), tmp_path / "theirs.tar"]:
        subprocess.run([tool, path, tmp_path / "x.idx"], check=True, capture_output=True)
        assert path.with_suffix(".idx").read_text() == (tmp_path / "x.idx").read_text()


def test_a_million_samples_open_fast(tmp_path: Path) -> None:
    """A made-up index of a million rows over sparse tars: opening reads and checks all of it."""
    import time

    from shards.index import ROW, write_rows
    from shards.manifest import digest_of
    from shards.tar import header
    from shards.writer import ShardInfo

    n, per = 1_000_000, 10_000
    rows = np.zeros(n, ROW)
    rows["shard"] = np.arange(n) // per
    rows["image"] = rows["offset"] = np.arange(n) % per * 8704
    rows["size"] = 5000
    keys = np.char.mod("%020d", np.arange(n)).astype("S20")
    shards = [ShardInfo(f"s{i:03d}.tar", per, per * 8704, f"{i:064d}") for i in range(n // per)]
    for number, info in enumerate(shards):
        with (tmp_path / info.name).open("wb") as file:
            for place in (0, per - 1):  # the two samples of each tar that opening looks at
                file.seek(place * 8704)
                file.write(header(f"{number * per + place:020d}.jpg", 5000))
            file.truncate(info.bytes)
    write_rows(tmp_path / INDEX_NAME, shards, rows, keys, np.arange(n, dtype="<u4"))
    told = {"format": "bassline shard set", "version": 1, "labels": ["a"], "counts": {"a": n}, "split": None}
    told |= {"source": {}, "digest": digest_of(shards), "samples": n}
    told["shards"] = [{"name": i.name, "samples": i.samples, "bytes": i.bytes, "sha256": i.sha256} for i in shards]
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(told))
    seconds = []
    for _ in range(3):
        started = time.process_time()
        with ShardSet.open(tmp_path) as opened:
            assert len(opened.image(n - 1)) == 5000
        seconds.append(time.process_time() - started)
        assert opened.find(f"{n - 1:020d}") == n - 1
    assert min(seconds) < 0.5, seconds  # 0.1 s on an idle core; the issue asks for 0.2
    print(f"open of a million samples: {min(seconds):.3f} s")


def test_a_set_that_is_replaced_is_whole_at_every_moment(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each file that `finish` writes or renames, the folder opens as the old set or as the new one."""
    folder = tmp_path / "set"
    write_set(folder, [make(seed) for seed in range(4)], ["a"], source={}, shard_samples=2).close()
    rewrite(folder / shard_name(0), {make(0).key: None}, target=folder / shard_name(5))
    tars = [folder / shard_name(1), folder / shard_name(5)]
    seen: list[int] = []
    for name in ("replace", "unlink"):
        plain = getattr(Path, name)

        def looked(self: Path, *args: object, plain: Callable[..., object] = plain, **options: object) -> object:
            done = plain(self, *args, **options)
            with ShardSet.open(folder) as found:
                seen.append(len(found))
            return done

        monkeypatch.setattr(Path, name, looked)
    finish(folder, ["a"], source={}, tars=tars).close()
    assert seen == sorted(seen, reverse=True)
    assert set(seen) == {4, 3}
    monkeypatch.undo()
    (folder / shard_name(0)).unlink()
    assert verify(folder) == []


def test_a_tar_replaced_by_one_of_the_same_size_is_noticed_at_open(tmp_path: Path, make: Make) -> None:
    for name, seeds in (("set", (0, 1)), ("other", (1, 0))):
        write_set(tmp_path / name, [make(seed) for seed in seeds], ["a"], source={}).close()
    mine, other = (tmp_path / name / shard_name(0) for name in ("set", "other"))
    assert mine.stat().st_size == other.stat().st_size
    mine.write_bytes(other.read_bytes())
    with pytest.raises(StaleIndex, match="does not lie there"):
        ShardSet.open(tmp_path / "set")


def test_components_are_every_member_of_a_sample(tmp_path: Path, make: Make) -> None:
    """Other people's tars: long names, folders, several dots, directories, and members that are no images."""
    import io
    import tarfile

    image = make(0).image
    long = "d" * 120
    for format_ in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        folder = tmp_path / str(format_)
        folder.mkdir()
        with tarfile.open(folder / "x.tar", "w", format=format_) as archive:
            directory = tarfile.TarInfo(long)
            directory.type = tarfile.DIRTYPE
            archive.addfile(directory)
            for n in range(3):
                members = {"JPG": image, "seg.png": b"mask", "cls": b"0", "txt": b"caption", "tar.gz": b"x" * n}
                for ext, content in members.items():
                    info = tarfile.TarInfo(f"{long}/größe{n}.{ext}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
            archive.addfile(tarfile.TarInfo("README"))
        with finish(folder, ["a"], source={}) as opened:
            assert [opened.key(i) for i in range(3)] == [f"{long}/größe{n}" for n in range(3)]
            for n in range(3):
                found = {ext: bytes(content) for ext, content in opened.components(n).items()}
                assert found == {"jpg": image, "seg.png": b"mask", "cls": b"0", "txt": b"caption", "tar.gz": b"x" * n}


def test_quarantined_samples_are_in_no_count(tmp_path: Path, make: Make) -> None:
    samples = [make(seed, seed % 2) for seed in range(9)]
    with write_set(tmp_path / "set", samples, ["a", "b"], source={}, shard_samples=4) as whole:
        digest = whole.digest
    bad = samples[3].key
    assert add_to_quarantine(tmp_path / "set", [Quarantined(bad, "x", "ugly"), Quarantined("nobody", "", "")]) == 2
    assert add_to_quarantine(tmp_path / "set", [Quarantined(bad, "x", "again")]) == 2
    with ShardSet.open(tmp_path / "set") as opened:
        assert len(opened) == 8
        assert opened.counts == {"a": 5, "b": 3}
        assert [item.reason for item in opened.quarantined] == ["ugly"]
        assert opened.digest != digest
        assert opened.find(bad) is None
        assert [opened.find(sample.key) for sample in samples if sample.key != bad] == list(range(8))
        assert [bytes(opened.image(i)) for i in range(8)] == [s.image for s in samples if s.key != bad]
        assert len(pickle.loads(pickle.dumps(opened))) == 8
    with ShardSet.open(tmp_path / "set", with_quarantined=True) as opened:
        assert len(opened) == 9
        assert opened.digest == digest
        assert len(pickle.loads(pickle.dumps(opened))) == 9
    (tmp_path / "set" / QUARANTINE_NAME).write_text("bad\n")
    with pytest.raises(QuarantineDamaged, match=r"quarantine\.jsonl:1"):
        ShardSet.open(tmp_path / "set")


@pytest.mark.parametrize(
    "where", ["labels", "counts", "shards", "split", "source", "digest", "name", "samples", "bytes", "sha256"]
)
def test_a_manifest_with_values_of_another_kind_is_refused(small: ShardSet, where: str) -> None:
    """Every wrong kind ends with one line that names the file, here and wherever the set is then used."""
    path = small.folder / MANIFEST_NAME
    told = json.loads(path.read_bytes())
    holder = told["shards"][0] if where in told["shards"][0] else told
    wrongs: list[object] = [None, -1, "x", [], {}, [1], {"a": "b"}, True, 1e300, "\udcff", 2**70]
    right: dict[str, list[object]] = {
        "split": [None, "x", "\udcff"],
        "source": [{}, {"a": "b"}],
        "labels": [[]],
        "counts": [{}],
    }
    for wrong in (value for value in wrongs if value not in right.get(where, [])):
        holder[where] = wrong
        path.write_text(json.dumps(told))
        with pytest.raises(ManifestDamaged, match=r"dataset\.json"):
            read_manifest(small.folder)


@pytest.mark.parametrize("told", [{"labels": []}, {"labels": ["guitar"]}, {"counts": {"a": 1}}])
def test_labels_that_are_not_the_samples_are_noticed_at_open(small: ShardSet, told: dict[str, object]) -> None:
    path = small.folder / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_bytes()) | told))
    with pytest.raises(ManifestDamaged, match="labels"):
        ShardSet.open(small.folder)
