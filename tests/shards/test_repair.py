"""Damage of every kind, at random: it is found, every intact sample is kept, and what is left verifies clean."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards import tar
from shards.files import map_file
from shards.index import INDEX_NAME, tar_samples
from shards.repair import ASIDE, LOST_NAME, repair
from shards.sample import Sample
from shards.shard_errors import RepairRefused, TargetNotEmpty
from shards.shard_set import MANIFEST_NAME, ShardSet
from shards.verify import quarantine, verify
from shards.writer import ShardWriter, write_set


def picture(rng: np.random.Generator, size: int) -> bytes:
    """Bytes that begin as a JPEG does: nothing here decodes."""
    return b"\xff\xd8\xff\xe0" + rng.bytes(size)


def spans(path: Path) -> dict[str, tuple[int, int, tuple[tuple[str, bytes], ...]]]:
    """Where each sample of a tar begins and ends, and what it is."""
    data = map_file(path)
    found = {}
    for sample in tar_samples(tar.walk(data, path)):
        members = [(ext, bytes(data[m.offset : m.offset + m.size])) for ext, m in sample.members.items()]
        end = max(m.offset + m.size for m in sample.members.values())
        found[sample.key] = (sample.offset, end, tuple(members))
    return found


@st.composite
def damages(draw: st.DrawFn) -> tuple[str, float, int]:
    kind = draw(st.sampled_from(["truncate", "flip", "zero", "insert", "delete", "copy"]))
    length = draw(st.one_of(st.integers(1, 5000), st.integers(1, 12).map(lambda blocks: blocks * 512)))
    return kind, draw(st.floats(0, 1, exclude_max=True)), length


def hurt(data: bytes, damage: tuple[str, float, int], aligned: bool) -> tuple[bytes, Callable[[int, int], bool]]:
    """The bytes after a damage, and whether those of a span came through it."""
    kind, where, length = damage
    at = int(where * len(data))
    if aligned:
        at -= at % 512
    noise = np.random.default_rng(length).bytes(length)
    if kind == "truncate":
        return data[:at], lambda start, end: end <= at
    if kind == "insert":
        return data[:at] + noise + data[at:], lambda start, end: end <= at or start >= at
    if kind == "copy":  # bytes that come twice: whole headers and samples among them
        return data[:at] + data[max(0, at - length) : at] + data[at:], lambda start, end: end <= at or start >= at
    if kind == "delete":
        return data[:at] + data[at + length :], lambda start, end: end <= at or start >= at + length
    if kind == "flip":
        length = min(length, 8)
        new = bytes(byte ^ 0x5A for byte in data[at : at + length])
    else:
        new = bytes(len(data[at : at + length]))
    changed = data[:at] + new + data[at + len(new) :]
    return changed, lambda start, end: changed[start:end] == data[start:end]


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    count=st.integers(1, 9),
    even=st.booleans(),
    damage=damages(),
    second=st.one_of(st.none(), damages()),
    aligned=st.booleans(),
)
def test_every_intact_sample_of_a_damaged_set_is_kept(
    seed: int,
    count: int,
    even: bool,
    damage: tuple[str, float, int],
    second: tuple[str, float, int] | None,
    aligned: bool,
) -> None:
    rng = np.random.default_rng(seed)
    sizes = [1500] * count if even else rng.integers(1, 4000, count).tolist()
    samples = [
        Sample(f"k{n}", picture(rng, size), "jpg", n % 2, {"label": "ab"[n % 2], "x": "y" * int(rng.integers(0, 900))})
        for n, size in enumerate(sizes)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "set"
        write_set(folder, samples, ["a", "b"], source={"kind": "test"}, shard_samples=6).close()
        first = folder / "shard-000000.tar"
        before = {path.name: spans(path) for path in folder.glob("*.tar")}
        whole = first.read_bytes()
        broken, survives = hurt(whole, damage, aligned)
        intact = {key for key, (start, end, _) in before[first.name].items() if survives(start, end)}
        if second is not None and damage[0] in ("flip", "zero"):
            again, survives_too = hurt(broken, second, aligned)
            intact &= {key for key, (start, end, _) in before[first.name].items() if survives_too(start, end)}
            broken = again
        if broken == whole:
            return
        first.write_bytes(broken)
        findings = verify(folder, decode=False)
        assert any(found.file == first.name for found in findings)
        others = {key: sample for name, found in before.items() if name != first.name for key, sample in found.items()}
        if not intact and not others:
            try:
                repair(folder, decode=False)
            except RepairRefused:
                assert first.read_bytes() == broken
                return
        else:
            done = repair(folder, decode=False)
            assert done.kept + len(done.lost) == count
        assert verify(folder, decode=False) == []
        kept = {key: sample for path in folder.glob("*.tar") for key, sample in spans(path).items()}
        assert intact | others.keys() <= kept.keys()
        originals = {key: sample for found in before.values() for key, sample in found.items()}
        assert all(members == originals[key][2] for key, (_, _, members) in kept.items())
        state = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert repair(folder, decode=False).findings == ()
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == state
        with ShardSet.open(folder) as opened:
            assert len(opened) == len(kept)
            assert opened.labels == ("a", "b")
            assert all(bytes(opened.image(i)) == originals[opened.key(i)][2][0][1] for i in range(len(opened)))


FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    count=st.integers(2, 9),
    damage=damages(),
    aligned=st.booleans(),
    format=st.sampled_from(FORMATS),
    deep=st.booleans(),
)
def test_so_is_every_intact_sample_of_other_peoples_tars(
    seed: int, count: int, damage: tuple[str, float, int], aligned: bool, format: int, deep: bool
) -> None:
    """Nobody's manifest, index or JSON: what is there is what the tar says, long names and folders and all."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "theirs.tar"
        with tarfile.open(path, "w", format=format) as archive:
            for n in range(count):
                name = f"{'d' * 60}/{'e' * 60 if deep and format != tarfile.USTAR_FORMAT else 'e'}/größe{n}"
                for ext, content in (("jpg", picture(rng, int(rng.integers(1, 3000)))), ("txt", b"a caption")):
                    info = tarfile.TarInfo(f"{name}.{ext}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
        before = spans(path)
        whole = path.read_bytes()
        broken, survives = hurt(whole, damage, aligned)
        intact = {key for key, (start, end, _) in before.items() if survives(start, end)}
        assert verify(Path(scratch), decode=False) == []
        path.write_bytes(broken)
        if not verify(Path(scratch), decode=False):
            return  # nobody wrote down what these bytes were
        try:
            repair(Path(scratch), decode=False)
        except RepairRefused:
            assert not intact
            return
        after = spans(path)
        assert intact <= after.keys()
        assert all(after[key][2] == before[key][2] for key in intact)
        assert verify(Path(scratch), decode=False) == []
        assert repair(Path(scratch), decode=False).findings == ()


@pytest.fixture
def folder(tmp_path: Path, make: Callable[..., Sample]) -> Path:
    """Nine samples in three tars, with labels and groups."""
    samples = []
    for seed in range(9):
        sample = make(seed, seed % 2, group=seed // 2)
        samples.append(replace(sample, meta=sample.meta | {"label": "ab"[seed % 2]}))
    write_set(tmp_path / "set", samples, ["a", "b"], source={"kind": "test"}, split="train", shard_samples=3).close()
    return tmp_path / "set"


def test_what_is_lost_is_named_and_the_damaged_tar_kept(folder: Path) -> None:
    with ShardSet.open(folder) as opened:
        row, key = opened.index.rows[4], opened.key(4)
        groups = {opened.key(i): group for i, group in enumerate(opened.groups.tolist())}
    path = folder / "shard-000001.tar"
    data = bytearray(path.read_bytes())
    data[int(row["image"]) + 40] ^= 1
    path.write_bytes(data)
    done = repair(folder)
    assert (done.kept, done.rewritten) == (8, (path.name,))
    (lost,) = done.lost
    assert (lost.key, lost.file, lost.offset) == (key, path.name, int(row["offset"]))
    assert lost.reason.startswith("crc: the image's bytes are not those that were indexed")
    assert (folder / ASIDE / path.name).read_bytes() == data
    assert json.loads((folder / ASIDE / LOST_NAME).read_text())["key"] == key
    with ShardSet.open(folder) as opened:
        assert {opened.key(i): group for i, group in enumerate(opened.groups.tolist())} == {
            name: group for name, group in groups.items() if name != key
        }
        assert opened.manifest.source == {"kind": "test"}
        assert opened.manifest.split == "train"


def test_out_leaves_the_damaged_set_alone(folder: Path, tmp_path: Path) -> None:
    path = folder / "shard-000002.tar"
    path.write_bytes(path.read_bytes()[:3000])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = repair(folder, tmp_path / "out")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert verify(tmp_path / "out") == []
    assert done.kept + len(done.lost) == 9
    with pytest.raises(TargetNotEmpty):
        repair(folder, tmp_path / "out")


def test_a_damaged_header_costs_nothing_where_the_index_knows_the_bytes(folder: Path) -> None:
    path = folder / "shard-000000.tar"
    whole = path.read_bytes()
    path.write_bytes(bytes(100) + whole[100:])
    assert repair(folder).lost == ()
    assert path.read_bytes() == whole


def test_a_lost_manifest_and_index(folder: Path, tmp_path: Path) -> None:
    whole = (folder / MANIFEST_NAME).read_bytes()
    (folder / MANIFEST_NAME).unlink()
    done = repair(folder)
    assert (done.kept, done.lost, done.rewritten, done.aside) == (9, (), (), None)
    assert json.loads((folder / MANIFEST_NAME).read_bytes())["labels"] == ["a", "b"]
    assert json.loads((folder / MANIFEST_NAME).read_bytes())["digest"] == json.loads(whole)["digest"]
    (folder / INDEX_NAME).write_bytes(b"?")
    (folder / "shard-000001.idx").unlink()
    assert repair(folder).kept == 9
    assert verify(folder) == []
    write_set(tmp_path / "bare", [Sample("k", b"\xff\xd8\xff", "jpg", 0)], ["a"], source={}).close()
    (tmp_path / "bare" / MANIFEST_NAME).unlink()
    with pytest.raises(RepairRefused, match="--label NAME"):
        repair(tmp_path / "bare", decode=False)


def test_missing_renamed_and_doubled_tars(folder: Path) -> None:
    (folder / "shard-000001.tar").rename(folder / "another name.tar")
    shutil.copy(folder / "shard-000000.tar", folder / "a copy.tar")
    (folder / "shard-000002.tar").unlink()
    done = repair(folder)
    assert (done.kept, len(done.lost)) == (6, 3)
    assert sorted(path.name for path in folder.glob("*.tar")) == ["another name.tar", "shard-000000.tar"]
    assert (folder / ASIDE / "a copy.tar").exists()
    assert verify(folder) == []


def test_samples_that_are_wrong_in_themselves_go_and_misnamed_ones_stay(
    tmp_path: Path, draw: Callable[..., bytes], make: Callable[..., Sample]
) -> None:
    samples = [make(seed) for seed in range(4)]
    wrong = [
        Sample("no-image", b"<html>", "jpg", 0),
        Sample("named", draw(9, "PNG"), "jpg", 1),
        Sample("two-labels", make(5).image, "jpg", 0, {"label": "b"}),
    ]
    folder = tmp_path / "set"
    write_set(folder, [*samples[:2], *wrong, *samples[2:]], ["a", "b"], source={}).close()
    done = repair(folder)
    assert {lost.key: lost.reason.partition(":")[0] for lost in done.lost} == {
        "no-image": "image",
        "two-labels": "label",
    }
    assert verify(folder) == []
    with ShardSet.open(folder) as opened:
        assert [opened.key(i) for i in range(len(opened))] == [
            *(s.key for s in samples[:2]),
            "named",
            *(s.key for s in samples[2:]),
        ]
        assert list(opened.components(2)) == ["png", "cls", "json"]


def test_quarantine_instead_of_repair(folder: Path) -> None:
    with ShardSet.open(folder) as opened:
        row, key = opened.index.rows[4], opened.key(4)
    path = folder / "shard-000001.tar"
    data = bytearray(path.read_bytes())
    data[int(row["image"]) + 40] ^= 1
    path.write_bytes(data)
    assert quarantine(folder, verify(folder)) == 1
    assert path.read_bytes() == data
    with ShardSet.open(folder) as opened:
        assert len(opened) == 8
        assert opened.find(key) is None
    assert len(repair(folder).lost) == 1
    with ShardSet.open(folder) as opened:
        assert (len(opened), opened.quarantined) == (8, ())


def test_a_jsons_own_sha256_tells_a_flipped_byte_where_nothing_else_does(
    tmp_path: Path, draw: Callable[..., bytes]
) -> None:
    samples = []
    for seed in range(4):
        image = draw(seed)
        samples.append(Sample(f"k{seed}", image, "jpg", 0, {"sha256": hashlib.sha256(image).hexdigest()}))
    with ShardWriter(tmp_path) as writer:
        placed = [writer.add(sample) for sample in samples]
        writer.seal()
    path = tmp_path / "shard-000000.tar"
    data = bytearray(path.read_bytes())
    data[placed[2].image_offset + placed[2].size - 30] ^= 1
    path.write_bytes(data)
    assert [(found.kind, found.key) for found in verify(tmp_path, decode=False)] == [("crc", "k2")]
    assert [lost.key for lost in repair(tmp_path, decode=False).lost] == ["k2"]
    assert verify(tmp_path) == []
    assert not (tmp_path / MANIFEST_NAME).exists()


def test_others_hashes_of_other_bytes_and_labels_in_words_are_no_damage(
    tmp_path: Path, draw: Callable[..., bytes]
) -> None:
    """img2dataset keeps the sha256 of what it downloaded, not of what it wrote."""
    with tarfile.open(tmp_path / "00000.tar", "w") as archive:
        for n in range(3):
            told = json.dumps({"sha256": hashlib.sha256(b"another").hexdigest(), "label": "whatever"})
            members = {"jpg": draw(n), "json": told.encode(), "txt": b"a caption", "cls": b"ukulele"}
            for ext, content in members.items():
                info = tarfile.TarInfo(f"{n:09d}.{ext}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    assert verify(tmp_path) == []
    assert repair(tmp_path).findings == ()


def test_a_repair_that_was_killed_is_finished_by_the_next(folder: Path) -> None:
    """Killed before and after every file it names, in turn."""
    for name, damage in (("shard-000000.tar", slice(0, 9)), ("shard-000002.tar", slice(600, 700))):
        data = bytearray((folder / name).read_bytes())
        data[damage] = bytes(damage.stop - damage.start)
        (folder / name).write_bytes(data)
    clean = folder.with_name("clean")
    shutil.copytree(folder, clean)
    done = repair(clean)
    expected = {path.name: path.read_bytes() for path in clean.glob("*") if path.is_file()}
    lost = sorted(item.key for item in done.lost)
    assert lost
    told = subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=True, capture_output=True, text=True)
    steps = int(told.stdout)
    assert steps > 8
    for step in range(steps):
        again = folder.with_name(f"killed{step}")
        assert {path.name: path.read_bytes() for path in again.glob("*") if path.is_file()} == expected
        log = (again / ASIDE / LOST_NAME).read_text().splitlines()
        assert sorted(json.loads(line)["key"] for line in log) == lost
        assert sorted(path.name for path in (again / ASIDE).glob("*.tar*")) == ["shard-000000.tar", "shard-000002.tar"]


KILLED = """
import os, shutil, sys
from pathlib import Path
from shards.repair import repair

folder = Path(sys.argv[1])
for step in range(100):
    again = folder.with_name(f"killed{step}")
    shutil.copytree(folder, again)
    child = os.fork()
    if not child:
        left = step

        def hook(event, arguments):
            global left
            if event in ("os.rename", "os.link", "os.remove"):
                left -= 1
                if left < 0:
                    os._exit(9)

        sys.addaudithook(hook)
        repair(again)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9), status
    repair(again)
    if not status:
        print(step)
        break
"""
