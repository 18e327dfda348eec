"""Sets that go out as folders or arrays come back the same, whatever their labels and keys are called."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shards.convert import Recode, from_arrays, from_folders, from_set, from_split, kind_of, to_arrays, to_folders
from shards.dimensions import dimensions
from shards.errors import ConfigError
from shards.folders import SIDECAR_NAME, safe_name
from shards.recode import pixels
from shards.sample import Sample
from shards.shard_errors import TargetNotEmpty
from shards.shard_set import ShardSet
from shards.split import split
from shards.verify import verify
from shards.writer import write_set

Draw = Callable[..., bytes]
SLOW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

LABELS = st.lists(
    st.one_of(
        st.text(min_size=1, max_size=12), st.sampled_from(["..", "a/b", "A", "a", "con", ".x", "x.", "%2F", "ß" * 150])
    ),
    min_size=1,
    max_size=5,
    unique=True,
).filter(lambda names: all(name.isprintable() or name.isascii() for name in names))


@SLOW
@given(labels=LABELS, keys=st.lists(st.from_regex(r"[A-Za-z0-9_-]{1,95}", fullmatch=True), max_size=6, unique=True))
def test_a_set_through_folders_is_the_same_set(
    tmp_path_factory: pytest.TempPathFactory, draw: Draw, labels: list[str], keys: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    samples = [
        Sample(key, draw(n % 3), "jpg", n % len(labels), {"label": labels[n % len(labels)], "n": n, "group": n // 2})
        for n, key in enumerate(keys)
    ]
    with write_set(folder / "set", samples, labels, source={"kind": "test"}, split="train") as first:
        to_folders(first, folder / "out")
        assert all(path.resolve().is_relative_to(folder.resolve()) for path in (folder / "out").rglob("*"))
        if not samples:
            return
        with from_folders(folder / "out", folder / "again").made as again:
            assert again.digest == first.digest
            assert again.manifest == first.manifest
            assert again.groups.tolist() == first.groups.tolist()


@given(name=st.text(max_size=300))
def test_a_safe_name_is_one(name: str) -> None:
    made = safe_name(name)
    assert made
    assert made not in (".", "..")
    assert not set(made) & set('/\\:*?"<>|\0\n')
    assert len(made.encode()) <= 255
    assert not made.startswith(".")
    assert made[-1] not in ". "


def test_what_a_person_does_meanwhile_stays(small: ShardSet, tmp_path: Path, draw: Draw) -> None:
    to_folders(small, tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / SIDECAR_NAME).read_text().splitlines()[1:]]
    files = [tmp_path / "out" / row["file"] for row in rows]
    files[0].unlink()
    moved = tmp_path / "out" / "bass" / files[2].name
    files[2].rename(moved)
    files[4].write_bytes(draw(50))
    (tmp_path / "out" / "drum").mkdir()
    (tmp_path / "out" / "drum" / "new.jpg").write_bytes(draw(51))
    done = from_folders(tmp_path / "out", tmp_path / "again")
    with done.made as again:
        assert again.labels == ("guitar", "bass", "drum")
        assert len(again) == 10
        number = again.find(small.key(2))
        assert number is not None
        assert again.label_ids[number] == 1
        assert (again.meta(number)["label_was"], again.meta(number)["seed"]) == ("guitar", 2)
        assert again.find(small.key(0)) is None
        assert any(again.meta(i).get("seed") == 4 and again.image(i) == draw(50) for i in range(10))
    assert any("moved" in note for note in done.notes)
    assert any("edited" in note for note in done.notes)


def test_links_circles_and_names_that_clash(tmp_path: Path, draw: Draw) -> None:
    place = tmp_path / "in" / "a" / "deep"
    place.mkdir(parents=True)
    (place / "x.jpg").write_bytes(draw(0))
    (place / "up").symlink_to(tmp_path / "in" / "a")  # a circle
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "y.png").write_bytes(draw(1, "PNG"))
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (place / "gone.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "in" / "loose.jpg").write_bytes(draw(2))
    done = from_folders(tmp_path / "in", tmp_path / "out")
    with done.made as made:
        assert made.counts == {"a": 1, "linked": 1}
    assert {item.path: item.reason for item in done.dropped} == {
        "a/deep/gone.jpg": "a link to nothing",
        "loose.jpg": "beside the label folders: it has no label",
    }


def test_arrays_and_back_are_the_same_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (23, 15, 15, 3), np.uint8)
    data[7] = data[3]  # equal pictures are still two rows
    labels = rng.integers(0, 2, 23)
    np.save(tmp_path / "data.npy", data)
    np.save(tmp_path / "labels.npy", labels)
    with from_arrays(
        tmp_path / "data.npy", tmp_path / "labels.npy", tmp_path / "set", names=["guitar", "bass"]
    ).made as made:
        assert made.labels == ("guitar", "bass")
        assert {made.ext(i) for i in range(23)} == {"png"}
        assert all((pixels(made.image(i), Recode()) == data[i]).all() for i in range(23))
        assert verify(made.folder) == []
        to_arrays(made, tmp_path / "back")
        assert (np.load(tmp_path / "back" / "data.npy") == data).all()
        assert (np.load(tmp_path / "back" / "labels.npy") == labels).all()
        assert json.loads((tmp_path / "back" / "labels.json").read_text()) == ["guitar", "bass"]
        with from_arrays(tmp_path / "back/data.npy", tmp_path / "back/labels.npy", tmp_path / "again").made as again:
            assert again.digest == made.digest


def test_channels_first_and_one_channel_are_taken_and_told(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, (4, 9, 11, 3), np.uint8)
    np.save(tmp_path / "labels.npy", np.zeros((4, 1), np.uint8))
    for shape, saved, expected in (
        ("first", data.transpose(0, 3, 1, 2), data),
        ("one", data[..., 0], np.repeat(data[..., :1], 3, 3)),
    ):
        np.save(tmp_path / f"{shape}.npy", saved)
        done = from_arrays(tmp_path / f"{shape}.npy", tmp_path / "labels.npy", tmp_path / shape)
        with done.made as made:
            assert done.notes
            assert all((pixels(made.image(i), Recode()) == expected[i]).all() for i in range(4))


@pytest.mark.parametrize(
    ("data", "labels", "said"),
    [
        (
            np.zeros((2, 4, 4, 3), np.float32),
            np.zeros(2, int),
            r"float32 of shape .*expected uint8 RGB.*astype\('uint8'\)",
        ),
        (np.zeros((2, 4, 4, 4), np.uint8), np.zeros(2, int), r"shape \(2, 4, 4, 4\): expected uint8 RGB"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 5), int), r"one-hot rows become numbers by `a.argmax\(1\)`"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(3, int), "3 labels: expected 2 whole numbers"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, float), "cast them"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.array([0, -1]), "row 1 has label -1"),
        (np.array([{}, {}]), np.zeros(2, int), "no array to be mapped"),
    ],
)
def test_other_arrays_are_refused_with_a_remedy(tmp_path: Path, data: object, labels: object, said: str) -> None:
    np.save(tmp_path / "data.npy", data)  # type: ignore[arg-type]
    np.save(tmp_path / "labels.npy", labels)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=said):
        from_arrays(tmp_path / "data.npy", tmp_path / "labels.npy", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_arrays_need_one_size(small: ShardSet, tmp_path: Path, draw: Draw) -> None:
    samples = [Sample("a", draw(0), "jpg", 0), Sample("b", draw(1, size=(20, 30)), "jpg", 0)]
    with write_set(tmp_path / "set", samples, ["x"], source={}) as mixed:
        with pytest.raises(ConfigError, match=r"2 sizes \(20 x 30 \(1\), 40 x 32 \(1\)\): .*|2 sizes .*give --size"):
            to_arrays(mixed, tmp_path / "out")
        to_arrays(mixed, tmp_path / "out", recode=Recode(size=24, fit="crop"))
    assert np.load(tmp_path / "out" / "data.npy").shape == (2, 24, 24, 3)
    with pytest.raises(TargetNotEmpty):
        to_arrays(small, tmp_path / "out")


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")
def test_arrays_larger_than_memory_allowed(tmp_path: Path) -> None:
    """120 MB of pixels go through a process whose own memory grows by far less."""
    count, side = 400, 320
    array = np.lib.format.open_memmap(tmp_path / "data.npy", mode="w+", dtype=np.uint8, shape=(count, side, side, 3))
    row = np.linspace(0, 255, side, dtype=np.uint8)
    array[:] = row[None, :, None, None]
    array += (np.arange(count) % 8).astype(np.uint8)[:, None, None, None]
    array.flush()
    del array
    np.save(tmp_path / "labels.npy", np.arange(count) % 2)
    code = (
        "import sys, pathlib, resource\n"
        "from shards.convert import Recode, from_arrays, to_arrays\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "made = from_arrays(root / 'data.npy', root / 'labels.npy', root / 'set', recode=Recode(format='jpg')).made\n"
        "to_arrays(made, root / 'back')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    size = count * side * side * 3
    assert int(done.stdout) * 1024 < 0.75 * size
    back = np.load(tmp_path / "back" / "data.npy", mmap_mode="r")
    assert np.abs(back[9].astype(int) - np.load(tmp_path / "data.npy", mmap_mode="r")[9]).mean() < 3


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_a_smaller_set_keeps_everything_but_the_pixels(real: ShardSet, tmp_path: Path, fit: str) -> None:
    recode = Recode(size=64, quality=90, fit=fit)  # type: ignore[arg-type]
    done = from_set(real, tmp_path / "small", recode=recode)
    with done.made as made:
        assert done.dropped == ()
        assert [made.key(i) for i in range(len(made))] == [real.key(i) for i in range(len(real))]
        assert made.label_ids.tolist() == real.label_ids.tolist()
        assert made.groups.tolist() == real.groups.tolist()
        assert {dimensions(made.image(i)) for i in range(len(made))} == {(64, 64)}
        assert [made.ext(i) for i in range(len(made))] == [real.ext(i) for i in range(len(real))]
        assert made.meta(0)["name"] == real.meta(0)["name"]
        assert made.meta(0)["recoded_from"]["width"] == int(real.widths[0])
        told = made.manifest.source["recode"]
        assert (told["size"], told["fit"], told["quality"]) == (64, fit, 90)
        assert "Lanczos" in told["resize"]
        assert "Pillow" in told["by"]
        assert verify(made.folder) == []
    with from_set(real, tmp_path / "two", recode=recode).made as two:
        assert two.digest == done.made.digest


def test_png_stays_lossless_and_what_fits_keeps_its_bytes(small: ShardSet, tmp_path: Path) -> None:
    with from_set(small, tmp_path / "q", recode=Recode(quality=30)).made as made:
        png = made.find("a-png")
        assert png is not None
        assert made.image(png) == small.image(png)
        assert made.sizes.sum() < small.sizes.sum()
    with from_set(small, tmp_path / "png", recode=Recode(format="png")).made as made:
        assert all(
            (pixels(made.image(i), Recode()) == pixels(small.image(i), Recode())).all() for i in range(len(made))
        )
    with from_set(small, tmp_path / "same", recode=Recode(), shard_samples=4).made as made:
        assert made.digest == small.digest


def test_a_split_made_smaller_keeps_its_parts(real: ShardSet, tmp_path: Path) -> None:
    parts = split(real, tmp_path / "parts", fractions=(0.6, 0.2, 0.2)).parts
    count, dropped = from_split(tmp_path / "parts", tmp_path / "small", recode=Recode(size=32))
    assert (count, dropped) == (sum(len(part) for part in parts.values()), ())
    for name, part in parts.items():
        with ShardSet.open(tmp_path / "small" / name) as made:
            assert [made.key(i) for i in range(len(made))] == [part.key(i) for i in range(len(part))]
            assert made.manifest.split == name
        part.close()
    assert json.loads((tmp_path / "small" / "split.json").read_text())["recode"]["size"] == 32


def test_gif_and_the_like_are_taken_when_a_format_is_asked_for(tmp_path: Path, draw: Draw) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    for number, kind in enumerate(("GIF", "BMP", "TIFF")):
        (tmp_path / "in" / "a" / f"{kind}.x").write_bytes(draw(number, kind))
    done = from_folders(tmp_path / "in", tmp_path / "out", recode=Recode(format="png"))
    with done.made as made:
        assert (len(made), {made.ext(i) for i in range(3)}, done.dropped) == (3, {"png"}, ())


def test_a_broken_sidecar_is_named_with_its_line(small: ShardSet, tmp_path: Path) -> None:
    to_folders(small, tmp_path / "out")
    with (tmp_path / "out" / SIDECAR_NAME).open("a") as file:
        file.write("{broken\n")
    with pytest.raises(ConfigError, match=r"samples\.jsonl:12: cannot be read"):
        from_folders(tmp_path / "out", tmp_path / "again")


def test_what_a_source_is(small: ShardSet, tmp_path: Path) -> None:
    to_folders(small, tmp_path / "folders")
    to_arrays(small, tmp_path / "arrays")
    (tmp_path / "x.tar").symlink_to(small.folder / "shard-000000.tar")
    assert kind_of(str(small.folder)) == "set"
    assert kind_of(str(tmp_path / "folders")) == "folders"
    assert kind_of(str(tmp_path / "arrays")) == "arrays"
    assert kind_of(str(tmp_path / "arrays" / "data.npy")) == "arrays"
    assert kind_of(str(tmp_path / "{a..b}.tar")) == "tars"
    assert kind_of(str(tmp_path)) == "tars"
    with pytest.raises(ConfigError, match="no such file or folder"):
        kind_of(str(tmp_path / "nothing"))
