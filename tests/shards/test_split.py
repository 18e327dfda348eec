from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from shards.allot import allot, label_targets, nearest
from shards.duplicates import DEFAULT_DISTANCE, HASH_BITS, hash_image
from shards.errors import ConfigError
from shards.sample import Sample
from shards.shard_errors import TargetNotEmpty
from shards.shard_set import ShardSet
from shards.split import SplitProgress, hashes_of, leaks, open_split, split, split_folds
from shards.writer import write_set

Draw = Callable[..., bytes]
Make = Callable[..., Sample]


@pytest.fixture(scope="module")
def source(draw: Draw, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """120 samples, 90 to 30; every fourth product comes in three finishes (hue turned, recompressed)."""
    samples: list[Sample] = []
    for n in range(80):
        label = int(n >= 60)
        first = Sample(f"product-{n}", draw(n, size=(160, 160)), "jpg", label, {"n": n})
        samples.append(first)
        if n % 4 == 0:
            with Image.open(io.BytesIO(first.image)) as image:
                h, s, v = image.convert("HSV").split()
                for finish in (60, 120):
                    out = io.BytesIO()
                    turned = h.point([(x + finish) % 256 for x in range(256)])
                    Image.merge("HSV", (turned, s, v)).convert("RGB").save(out, "JPEG", quality=90)
                    samples.append(Sample(f"{first.key}-{finish}", out.getvalue(), "jpg", label, {"of": first.key}))
    return write_set(tmp_path_factory.mktemp("split") / "set", samples, ["guitar", "bass"], source={}, shard_samples=50)


def every_pair_apart(parts: list[ShardSet], distance: int) -> None:
    """Recomputes all hashes from what was written and compares every pair of samples of two parts."""
    hashes = [
        np.stack([np.frombuffer(hash_image(part.image(i)), np.uint8) for i in range(len(part))]) for part in parts
    ]
    for a, b in itertools.combinations(hashes, 2):
        differing = np.bitwise_count(a[:, None] ^ b[None]).sum(axis=2, dtype=np.int64)
        both = np.bitwise_count(a).sum(axis=1, dtype=np.int64)[:, None] + np.bitwise_count(b).sum(
            axis=1, dtype=np.int64
        )
        assert not ((differing <= distance) & (10 * differing <= both)).any()


def test_split_by_label_counts(source: ShardSet, tmp_path: Path) -> None:
    wanted = {"guitar": (50, 20, 16), "bass": (17, 7, 5)}
    seen: list[SplitProgress] = []
    made = split(source, tmp_path / "out", label_counts=wanted, seed=4, on_progress=seen.append)
    assert {name: part.counts for name, part in made.parts.items()} == {
        name: {label: row[i] for label, row in wanted.items()} for i, name in enumerate(("train", "val", "test"))
    }
    every_pair_apart(list(made.parts.values()), DEFAULT_DISTANCE)
    keys = [part.key(i) for part in made.parts.values() for i in range(len(part))]
    assert len(keys) == len(set(keys)) == 115
    recipe = json.loads((tmp_path / "out" / "split.json").read_bytes())
    assert recipe["left_out"] == {"guitar": 4, "bass": 1}
    assert recipe["groups"]["largest"] == 3
    assert recipe["groups"]["of_several"] == 20
    assert recipe["source"]["digest"] == source.digest
    assert sum(recipe["naive"]["leaked"].values()) > 20
    assert recipe["parts"]["val"]["digest"] == made.parts["val"].digest
    assert [progress.stage for progress in seen] == ["hash", "group"]


def test_samples_are_carried_over_whole(source: ShardSet, tmp_path: Path) -> None:
    made = split(source, tmp_path / "out", fractions=(0.5, 0.25, 0.25))
    assert [len(part) for part in made.parts.values()] == [60, 30, 30]
    for part in made.parts.values():
        assert part.manifest.split in ("train", "val", "test")
        for i in range(len(part)):
            origin = source.find(part.key(i))
            assert origin is not None
            assert part.image(i) == source.image(origin)
            assert part.label_ids[i] == source.label_ids[origin]
            assert part.meta(i) == source.meta(origin) | {"group": int(part.groups[i])}
    groups = [set(part.groups.tolist()) for part in made.parts.values()]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]


def test_parts_are_shuffled(source: ShardSet, tmp_path: Path) -> None:
    train = split(source, tmp_path / "out", counts=(100, 10, 10)).parts["train"]
    labels = train.label_ids
    assert int((labels[1:] != labels[:-1]).sum()) > 5
    assert labels[:50].sum() > 3


def test_same_seed_same_bytes_and_another_seed_another_split(source: ShardSet, tmp_path: Path) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    made = [
        split(source.folder, tmp_path / str(n), counts=(60, 20, 20), seed=seed).folder
        for n, seed in enumerate((1, 1, 2))
    ]
    one, same, other = map(files, made)
    assert one == same
    assert one.keys() == other.keys()
    assert one["train/shard-000000.tar"] != other["train/shard-000000.tar"]


def test_distance_zero_keeps_equal_hashes_together_only(source: ShardSet, tmp_path: Path) -> None:
    assert (
        split(source, tmp_path / "out", fractions=(0.8, 0.2), names=("a", "b"), distance=0).recipe["groups"][
            "of_several"
        ]
        < 20
    )


def test_unreadable_images_are_split_and_named(make: Make, tmp_path: Path) -> None:
    bad = [Sample(f"bad{n}", b"no image" + bytes([n % 2]), "jpg", 0) for n in range(4)]
    with write_set(tmp_path / "set", [make(0), *bad], ["a"], source={}) as made:
        parts = split(made, tmp_path / "out", counts=(3, 2), names=("a", "b"))
    assert len(parts.recipe["unreadable"]) == 4
    assert parts.recipe["groups"]["of_several"] == 2


def test_out_must_be_new_and_appears_whole(source: ShardSet, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    with pytest.raises(TargetNotEmpty):
        split(source, tmp_path / "out", fractions=(0.6, 0.2, 0.2))
    with pytest.raises(RuntimeError, match="stop"):
        split(source, tmp_path / "new", fractions=(0.6, 0.2, 0.2), on_progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def stop(progress: SplitProgress) -> None:
    raise RuntimeError("stop")


def test_any_parts_by_any_names(source: ShardSet, tmp_path: Path) -> None:
    names = ("a", "b", "c", "holdout")
    made = split(source, tmp_path / "out", fractions=(0.25,) * 4, names=names)
    assert {name: len(part) for name, part in made.parts.items()} == dict.fromkeys(names, 30)
    for bad in (("a", "a"), ("..", "b"), ("a/b", "c"), (".x", "y"), ("split.json", "b")):
        with pytest.raises(ConfigError, match="split: names"):
            split(source, tmp_path / "bad", fractions=(0.5, 0.5), names=bad)


def test_two_passes_write_what_one_does(source: ShardSet, tmp_path: Path) -> None:
    stages = []
    one = split(source, tmp_path / "one", counts=(60, 20, 20))
    two = split(
        source,
        tmp_path / "two",
        counts=(60, 20, 20),
        memory_bytes=50_000,
        on_progress=lambda at: stages.append(at.stage),
    )
    for name in one.parts:
        assert one.parts[name].digest == two.parts[name].digest
    assert [path.name for path in (tmp_path / "two").iterdir() if path.name.startswith(".")] == []


def test_folds_are_splits_that_test_every_sample_once(source: ShardSet, tmp_path: Path) -> None:
    made = split_folds(source, tmp_path / "cv", 4, seed=1)
    assert [fold.folder.name for fold in made] == ["fold-0", "fold-1", "fold-2", "fold-3"]
    tested: list[str] = []
    for number, fold in enumerate(made):
        every_pair_apart(list(fold.parts.values()), DEFAULT_DISTANCE)
        keys = {name: [part.key(i) for i in range(len(part))] for name, part in fold.parts.items()}
        assert sorted(key for some in keys.values() for key in some) == sorted(sample.key for sample in source)
        assert abs(len(keys["test"]) - 30) <= 3
        assert abs(fold.parts["test"].counts["bass"] - source.counts["bass"] / 4) <= 3
        following = made[(number + 1) % 4].parts["test"]
        assert sorted(keys["val"]) == sorted(following.key(i) for i in range(len(following)))
        tested += keys["test"]
    assert len(tested) == len(set(tested)) == len(source)
    with pytest.raises(ConfigError, match="3 or more"):
        split_folds(source, tmp_path / "two", 2)
    with pytest.raises(ConfigError, match="unlike images only"):
        split_folds(source, tmp_path / "many", 110)
    assert [path.name for path in tmp_path.iterdir()] == ["cv"]


def test_labels_that_a_part_lacks_are_named(make: Make, tmp_path: Path) -> None:
    samples = [make(n, int(n == 9)) for n in range(10)]
    with write_set(tmp_path / "set", samples, ["a", "rare", "none"], source={}) as made:
        recipe = split(made, tmp_path / "out", fractions=(0.6, 0.2, 0.2)).recipe
    assert recipe["absent"] == {"val": ["rare"], "test": ["rare"]}


def test_open_split(source: ShardSet, tmp_path: Path) -> None:
    made = split(source, tmp_path / "out", fractions=(0.6, 0.2, 0.2))
    again = open_split(tmp_path / "out")
    assert again.recipe == made.recipe
    assert {name: part.digest for name, part in again.parts.items()} == {n: p.digest for n, p in made.parts.items()}


S5 = {"guitar": (3880, 1311, 1733), "bass": (620, 189, 267)}


def test_the_split_of_the_original() -> None:
    """8,000 samples with colour variants: 4,500/1,500/2,000, to the sample and per label, nothing left over."""
    rng = np.random.default_rng(0)
    label_ids = np.repeat([0, 1], [6924, 1076])
    groups = np.arange(8000)
    for start in rng.choice(7990, 1500, replace=False):
        size = rng.integers(2, 6)
        groups[start : start + size] = groups[start]
    targets = label_targets(np.bincount(label_ids), ["guitar", "bass"], ["train", "val", "test"], label_counts=S5)
    part = allot(label_ids, groups, targets, ["guitar", "bass"], ["train", "val", "test"], 0)
    for label, row in enumerate(S5.values()):
        assert tuple(np.bincount(part[label_ids == label], minlength=3)) == row
    assert leaks(part, groups, ["train", "val", "test"]) == {"train": 0, "val": 0, "test": 0}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "expected one of"),
        ({"counts": (1, 1, 1), "fractions": (1, 0, 0)}, "expected one of"),
        ({"counts": (7000, 1000, 1)}, "ask for 8001 samples; the set has 8000"),
        ({"counts": (1, 1)}, "for the 3 parts train, val, test"),
        ({"counts": (1, 1, -1)}, "no negative"),
        ({"fractions": (0.9, 0.2, 0.1)}, "more than 1"),
        ({"label_counts": {"bass": (1000, 100, 0)}}, "label_counts.bass: .* ask for 1100 samples; the set has 1076"),
        ({"label_counts": {"drum": (1, 1, 1)}}, "label_counts.drum: no such label; the set has guitar, bass"),
    ],
)
def test_impossible_numbers_are_named(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        label_targets(np.array([6924, 1076]), ["guitar", "bass"], ["train", "val", "test"], **options)  # type: ignore[arg-type]


def test_a_group_too_large_for_every_part_is_named() -> None:
    label_ids, groups = np.zeros(10, np.int64), np.array([0] * 7 + [1, 2, 3])
    with pytest.raises(ConfigError, match=r"guitar: .*train 5, val 5, left out 0, but a group of 7 near-duplicates"):
        allot(label_ids, groups, np.array([[5, 5]]), ["guitar"], ["train", "val"], 0)
    part = allot(label_ids, groups, np.array([[7, 3]]), ["guitar"], ["train", "val"], 0)
    assert part.tolist() == [0] * 7 + [1] * 3


def test_the_nearest_counts_that_fit_are_named_and_do_fit() -> None:
    groups = np.array([0] * 7 + [1] * 2 + [2])
    with pytest.raises(ConfigError, match="nearest that was found to fit is guitar train 7, val 3, left out 0; ask"):
        allot(np.zeros(10, np.int64), groups, np.array([[5, 5]]), ["guitar"], ["train", "val"], 0)
    assert (allot(np.zeros(10, np.int64), groups, np.array([[7, 3]]), ["guitar"], ["train", "val"], 0) >= 0).all()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_nearest_counts_can_be_had(data: st.DataObject) -> None:
    labels, parts = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    sizes = data.draw(st.lists(st.lists(st.integers(0, 4), min_size=labels, max_size=labels), min_size=1, max_size=6))
    needs = [np.array(size) for size in sizes if sum(size) > 1]
    groups = np.repeat(np.arange(len(sizes)), [sum(size) for size in sizes])
    label_ids = np.concatenate([np.repeat(np.arange(labels), size) for size in sizes]).astype(np.int64)
    available = np.bincount(label_ids, minlength=labels)
    shares = data.draw(st.lists(st.floats(0.1, 1), min_size=parts + 1, max_size=parts + 1))
    room = np.zeros((labels, parts + 1), np.int64)
    for label, count in enumerate(available.tolist()):
        edges = np.round(np.cumsum(shares) / sum(shares) * count).astype(np.int64)
        room[label] = np.diff(edges, prepend=0)
    found = nearest(needs, room)
    assert (found >= 0).all()
    assert found.sum(axis=1).tolist() == available.tolist()
    part = allot(label_ids, groups, found[:, :-1], ["a", "b"][:labels], ["x", "y", "z"][:parts], 0)
    for label in range(labels):
        counted = [int((part[label_ids == label] == n).sum()) for n in range(parts)]
        assert counted == found[label, :-1].tolist()


def test_odd_targets_of_pairs_only_are_refused_quickly() -> None:
    with pytest.raises(ConfigError, match="near-duplicates"):
        allot(np.zeros(200, np.int64), np.repeat(np.arange(100), 2), np.array([[101, 99]]), ["a"], ["x", "y"], 0)


def test_a_label_with_fewer_samples_than_parts() -> None:
    targets = label_targets(np.array([97, 1, 2]), list("abc"), ["train", "val", "test"], fractions=(0.6, 0.2, 0.2))
    assert targets.sum(axis=0).tolist() == [60, 20, 20]
    assert targets.sum(axis=1).tolist() == [97, 1, 2]
    assert targets[1].tolist() == [1, 0, 0]


@settings(max_examples=150, deadline=None)
@given(
    available=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    fractions=st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
def test_targets_add_up_and_are_proportional(available: list[int], fractions: list[float]) -> None:
    shares = np.array(fractions) / max(1.0, sum(fractions))
    labels, names = [str(n) for n in range(len(available))], [str(n) for n in range(len(fractions))]
    targets = label_targets(np.array(available), labels, names, fractions=shares.tolist())
    assert (targets >= 0).all()
    assert (targets.sum(axis=1) <= available).all()
    assert (np.abs(targets.sum(axis=0) - shares * sum(available)) < 1.01).all()
    assert (np.abs(targets - np.outer(available, shares)) < len(fractions) + 1).all()


@settings(max_examples=80, deadline=None)
@given(data=st.data(), parts=st.integers(1, 3), labels=st.integers(1, 2), seed=st.integers(0, 9))
def test_allot_is_exact_whenever_it_can_be(data: st.DataObject, parts: int, labels: int, seed: int) -> None:
    """Small cases against all assignments there are: a split is found exactly when one exists, and it is true."""
    sizes = data.draw(st.lists(st.lists(st.integers(0, 3), min_size=labels, max_size=labels), min_size=1, max_size=6))
    groups = np.concatenate([np.full(sum(size), n) for n, size in enumerate(sizes)]).astype(np.int64)
    label_ids = np.concatenate([np.repeat(np.arange(labels), size) for size in sizes]).astype(np.int64)
    available = np.bincount(label_ids, minlength=labels)
    targets = np.array([data.draw(st.lists(st.integers(0, 5), min_size=parts, max_size=parts)) for _ in range(labels)])
    targets = np.where(targets.sum(axis=1, keepdims=True) <= available[:, None], targets, 0)
    possible = any(
        (_filled(sizes, choice, parts) == targets).all()
        for choice in itertools.product(range(parts + 1), repeat=len(sizes))
    )
    names = [f"l{n}" for n in range(labels)], [f"p{n}" for n in range(parts)]
    if not possible:
        with pytest.raises(ConfigError):
            allot(label_ids, groups, targets, *names, seed)
        return
    part = allot(label_ids, groups, targets, *names, seed)
    for label in range(labels):
        assert [int((part[label_ids == label] == n).sum()) for n in range(parts)] == targets[label].tolist()
    for group in range(len(sizes)):
        assert len(set(part[groups == group].tolist())) <= 1
    assert (part == allot(label_ids, groups, targets, *names, seed)).all()


def _filled(sizes: list[list[int]], choice: tuple[int, ...], parts: int) -> NDArray[np.int64]:
    """Samples of each label in each part, (L, P), when group n goes to part choice[n]; the last choice: left out."""
    filled = np.zeros((len(sizes[0]), parts + 1), np.int64)
    for size, where in zip(sizes, choice, strict=True):
        filled[:, where] += size
    return filled[:, :parts]


def test_a_hash_in_the_json_is_taken_only_if_it_is_of_this_image(
    tmp_path: Path, thumbnails: dict[str, list[Path]]
) -> None:
    data = thumbnails["violin"][0].read_bytes()
    honest = {"sha256": hashlib.sha256(data).hexdigest(), "dhash": "5a" * (HASH_BITS // 8)}
    metas = [honest, {**honest, "sha256": "0" * 64}, {**honest, "dhash": "5a"}, {**honest, "dhash": "zz" * 144}, {}]
    samples = [Sample(f"k{number}", data, "jpg", 0, meta) for number, meta in enumerate(metas)]
    with write_set(tmp_path / "set", samples, ["violin"], source={}) as made:
        hashes, unreadable = hashes_of(made)
    assert unreadable == []
    assert hashes[0].tobytes() == b"\x5a" * (HASH_BITS // 8)
    for row in hashes[1:]:
        assert row.tobytes() == hash_image(data)


def test_the_order_in_which_a_crawl_stored_its_samples_changes_nothing(source: ShardSet, tmp_path: Path) -> None:
    samples = list(source)
    write_set(tmp_path / "other", reversed(samples), source.labels, source={}).close()
    parts = []
    for name, folder in (("a", source.folder), ("b", tmp_path / "other")):
        made = split(folder, tmp_path / name, fractions=(0.6, 0.2, 0.2), seed=3)
        parts.append({part: [sample.key for sample in opened] for part, opened in made.parts.items()})
    assert parts[0] == parts[1]
