from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from shards.diff import diff
from shards.sample import Sample
from shards.shard_set import ShardSet
from shards.writer import write_set

from .conftest import Draw


def made(folder: Path, samples: Sequence[Sample], labels: Sequence[str] = ("bass", "guitar")) -> ShardSet:
    return write_set(folder, samples, labels, source={})


def test_a_shop_some_months_later(draw: Draw, tmp_path: Path) -> None:
    def sample(key: str, picture: int, label: int = 0, **meta: str) -> Sample:
        return Sample(key, draw(picture), "jpg", label, meta)

    old = [
        sample("stays", 1, product_url="https://s/p/1"),
        sample("gone", 2, product_url="https://s/p/2", title="Old"),
        sample("newphoto-a", 3, image_url="https://s/3.jpg"),
        sample("newplace-a", 4, image_url="https://s/4.jpg", product_url="https://s/p/4"),
        sample("relabel", 5),
        sample("same-key", 6),
        sample("rename-a", 7),
    ]
    new = [
        sample("stays", 1, product_url="https://s/p/1"),
        sample("newphoto-b", 30, image_url="https://s/3.jpg"),
        sample("newplace-b", 40, image_url="https://s/40.jpg", product_url="https://s/p/4"),
        sample("relabel", 5, 1),
        sample("same-key", 60, 1),
        sample("rename-b", 7),
        sample("fresh", 8, title="New"),
    ]
    with made(tmp_path / "a", old) as a, made(tmp_path / "b", new) as b:
        found = diff(a, b)
    assert [entry.key for entry in found.added] == ["fresh"]
    assert [(entry.key, entry.title) for entry in found.removed] == [("gone", "Old")]
    assert [(pair.before.key, pair.after.key, pair.by) for pair in found.changed] == [
        ("newphoto-a", "newphoto-b", "url"),
        ("newplace-a", "newplace-b", "product_url"),
        ("same-key", "same-key", "key"),
    ]
    assert [pair.after.key for pair in found.relabelled] == ["relabel", "same-key"]
    assert [(pair.before.key, pair.by) for pair in found.rekeyed] == [("rename-a", "bytes")]
    assert found.counts()["same"] == 2
    told = found.to_json()
    assert told["different"] is True
    assert told["changed"][0]["before"]["key"] == "newphoto-a"


def test_labels_are_compared_by_name(draw: Draw, tmp_path: Path) -> None:
    first = made(tmp_path / "a", [Sample("k", draw(1), "jpg", 0)], ["bass", "guitar"])
    turned = made(tmp_path / "b", [Sample("k", draw(1), "jpg", 1)], ["guitar", "bass"])
    other = made(tmp_path / "c", [Sample("k", draw(1), "jpg", 0)], ["bass", "drum"])
    assert not diff(first, turned)
    found = diff(first, other)
    assert (found.labels_added, found.labels_removed) == (("drum",), ("guitar",))
    assert found


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_sample_is_in_exactly_one_place(draw: Draw, data: st.DataObject) -> None:
    """Counts add up on both sides, and turning the sets around turns the difference around."""

    def some(name: str) -> list[Sample]:
        keys = data.draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=6), name)
        return [
            Sample(
                key,
                draw(data.draw(st.integers(0, 4))),
                "jpg",
                data.draw(st.integers(0, 1)),
                {"product_url": data.draw(st.sampled_from(["", "https://s/1", "https://s/2"]))},
            )
            for key in keys
        ]

    with tempfile.TemporaryDirectory() as folder:
        a, b = made(Path(folder) / "a", some("a")), made(Path(folder) / "b", some("b"))
        there, back = diff(a, b), diff(b, a)
        assert not diff(a, a)
    matched = len(a) - len(there.removed)
    assert matched == len(b) - len(there.added)
    both = {pair.before.key for pair in there.changed} & {pair.before.key for pair in there.relabelled}
    assert there.counts()["same"] == matched - len(there.changed) - len(there.relabelled) + len(both)
    assert len(there.added) == len(back.removed)
