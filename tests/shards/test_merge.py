from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.drop import DROPS_NAME
from shards.errors import ConfigError
from shards.merge import merge, names_of
from shards.sample import Sample
from shards.shard_set import ShardSet
from shards.verify import verify
from shards.writer import write_set

from .conftest import Draw


def made(folder: Path, samples: Sequence[Sample], labels: Sequence[str] = ("bass", "guitar")) -> ShardSet:
    return write_set(folder, samples, labels, source={})


def test_two_shops(draw: Draw, tmp_path: Path) -> None:
    a = made(
        tmp_path / "shop-a",
        [
            Sample("one", draw(1), "jpg", 0, {"product_url": "https://a/1", "title": "A1"}),
            Sample("two", draw(2), "jpg", 1, {"product_url": "https://a/2"}),
            Sample("torn", draw(3), "jpg", 1),
        ],
        ["e-bass", "guitar"],
    )
    b = made(
        tmp_path / "shop-b",
        [
            Sample("uno", draw(1), "jpg", 1, {"product_url": "https://b/1"}),
            Sample("two", draw(4), "jpg", 0),
            Sample("torn-too", draw(3), "jpg", 1),
            Sample("lute", draw(5), "jpg", 2),
        ],
        ["guitar", "bass", "lute"],
    )
    done = merge([a, b], tmp_path / "both", mapping={"e-bass": "bass"}, by_set={"shop-b": {"lute": ""}})
    assert done.made.labels == ("bass", "guitar")
    assert done.made.counts == {"bass": 1, "guitar": 2}
    assert (done.same_bytes, done.conflicts, done.unmapped) == (1, 1, 1)
    assert len(done.renamed) == 1
    assert verify(tmp_path / "both") == []
    place = done.made.find("one")
    assert place is not None
    meta = done.made.meta(place)
    assert meta["label"] == "bass"
    assert meta["title"] == "A1"
    assert [(one["set"], one["key"], one["label"], one["product_url"]) for one in meta["origins"]] == [
        ("shop-a", "one", "e-bass", "https://a/1"),
        ("shop-b", "uno", "bass", "https://b/1"),
    ]
    keys = {done.made.key(i) for i in range(3)}
    assert {"one", "two"} < keys
    assert any(key.startswith("two-") for key in keys)
    told = [json.loads(line) for line in (tmp_path / "both" / DROPS_NAME).read_text().splitlines()]
    assert [(line["set"], line["reason"]) for line in told] == [
        ("shop-a", "label-conflict"),
        ("shop-b", "label-conflict"),
        ("shop-b", "label-left-out"),
    ]
    assert [one["digest"] for one in done.made.manifest.source["of"]] == [a.digest, b.digest]


def test_near_duplicates_across_sets_share_a_group(real: ShardSet, tmp_path: Path) -> None:
    import io

    from PIL import Image

    out = io.BytesIO()
    with Image.open(io.BytesIO(bytes(real.image(0)))) as image:
        image.save(out, "JPEG", quality=70)
    other = made(tmp_path / "other", [Sample("again", out.getvalue(), "jpg", 0)], [real.labels[0]])
    done = merge([real, other], tmp_path / "both")
    assert done.near_across == 1
    both = [done.made.find(key) for key in (real.key(0), "again")]
    assert done.made.groups[both[0]] == done.made.groups[both[1]]
    assert len(done.made) == 81


def test_accounts_are_carried_over_with_the_name_of_their_set(draw: Draw, tmp_path: Path) -> None:
    sets = [made(tmp_path / name, [Sample("k", draw(n), "jpg", 0)]) for n, name in enumerate("ab")]
    (tmp_path / "a" / DROPS_NAME).write_text('{"url": "https://a/x", "reason": "robots"}\n')
    merge(sets, tmp_path / "both").made.close()
    assert json.loads((tmp_path / "both" / DROPS_NAME).read_text()) == {
        "set": "a",
        "url": "https://a/x",
        "reason": "robots",
    }


@pytest.mark.parametrize(
    ("mapping", "by_set", "says"),
    [
        ({"drum": "x"}, {}, "labels: drum: no set has this label; there are bass, guitar"),
        ({}, {"c": {}}, "sets: c: no such set; there are a, b"),
        ({}, {"b": {"lute": "x"}}, "sets.b: lute: no such label"),
        ({"bass": "", "guitar": ""}, {}, "not one sample is left"),
    ],
)
def test_mappings_of_what_is_not_there(
    draw: Draw, tmp_path: Path, mapping: dict[str, str], by_set: dict[str, dict[str, str]], says: str
) -> None:
    sets = [made(tmp_path / name, [Sample(name, draw(n), "jpg", 0)]) for n, name in enumerate("ab")]
    with pytest.raises(ConfigError, match=says):
        merge(sets, tmp_path / "both", mapping=mapping, by_set=by_set)
    assert not (tmp_path / "both").exists()


def test_names_tell_sets_apart() -> None:
    assert names_of([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
    assert names_of([Path("/x/set"), Path("/y/set")]) == ["x/set", "y/set"]
    assert names_of([Path("/x/a"), Path("/x/a")]) == ["a", "a"]


Content = dict[bytes, tuple[str, frozenset[str]]]


def content(source: ShardSet) -> Content:
    """Image to label and origins."""
    return {
        sample.image: (
            source.labels[sample.label],
            frozenset(json.dumps(one, sort_keys=True) for one in sample.meta["origins"]),
        )
        for sample in source
    }


@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_merging_is_idempotent_associative_and_commutative_in_content(draw: Draw, data: st.DataObject) -> None:
    def some(name: str) -> list[Sample]:
        keys = data.draw(st.lists(st.sampled_from("abcde"), unique=True, min_size=1, max_size=4), name)
        pictures = data.draw(st.lists(st.integers(0, 5), min_size=len(keys), max_size=len(keys)))
        # one label a picture: conflicts are left out early or late, and that is not associative
        return [Sample(key, draw(n), "jpg", n % 2, {"n": n}) for key, n in zip(keys, pictures, strict=True)]

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        a, b, c = (made(folder / x, some(x)) for x in "abc")
        ab = merge([a, b], folder / "ab").made
        bc = merge([b, c], folder / "bc").made
        whole = content(merge([a, b, c], folder / "abc").made)
        assert content(merge([ab, c], folder / "ab-c").made) == whole
        assert content(merge([a, bc], folder / "a-bc").made) == whole
        assert content(merge([c, b, a], folder / "cba").made) == whole
        assert content(merge([ab, ab], folder / "twice").made) == content(ab)
        assert content(merge([ab], folder / "again").made) == content(ab)
        everything = {bytes(image) for source in (a, b, c) for image in map(source.image, range(len(source)))}
        assert set(whole) == everything
