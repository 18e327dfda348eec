from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards.errors import ConfigError
from shards.quarantine import QUARANTINE_NAME, Quarantined, add_to_quarantine
from shards.read import Batch, BatchReader, SetChanged, State, permutation
from shards.sample import Sample
from shards.shard_errors import SampleDamaged
from shards.shard_set import ShardSet, finish
from shards.verify import verify
from shards.writer import write_set

N = 23
PINNED = [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
PINNED_DIGEST = "160278cb88d645cb"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    samples = [Sample(f"k{n:02d}", bytes([n + 1]) * (n + 1), "jpg", n % 3) for n in range(N)]
    return write_set(tmp_path_factory.mktemp("read") / "set", samples, list("abc"), source={}, shard_samples=5)


def check(batch: Batch) -> list[int]:
    for i, image, label in zip(batch.indices.tolist(), batch.images, batch.labels.tolist(), strict=True):
        assert bytes(image) == bytes([i + 1]) * (i + 1)
        assert label == i % 3
    return batch.indices.tolist()


def test_permutation_is_one_and_changes_with_seed_and_epoch() -> None:
    orders = [permutation(100, seed, epoch) for seed in range(3) for epoch in range(3)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({order.tobytes() for order in orders}) == 9
    assert orders[0].dtype == np.int64
    assert (permutation(100, 1, 2) == permutation(100, 1, 2)).all()
    assert permutation(0, 0, 0).tolist() == []


def test_permutation_stays_as_it_is() -> None:
    """Positions are kept on disk, so the order may never change."""
    assert permutation(10, 0, 0).tolist() == PINNED
    assert hashlib.sha256(permutation(1000, 7, 3).tobytes()).hexdigest()[:16] == PINNED_DIGEST


def test_permutation_is_even() -> None:
    places = np.zeros((6, 6), int)
    for epoch in range(6000):
        places[permutation(6, 0, epoch), np.arange(6)] += 1
    assert np.abs(places - 1000).max() < 150  # five standard deviations


def test_in_order(source: ShardSet) -> None:
    assert [i for batch in BatchReader(source, 4) for i in check(batch)] == list(range(N))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_size=st.integers(1, 30),
    worlds=st.tuples(st.integers(1, 5), st.integers(1, 7)),
    seed=st.one_of(st.none(), st.integers(0, 5)),
    stop=st.integers(0, 25),
)
def test_no_rank_and_no_resume_loses_or_doubles_a_sample(
    source: ShardSet, batch_size: int, worlds: tuple[int, int], seed: int | None, stop: int
) -> None:
    """Read some batches with one world size, go on with another: together, in order, exactly one epoch."""
    whole = [i for batch in BatchReader(source, batch_size, seed=seed, epoch=1) for i in check(batch)]
    assert sorted(whole) == list(range(N))
    readers = [BatchReader(source, batch_size, seed=seed, epoch=1, rank=r, world=worlds[0]) for r in range(worlds[0])]
    seen: list[int] = []
    for _ in range(min(stop, len(readers[0]))):
        seen += [i for reader in readers for i in check(next(reader))]
    states = [json.loads(json.dumps(reader.state)) for reader in readers]
    assert all(state == states[0] for state in states)
    resumed = [BatchReader.resume(source, states[0], batch_size, rank=r, world=worlds[1]) for r in range(worlds[1])]
    assert len({len(reader) for reader in resumed}) == 1
    while len(resumed[0]):
        seen += [i for reader in resumed for i in check(next(reader))]
    assert seen == whole
    for reader in resumed:
        with pytest.raises(StopIteration):
            next(reader)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_size=st.integers(1, 30),
    world=st.integers(1, 3),
    workers=st.integers(1, 6),
    workers_after=st.integers(1, 4),
    stop=st.integers(0, 12),
    drop_last=st.booleans(),
)
def test_workers_in_turns_are_one_reader(
    source: ShardSet, batch_size: int, world: int, workers: int, workers_after: int, stop: int, drop_last: bool
) -> None:
    """Each rank's workers, asked in turns as a DataLoader does, interrupted, and gone on with by another number."""
    whole = [check(batch) for batch in BatchReader(source, batch_size, seed=3, drop_last=drop_last)]
    seen: list[list[int]] = [[] for _ in whole]

    def take(rank: int, count: int, start: int, workers: int, limit: int | None) -> tuple[int, State | None]:
        readers = [
            BatchReader(
                source, batch_size, seed=3, start=start, rank=rank, world=world,
                worker=worker, workers=workers, drop_last=drop_last,
            )
            for worker in range(workers)
        ]  # fmt: skip
        assert sum(map(len, readers)) == len(whole) - count
        state: State | None = None
        taken = 0
        while limit is None or taken < limit:
            reader = readers[taken % workers]
            batch = next(reader, None)
            if batch is None:
                break
            seen[count + taken] += check(batch)
            state = reader.state
            taken += 1
        return taken, state

    for rank in range(world):
        taken, state = take(rank, 0, 0, workers, stop)
        take(rank, taken, state["position"] if state else 0, workers_after, None)
    assert seen == whole


def test_epochs_follow_each_other(source: ShardSet) -> None:
    reader = BatchReader(source, 4, seed=1, worker=1, workers=2, on_bad="skip")
    list(reader)
    following = reader.next_epoch()
    assert (following.epoch, following.worker, following.workers, following.on_bad) == (1, 1, 2, "skip")
    expected = [check(batch) for batch in BatchReader(source, 4, seed=1, epoch=1)][1::2]
    assert [check(batch) for batch in following] == expected


def test_what_a_reader_does_about_changed_bytes_is_an_argument(tmp_path: Path) -> None:
    samples = [Sample(f"k{n:02d}", bytes([n + 1]) * 600, "jpg", 0) for n in range(9)]
    with write_set(tmp_path / "set", samples, ["a"], source={}, shard_samples=4) as made:
        at = int(made.index.rows[5]["image"]) + 7
        path = made.folder / "shard-000001.tar"
        data = bytearray(path.read_bytes())
        data[at] ^= 255
        path.write_bytes(data)
    told: list[str] = []
    with ShardSet.open(tmp_path / "set") as opened:
        assert sum(map(len, BatchReader(opened, 4, seed=0))) == 9  # nobody looks
        with pytest.raises(SampleDamaged, match=r"shard-000001\.tar@\d+ k05: the image's bytes") as caught:
            list(BatchReader(opened, 4, seed=0, on_bad="raise"))
        assert "--quarantine" in str(caught.value)
        for policy in ("skip", lambda location, problem: told.append(f"{location}: {problem}")):
            reader = BatchReader(opened, 4, seed=0, on_bad=policy)
            seen = [i for batch in reader for i in batch.indices.tolist()]
            assert sorted(seen) == [0, 1, 2, 3, 4, 6, 7, 8]
            assert (reader.bad, reader.state["position"]) == (1, 9)
        with pytest.raises(ConfigError, match="on_bad"):
            BatchReader(opened, 4, on_bad="ignore")  # type: ignore[arg-type]
    assert len(told) == 1
    assert told[0].startswith("shard-000001.tar@")
    add_to_quarantine(tmp_path / "set", [Quarantined("k05", "", "flipped")])
    with ShardSet.open(tmp_path / "set") as opened:
        assert sum(map(len, BatchReader(opened, 4, seed=0, on_bad="raise"))) == 8
        state = BatchReader(opened, 4).state
    (tmp_path / "set" / QUARANTINE_NAME).unlink()
    with ShardSet.open(tmp_path / "set") as opened, pytest.raises(SetChanged):
        BatchReader.resume(opened, state, 4)


def test_an_empty_set_and_an_empty_tar(tmp_path: Path) -> None:
    with write_set(tmp_path / "none", [], ["a"], source={}) as none:
        assert list(BatchReader(none, 4, seed=0, rank=1, world=2, worker=1, workers=3)) == []
    assert verify(tmp_path / "none") == []
    with write_set(tmp_path / "set", [Sample("k", b"x", "jpg", 0)], ["a"], source={}) as made:
        folder = made.folder
    (folder / "shard-000001.tar").write_bytes(bytes(10240))
    with finish(folder, ["a"], source={}) as opened:
        assert [info.samples for info in opened.manifest.shards] == [1, 0]
        found = [
            sum(len(batch) for batch in BatchReader(opened, 4, seed=0, rank=rank, world=2, worker=worker, workers=3))
            for rank in range(2)
            for worker in range(3)
        ]
        assert sum(found) == 1


def test_drop_last_and_lengths(source: ShardSet) -> None:
    assert len(BatchReader(source, 5)) == 5
    reader = BatchReader(source, 5, drop_last=True)
    assert len(reader) == 4
    assert [len(batch) for batch in reader] == [5] * 4
    assert [len(batch) for batch in BatchReader(source, 5, start=19)] == [4]
    assert list(BatchReader(source, 5, start=N)) == []


def test_one_sample_and_four_ranks(tmp_path: Path) -> None:
    with write_set(tmp_path / "one", [Sample("k", b"x", "jpg", 0)], ["a"], source={}) as one:
        batches = [list(BatchReader(one, 4, seed=0, rank=rank, world=4)) for rank in range(4)]
        assert [[len(batch) for batch in mine] for mine in batches] == [[0], [0], [0], [1]]


def test_a_changed_set_is_refused(source: ShardSet, small: ShardSet) -> None:
    with pytest.raises(SetChanged, match="resume with the set"):
        BatchReader.resume(small, BatchReader(source, 4).state, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"start": -1},
        {"start": 24},
        {"rank": 2, "world": 2},
        {"world": 0},
        {"worker": 1},
        {"seed": -1},
    ],
)
def test_wrong_arguments_are_named(source: ShardSet, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        BatchReader(source, **({"batch_size": 4} | wrong))


def test_views_are_not_copies(source: ShardSet) -> None:
    first = next(BatchReader(source, 4)).images[0]
    assert isinstance(first, memoryview)
    assert first.obj is source.tars[0].obj


def test_reading_is_fast(tmp_path: Path, make: Callable[..., Sample]) -> None:
    """The issue asks for 200,000 samples/s a core; this machine gives over a million when idle."""
    samples = [Sample(f"k{n:04d}", make(n % 4).image * 4, "jpg", 0) for n in range(2000)]
    with write_set(tmp_path / "set", samples, ["a"], source={}, shard_samples=500) as made:
        best = 0.0
        for epoch in range(5):
            started = time.process_time()
            count = sum(len(batch) for batch in BatchReader(made, 256, seed=0, epoch=epoch))
            best = max(best, count / (time.process_time() - started))
    assert best > 200_000
