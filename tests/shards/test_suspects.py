from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import ConfigError
from shards.features import describe, features
from shards.folds import folds
from shards.sample import Sample
from shards.shard_set import ShardSet
from shards.suspects import SuspectProgress, confident_joint, suspects
from shards.writer import write_set

from .conftest import Draw, Make

LABELS = ("accordion", "drum", "flute", "guitar", "harmonica")
FLIPPED = 0.05


@pytest.fixture(scope="module")
def flipped(instruments10: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ShardSet, set[str]]]:
    """500 real thumbnails of five labels; 25 of them, by a seed, under another label. Gives the keys of those."""
    rng = np.random.default_rng(0)
    samples = []
    for label, name in enumerate(LABELS):
        for path in sorted((instruments10 / name).iterdir())[:100]:
            samples.append(Sample(f"{name}-{path.stem}", path.read_bytes(), "jpg", label))
    chosen = rng.choice(len(samples), round(FLIPPED * len(samples)), replace=False).tolist()
    for i in chosen:
        samples[i] = replace(samples[i], label=(samples[i].label + int(rng.integers(1, 5))) % 5)
    folder = tmp_path_factory.mktemp("flipped") / "set"
    with write_set(folder, samples, LABELS, source={}) as made:
        yield made, {samples[i].key for i in chosen}


def test_planted_flips_are_found_far_above_chance(flipped: tuple[ShardSet, set[str]]) -> None:
    """Measured: 0.83 of the first 12 and 0.48 of all among the first 50, where chance has 0.05 and 0.1."""
    source, wrong = flipped
    seen: list[SuspectProgress] = []
    found = suspects(source, on_progress=seen.append)
    top = [one.key in wrong for one in found.found]
    assert np.mean(top[:12]) >= 10 * FLIPPED
    assert np.sum(top[: 2 * len(wrong)]) >= 0.35 * len(wrong)
    assert found.accuracy > 2 * found.majority
    assert [one.rank for one in found.found] == list(range(1, len(top) + 1))
    margins = [one.margin for one in found.found]
    assert margins == sorted(margins, reverse=True)
    off_diagonal = int(found.joint.sum() - np.trace(found.joint))
    assert off_diagonal == len(found.found)
    assert {progress.stage for progress in seen} == {"hash", "look", "doubt"}


def test_the_same_seed_says_the_same(flipped: tuple[ShardSet, set[str]], tmp_path: Path) -> None:
    source, _ = flipped
    chosen = list(range(0, 500, 5))
    with write_set(tmp_path / "some", map(source.sample, chosen), source.labels, source={}) as some:
        assert suspects(some, fold_count=3, seed=1).found == suspects(some, fold_count=3, seed=1).found


def test_confident_joint_by_hand() -> None:
    """Label 0's threshold is (.9 + .2 + .6) / 3 = .567, label 1's (.6 + .8) / 2 = .7; label 2 has no samples."""
    told = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0], [0.4, 0.6, 0.0], [0.2, 0.8, 0.0]])
    joint, thresholds, placed = confident_joint(told, np.array([0, 0, 0, 1, 1]))
    assert thresholds[:2].tolist() == pytest.approx([1.7 / 3, 0.7])
    assert np.isnan(thresholds[2])
    assert placed.tolist() == [0, 1, 0, -1, 1]
    assert joint.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_what_cannot_be_read_is_named_and_not_judged(draw: Draw, tmp_path: Path) -> None:
    samples = [Sample(f"k{n}", draw(n), "jpg", n % 2) for n in range(20)]
    samples += [Sample("bad", b"no image", "jpg", 0), Sample("alpha", draw(30, "PNG", (31, 7)), "png", 1)]
    with write_set(tmp_path / "set", samples, ["a", "b", "none"], source={}) as made:
        found = suspects(made, fold_count=4)
        assert found.unreadable == (20,)
        assert "bad" not in {one.key for one in found.found}
        columns, readable = features(made)
        assert columns.shape[0] == 22
        assert not columns[20].any()
        assert np.isfinite(columns).all()
        assert readable.sum() == 21


def test_one_label_has_nothing_to_be_confused_with(draw: Draw, tmp_path: Path) -> None:
    samples = [Sample(f"k{n}", draw(n), "jpg", 0) for n in range(6)]
    with (
        write_set(tmp_path / "set", samples, ["a", "b"], source={}) as made,
        pytest.raises(ConfigError, match="nothing to confuse"),
    ):
        suspects(made)


def test_features_do_not_stretch(draw: Draw) -> None:
    assert np.isfinite(describe(draw(0, size=(1, 1)))).all()
    wide, high = describe(draw(1, size=(200, 50))), describe(draw(1, size=(50, 200)))
    assert wide[-1] == pytest.approx(-high[-1])


@given(data=st.data(), k=st.integers(1, 6), seed=st.integers(0, 5))
def test_folds_keep_groups_whole_and_are_even(data: st.DataObject, k: int, seed: int) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=40))
    group_ids = np.repeat(np.arange(len(sizes)), sizes)
    label_of = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(sizes), max_size=len(sizes))))
    label_ids = label_of[group_ids]
    fold = folds(label_ids, group_ids, k, seed)
    for group in range(len(sizes)):
        assert len(set(fold[group_ids == group].tolist())) == 1
    for label in range(3):
        count = np.bincount(fold[label_ids == label], minlength=k)
        assert count.max() - count.min() <= max(sizes)
    assert (fold == folds(label_ids, group_ids, k, seed)).all()


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.filterwarnings("error")
def test_of_no_image_or_one_there_is_nothing_to_doubt(tmp_path: Path, make: Make, count: int) -> None:
    samples = [make(seed) for seed in range(count)]
    with write_set(tmp_path / "set", samples, ["bass", "guitar"], source={}) as made:
        with pytest.raises(ConfigError, match="there is nothing to confuse"):
            suspects(made)
        if count:
            assert features(made)[0].shape[0] == 1
