from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards.sample import Sample, sniff
from shards.shard_errors import BadLabel, BadSample, DuplicateKey, PartLost, ShardExists, TarDamaged, TargetNotEmpty
from shards.shard_set import ShardSet, finish
from shards.writer import Edit, ShardWriter, rewrite, rewrite_without, shard_name, write_set

Make = Callable[..., Sample]


def write(folder: Path, samples: list[Sample]) -> Path:
    with ShardWriter(folder) as writer:
        for sample in samples:
            writer.add(sample)
        return folder / writer.seal().name


def test_sealed_shard_is_what_tarfile_writes(tmp_path: Path, make: Make) -> None:
    samples = [make(seed, seed) for seed in range(3)]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for sample in samples:
            meta = json.dumps(sample.meta, separators=(",", ":"), sort_keys=True).encode()
            for ext, content in (("jpg", sample.image), ("cls", str(sample.label).encode()), ("json", meta)):
                info = tarfile.TarInfo(f"{sample.key}.{ext}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    path = write(tmp_path, samples)
    assert path.read_bytes() == out.getvalue()


def test_placement_and_info_are_true(tmp_path: Path, make: Make) -> None:
    samples = [make(seed) for seed in range(3)]
    with ShardWriter(tmp_path, shard=7) as writer:
        placements = [writer.add(sample) for sample in samples]
        info = writer.seal()
    data = (tmp_path / "shard-000007.tar").read_bytes()
    for sample, placed in zip(samples, placements, strict=True):
        assert placed.shard == 7
        assert data[placed.offset :].startswith(f"{sample.key}.jpg".encode())
        assert data[placed.image_offset : placed.image_offset + placed.size] == sample.image
    assert (info.name, info.samples, info.bytes) == ("shard-000007.tar", 3, len(data))
    assert info.sha256 == hashlib.sha256(data).hexdigest()


def test_full_by_samples_and_by_bytes(tmp_path: Path, make: Make) -> None:
    with ShardWriter(tmp_path, max_samples=2) as writer:
        writer.add(make(0))
        assert not writer.full
        writer.add(make(1))
        assert writer.full
    with ShardWriter(tmp_path / "b", max_bytes=100) as writer:
        writer.add(make(0))
        assert writer.full


def test_a_bad_sample_leaves_no_trace(tmp_path: Path, make: Make) -> None:
    with ShardWriter(tmp_path) as writer:
        writer.add(make(0))
        position = writer.position
        with pytest.raises(BadSample):
            writer.add(Sample("a.b", b"x", "jpg", 0))
        with pytest.raises(BadSample):
            writer.add(Sample("ab", b"x", "jpg", 0, {"at": object()}))
        assert (writer.position, writer.samples) == (position, 1)


def test_nothing_written_leaves_no_file(tmp_path: Path) -> None:
    with ShardWriter(tmp_path) as writer:
        assert writer.seal().samples == 0
    ShardWriter(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_reopening_cuts_off_what_was_not_committed(tmp_path: Path, make: Make) -> None:
    samples = [make(seed) for seed in range(4)]
    whole = write(tmp_path / "whole", samples).read_bytes()
    with ShardWriter(tmp_path / "cut") as writer:
        writer.add(samples[0])
        writer.add(samples[1])
        committed = writer.sync()
        writer.add(samples[2])
    with ShardWriter(tmp_path / "cut", committed_bytes=committed, samples=2) as writer:
        assert writer.position == committed
        writer.add(samples[2])
        writer.add(samples[3])
        info = writer.seal()
    assert (info.samples, info.sha256) == (4, hashlib.sha256(whole).hexdigest())
    assert (tmp_path / "cut" / shard_name(0)).read_bytes() == whole


def test_what_a_writer_says_of_a_tar_is_believed_while_it_has_its_size(tmp_path: Path, make: Make) -> None:
    with ShardWriter(tmp_path) as writer:
        writer.add(make(0))
        info = writer.seal()
    told = replace(info, sha256="0" * 64)
    with finish(tmp_path, ["a"], source={}, sealed=[told]) as made:
        assert made.manifest.shards[0].sha256 == "0" * 64
    with finish(tmp_path, ["a"], source={}, sealed=[replace(told, bytes=info.bytes + 1)]) as made:
        assert made.manifest.shards == (info,)


def test_a_seal_that_was_not_committed_is_recognised(tmp_path: Path, make: Make) -> None:
    with ShardWriter(tmp_path) as writer:
        writer.add(make(0))
        committed = writer.sync()
        info = writer.seal()
    with ShardWriter(tmp_path, committed_bytes=committed, samples=1) as writer:
        assert writer.recovered == info
        assert (writer.shard, writer.samples, writer.position) == (1, 0, 0)
        assert writer.add(make(1)).shard == 1


def test_end_blocks_of_a_seal_cut_short_are_cut_off(tmp_path: Path, make: Make) -> None:
    whole = write(tmp_path / "whole", [make(0)]).read_bytes()
    with ShardWriter(tmp_path / "cut") as writer:
        writer.add(make(0))
        committed = writer.sync()
    part = tmp_path / "cut" / "shard-000000.tar.part"
    part.write_bytes(part.read_bytes() + bytes(700))
    with ShardWriter(tmp_path / "cut", committed_bytes=committed, samples=1) as writer:
        writer.seal()
    assert (tmp_path / "cut" / shard_name(0)).read_bytes() == whole


def test_a_foreign_sealed_shard_is_never_written_over(tmp_path: Path, make: Make) -> None:
    path = write(tmp_path, [make(0)])
    before = path.read_bytes()
    with pytest.raises(ShardExists):
        ShardWriter(tmp_path)
    with pytest.raises(ShardExists):
        ShardWriter(tmp_path, committed_bytes=512, samples=1)
    write(tmp_path / "two", [make(1)])
    (tmp_path / "two" / shard_name(1)).write_bytes(before)
    with ShardWriter(tmp_path / "three") as writer:
        writer.add(make(1))
        (tmp_path / "three" / shard_name(1)).write_bytes(before)
        writer.seal()
        with pytest.raises(ShardExists):
            writer.add(make(2))
    assert path.read_bytes() == before


def test_lost_bytes_are_an_error(tmp_path: Path, make: Make) -> None:
    with pytest.raises(PartLost, match="0 bytes, but 512 were committed"):
        ShardWriter(tmp_path, committed_bytes=512, samples=1)


KILLED = """
import os, signal, sys
from pathlib import Path
from shards.sample import Sample
from shards.writer import ShardWriter
folder, ledger, stop = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
steps = 0
def step():
    global steps
    steps += 1
    if steps == stop:
        os.kill(os.getpid(), signal.SIGKILL)
def commit(*numbers):
    beside = ledger.with_suffix(".new")
    beside.write_text(" ".join(map(str, numbers)))
    os.replace(beside, ledger)
shard, committed, in_shard, done = map(int, ledger.read_text().split()) if ledger.exists() else (0, 0, 0, 0)
writer = ShardWriter(folder, shard=shard, committed_bytes=committed, samples=in_shard, max_samples=3)
for n in range(done, 10):
    writer.add(Sample(f"k{n}", bytes([n]) * 700, "jpg", 0)); step()
    position = writer.sync(); step()
    commit(writer.shard, position, writer.samples, n + 1); step()
    if writer.full:
        writer.seal(); step()
        commit(writer.shard, 0, 0, n + 1); step()
if writer.samples:
    writer.seal(); step()
writer.close()
"""


def test_killed_anywhere_the_shards_come_out_the_same(tmp_path: Path) -> None:
    """SIGKILL after every single step in turn; the run after each goes on from the ledger."""

    def run(folder: Path, stop: int) -> int:
        ledger = folder.with_suffix(".ledger")
        return subprocess.run([sys.executable, "-c", KILLED, folder, ledger, str(stop)], check=False).returncode

    assert run(tmp_path / "whole", 0) == 0
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert sorted(expected) == [shard_name(n) for n in range(4)]
    kills = 0
    # a run ends later with each kill; the stop varies so that every kind of step is hit
    for attempt in range(40):
        code = run(tmp_path / "killed", 1 + attempt % 5)
        kills += code == -signal.SIGKILL
        if code == 0:
            break
    assert code == 0
    assert kills >= 5
    assert {path.name: path.read_bytes() for path in (tmp_path / "killed").iterdir()} == expected


def test_rewrite_without(tmp_path: Path, make: Make) -> None:
    samples = [make(seed, seed % 2) for seed in range(5)]
    path = write(tmp_path / "all", samples)
    expected = write(tmp_path / "some", samples[1:4]).read_bytes()
    gone = {samples[0].key, samples[4].key, "not-there"}
    info = rewrite_without(path, gone)
    assert path.read_bytes() == expected
    assert (info.samples, info.bytes, info.sha256) == (3, len(expected), hashlib.sha256(expected).hexdigest())
    assert rewrite_without(path, gone) == info
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_shard_of_which_nothing_is_left_may_stay_in_a_set(tmp_path: Path, make: Make) -> None:
    samples = [make(seed) for seed in range(4)]
    with write_set(tmp_path / "set", samples, ["a"], source={}, shard_samples=2) as made:
        first = made.folder / shard_name(0)
    assert rewrite_without(first, {samples[0].key, samples[1].key}).samples == 0
    with finish(tmp_path / "set", ["a"], source={}) as made:
        assert [sample.key for sample in made] == [samples[2].key, samples[3].key]
        assert not first.with_suffix(".idx").exists()


def test_rewrite_edits_label_and_json_and_tells_what_it_leaves_out(tmp_path: Path, make: Make) -> None:
    samples = [make(seed, 0) for seed in range(3)]
    path = write(tmp_path / "all", samples)
    before = path.read_bytes()
    edited = replace(samples[1], label=4, meta={**samples[1].meta, "title": "other"})
    expected = write(tmp_path / "some", [samples[0], edited]).read_bytes()
    gone: list[tuple[str, str, bytes]] = []
    edits = {samples[1].key: Edit(4, lambda meta: {**meta, "title": "other"}), samples[2].key: None}
    target = tmp_path / shard_name(7)
    info = rewrite(path, edits, target=target, on_removed=lambda *told: gone.append(told))
    assert (path.read_bytes(), target.read_bytes(), info.samples) == (before, expected, 2)
    assert gone == [(samples[2].key, samples[2].ext, samples[2].image)]
    path.write_bytes(before[:700])
    with pytest.raises(TarDamaged):
        rewrite(path, edits)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_write_set_leaves_nothing_half_written(tmp_path: Path, make: Make) -> None:
    target = tmp_path / "set"
    for samples, error in (
        ([make(0), Sample("a.b", b"x", "jpg", 0)], BadSample),
        ([make(0), make(1, 2)], BadLabel),
        ([make(0), make(1), make(0)], DuplicateKey),
    ):
        with pytest.raises(error):
            write_set(target, samples, ["a"], source={})
        assert list(tmp_path.iterdir()) == []


def test_write_set_refuses_what_is_there(tmp_path: Path, make: Make) -> None:
    (tmp_path / "set").mkdir()
    write_set(tmp_path / "set", [make(0)], ["a"], source={}).close()
    with pytest.raises(TargetNotEmpty):
        write_set(tmp_path / "set", [make(0)], ["a"], source={})


def test_a_killed_write_set_is_cleared_away(tmp_path: Path, make: Make) -> None:
    (tmp_path / ".set.part").mkdir()
    (tmp_path / ".set.part" / shard_name(0)).write_bytes(b"left over")
    write_set(tmp_path / "set", [make(0)], ["a"], source={}).close()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    images=st.lists(st.binary(min_size=1, max_size=1500).filter(lambda data: sniff(data) is None), max_size=8),
    per_shard=st.integers(1, 4),
    meta=st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=8), st.none()), max_size=3),
)
def test_what_goes_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory, images: list[bytes], per_shard: int, meta: dict[str, object]
) -> None:
    folder = tmp_path_factory.mktemp("round") / "set"
    samples = [Sample(f"k{n}", image, ("jpg", "png", "webp")[n % 3], n % 2, meta) for n, image in enumerate(images)]
    with write_set(folder, samples, ["a", "b"], source={}, shard_samples=per_shard) as made:
        assert list(made) == samples
        assert len(made.manifest.shards) == -(-len(samples) // per_shard)
    again = folder.with_name("again")
    write_set(again, samples, ["a", "b"], source={}, shard_samples=per_shard).close()
    assert all((again / path.name).read_bytes() == path.read_bytes() for path in folder.iterdir())
    with ShardSet.open(folder) as one, ShardSet.open(again) as other:
        assert one.digest == other.digest


def test_sync_reaches_the_disk(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_size), real(fd)))
    with ShardWriter(tmp_path) as writer:
        writer.add(make(0))
        assert writer.sync() == synced[-1] == writer.part.stat().st_size
