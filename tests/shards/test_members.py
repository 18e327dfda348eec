"""Members that are neither image nor label nor JSON are other people's: they come along wherever the image goes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from shards.convert import Recode, from_set, from_tars
from shards.drop import drop
from shards.merge import merge
from shards.rules import parse
from shards.sample import Sample
from shards.shard_errors import BadSample
from shards.shard_set import ShardSet, finish
from shards.shuffle import shuffle
from shards.split import split
from shards.verify import verify
from shards.writer import Edit, ShardWriter, rewrite, shard_name

Draw = Callable[..., bytes]
Members = dict[str, dict[str, bytes]]


def _tar(path: Path, samples: Mapping[str, Mapping[str, bytes]]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for key, members in samples.items():
            for ext, content in members.items():
                info = tarfile.TarInfo(f"{key}.{ext}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def theirs(tmp_path: Path, draw: Draw) -> tuple[ShardSet, Members]:
    """Twelve samples in two tars, and what of each is to come along; the last sample of a tar has an empty member."""
    extra: Members = {}
    for number in range(2):
        samples = {}
        for n in range(6 * number, 6 * number + 6):
            own: dict[str, bytes] = {
                0: {},
                1: {"txt": b"a caption %d" % n, "seg.png": draw(90 + n, "PNG")},
                2: {"npy": bytes(3000 + n)},
            }[n % 3]
            if n % 6 == 5:
                own = {"empty": b""}
            extra[f"k{n:02}"] = own
            image, label = draw(n, size=(40 + n, 40)), b"%d" % (n % 2)
            samples[f"k{n:02}"] = {**own, "jpg": image, "cls": label} if n % 2 else {"jpg": image, "cls": label, **own}
        (tmp_path / "set").mkdir(exist_ok=True)
        _tar(tmp_path / "set" / shard_name(number), samples)
    return finish(tmp_path / "set", ["a", "b"], source={}), extra


def _others(made: ShardSet) -> Members:
    with made:
        assert verify(made.folder) == []
        return {sample.key: dict(sample.others) for sample in made}


def test_through_every_way_to_a_new_set(theirs: tuple[ShardSet, Members], tmp_path: Path) -> None:
    source, extra = theirs
    assert _others(drop(source, tmp_path / "drop", reason="x", rules=[parse("key = k00")]).made) == {
        key: own for key, own in extra.items() if key != "k00"
    }
    source = ShardSet.open(source.folder)
    assert _others(merge([source], tmp_path / "merge").made) == extra
    source = ShardSet.open(source.folder)
    assert _others(shuffle(source, tmp_path / "once", seed=1)) == extra
    source = ShardSet.open(source.folder)
    assert _others(shuffle(source, tmp_path / "twice", seed=1, memory_bytes=9000)) == extra
    parts = split(ShardSet.open(source.folder), tmp_path / "parts", counts=[6, 3, 3]).parts
    assert {key: own for part in parts.values() for key, own in _others(part).items()} == extra
    made = from_set(source, tmp_path / "jpegs", recode=Recode(quality=50))
    assert made.notes == ()
    assert _others(made.made) == extra
    tars = from_tars([str(source.folder)], tmp_path / "tars")
    assert _others(tars.made) == extra


def test_what_lies_over_the_pixels_is_left_out_in_another_size(
    theirs: tuple[ShardSet, Members], tmp_path: Path
) -> None:
    source, extra = theirs
    for name, done in (
        ("set", from_set(source, tmp_path / "a", recode=Recode(size=16))),
        ("tars", from_tars([str(source.folder)], tmp_path / "b", recode=Recode(size=16))),
    ):
        assert "members beside the pictures were left out: 4 .seg.png, 2 .npy, 2 .empty" in done.notes, name
        assert _others(done.made) == {key: {e: c for e, c in own.items() if e == "txt"} for key, own in extra.items()}


def test_a_set_of_ours_is_not_walked_for_them(small: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShardSet, "_members", None)
    assert [sample.others for sample in small] == [{}] * len(small)


def test_they_survive_an_edit(theirs: tuple[ShardSet, Members]) -> None:
    source, extra = theirs
    folder = source.folder
    source.close()
    rewrite(folder / shard_name(0), {"k01": Edit(0, lambda meta: {"label": "a"}), "k02": None})
    opened = finish(folder, ["a", "b"], source={})
    assert _others(opened) == {key: own for key, own in extra.items() if key != "k02"}


@pytest.mark.parametrize("ext", ["jpg", "cls", "json", "", "TXT", "a/b", "größe", "x" * 97])
def test_a_member_that_cannot_be_written_is_refused(tmp_path: Path, draw: Draw, ext: str) -> None:
    with ShardWriter(tmp_path) as writer, pytest.raises(BadSample, match="beside the image"):
        writer.add(Sample("key", draw(0), "jpg", 0, {}, {ext: b"x"}))
