"""Rows that a writer remembers are those that a walk over its tar finds, or none at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.dimensions import dimensions
from shards.index import Part, known_rows, walk_tars
from shards.known_rows import packed_row
from shards.sample import Sample
from shards.writer import ShardWriter, encode, rewrite_without

LABELS = [f"label {number}" for number in range(12)]
Made = tuple[Path, np.ndarray, np.ndarray, bytes]


def written(folder: Path, samples: list[Sample]) -> Made:
    """A sealed tar, and what its writer remembers of it."""
    keys, offsets, packed = [], [], []
    with ShardWriter(folder) as writer:
        for sample in samples:
            before, after = encode(sample)
            offsets.append(writer.append(before, sample.image, after).offset)
            keys.append(sample.key)
            packed.append(packed_row(sample, after, *(dimensions(sample.image) or (0, 0))))
        info = writer.seal()
    return folder / info.name, np.array(keys, "S20"), np.array(offsets), b"".join(packed)


def walked(path: Path, known: Callable[[Path], Part | None] = lambda path: None) -> tuple[Any, ...]:
    found = walk_tars([path], LABELS, {}, known)
    return found.rows.tobytes(), found.keys.tobytes(), found.samples, path.with_suffix(".idx").read_bytes()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["JPEG", "PNG", "WEBP"]), st.binary(max_size=1100), st.integers(0, 11), st.text(max_size=40)
        ),
        min_size=1,
        max_size=8,
    )
)
def test_they_are_those_of_a_walk(draw, tmp_path_factory, drawn):
    samples = []
    for number, (kind, tail, label, title) in enumerate(drawn):
        ext = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}[kind]
        meta = {"label": LABELS[label], "title": title}
        samples.append(Sample(f"{number:020x}", draw(number, kind) + tail, ext, label, meta))
    path, keys, offsets, packed = written(tmp_path_factory.mktemp("known"), samples)
    remembered = known_rows(path, keys, offsets, packed, len(LABELS))
    assert remembered is not None
    assert walked(path, lambda path: known_rows(path, keys, offsets, packed, len(LABELS))) == walked(path)


@pytest.fixture
def made(make, tmp_path) -> Made:
    return written(tmp_path, [make(seed) for seed in range(5)])


def test_a_tar_without_one_of_them_is_walked(made):
    path, keys, offsets, packed = made
    rewrite_without(path, [keys[2].decode()])
    assert known_rows(path, keys, offsets, packed, len(LABELS)) is None


def test_a_tar_with_another_sample_of_their_size_is_walked(made):
    path, keys, offsets, packed = made
    content = path.read_bytes()
    path.write_bytes(content.replace(keys[3], keys[3][::-1]))
    assert known_rows(path, keys, offsets, packed, len(LABELS)) is None


@pytest.mark.parametrize("cut", [512, 10240, 30000])
def test_a_tar_that_is_cut_short_is_walked(made, cut):
    path, keys, offsets, packed = made
    path.write_bytes(path.read_bytes()[:-cut])
    assert known_rows(path, keys, offsets, packed, len(LABELS)) is None


def test_a_tar_that_goes_on_is_walked(made):
    path, keys, offsets, packed = made
    path.write_bytes(path.read_bytes() + bytes(10240))
    assert known_rows(path, keys, offsets, packed, len(LABELS)) is None


def test_rows_of_fewer_samples_than_the_tar_has_are_none(made):
    path, keys, offsets, packed = made
    row = len(packed) // len(keys)
    for some in (slice(0, 4), slice(1, 5)):
        remembered = packed[some.start * row : some.stop * row]
        assert known_rows(path, keys[some], offsets[some], remembered, len(LABELS)) is None


def test_a_tar_with_another_label_in_the_same_place_is_walked(made):
    path, keys, offsets, packed = made
    content = bytearray(path.read_bytes())
    at = content.index(keys[1] + b".cls") + 512
    assert content[at : at + 1] == b"0"
    content[at : at + 1] = b"1"
    path.write_bytes(content)
    assert known_rows(path, keys, offsets, packed, len(LABELS)) is None
