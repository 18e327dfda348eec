"""Tars made by others: img2dataset's layout, labels wherever they are, keys that break our rules, damage, stores."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webdataset as wds

from shards.convert import Recode, from_tars
from shards.errors import ConfigError
from shards.foreign import expand
from shards.store import Store
from shards.verify import verify

Draw = Callable[..., bytes]


def _img2dataset(folder: Path, draw: Draw, shards: int = 2, a_shard: int = 5) -> None:
    """As img2dataset leaves it: .jpg, .json (indented, with nulls) and .txt, in any order; parquet and stats beside."""
    folder.mkdir()
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:05}.tar", "w") as out:
            for number in reversed(range(a_shard)):
                seed = shard * a_shard + number
                key = f"{shard:05}{number:04}"
                about = {
                    "instrument": "banjo" if seed % 2 else "guitar",
                    "caption": f"photo {seed}",
                    "url": f"https://shop.example/{seed}.jpg",
                    "key": key,
                    "status": "success",
                    "error_message": None,
                    "width": 40,
                    "height": 32,
                    "original_width": 400,
                    "original_height": 320,
                    "exif": "{}",
                    "sha256": "0" * 64,
                }
                for ext, content in (
                    ("jpg", draw(seed)),
                    ("json", json.dumps(about, indent=4).encode()),
                    ("txt", f"photo {seed}".encode()),
                ):
                    info = tarfile.TarInfo(f"{key}.{ext}")
                    info.size = len(content)
                    out.addfile(info, io.BytesIO(content))
        (folder / f"{shard:05}.parquet").write_bytes(b"PAR1")
        (folder / f"{shard:05}_stats.json").write_text("{}")


def test_img2dataset_output(tmp_path: Path, draw: Draw) -> None:
    _img2dataset(tmp_path / "in", draw)
    done = from_tars([str(tmp_path / "in")], tmp_path / "set", label_from="json:instrument")
    with done.made as made:
        assert made.labels == ("banjo", "guitar")
        assert len(made) == 10
        number = made.find("000010003")
        assert number is not None
        assert made.image(number) == draw(8)
        meta = made.meta(number)
        assert (meta["label"], meta["caption"], meta["image_url"]) == (
            "guitar",
            "photo 8",
            "https://shop.example/8.jpg",
        )
        assert (meta["json"]["original_width"], meta["source"]) == (400, {"tar": "00001.tar", "key": "000010003"})
        assert verify(made.folder) == []
    assert "files beside the tars were passed over: 2 .parquet, 2 _stats.json" in done.notes


def test_a_label_that_cannot_be_found_says_what_there_is(tmp_path: Path, draw: Draw) -> None:
    _img2dataset(tmp_path / "in", draw)
    with pytest.raises(
        ConfigError, match=r"no \.cls and no label in its \.json .*instrument.*give --label-from json:KEY"
    ):
        from_tars([str(tmp_path / "in")], tmp_path / "set")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("label_from", "labels", "ids"),
    [
        ("auto", ("0", "1", "2"), [0, 1, 2, 0]),
        ("cls", ("0", "1", "2"), [0, 1, 2, 0]),
        ("txt", ("word 0", "word 1"), [0, 1, 0, 1]),
        ("json:deep.list.1", ("x0", "x1"), [0, 0, 1, 1]),
        ("folder", ("n01", "n02"), [0, 1, 0, 1]),
        ("tar", ("left",), [0, 0, 0, 0]),
        ("const:photo", ("photo",), [0, 0, 0, 0]),
        ("kind", ("k", "kk"), [1, 0, 0, 0]),
    ],
)
def test_labels_from_wherever_they_are(
    tmp_path: Path, draw: Draw, label_from: str, labels: tuple[str, ...], ids: list[int]
) -> None:
    with wds.TarWriter(str(tmp_path / "left.tar")) as writer:
        for n in range(4):
            record: dict[str, Any] = {"__key__": f"top/n0{1 + n % 2}/größe {n}", "jpg": draw(n), "cls": n % 3}
            record |= {
                "txt": f"word {n % 2}",
                "json": {"deep": {"list": [0, f"x{n // 2}"]}},
                "kind": b"k" if n else b"kk",
            }
            writer.write(record | {"mask.png": draw(90 + n, "PNG")})
    done = from_tars([str(tmp_path / "left.tar")], tmp_path / "set", label_from=label_from)
    with done.made as made:
        assert made.labels == labels
        assert made.label_ids.tolist() == ids
        assert made.meta(1)["source"]["key"] == "top/n02/größe 1"
        assert made.key(1).startswith("top-n02-gr-e-1-")
        assert [set(made.others(i)) for i in range(4)] == [{"mask.png", "txt", "kind"}] * 4
    assert not any("left out" in note for note in done.notes)
    assert any("4 keys were made safe" in note for note in done.notes)


def test_names_of_labels_are_held_to_what_there_is(tmp_path: Path, draw: Draw) -> None:
    with wds.TarWriter(str(tmp_path / "x.tar")) as writer:
        for n in range(3):
            writer.write({"__key__": f"k{n}", "jpg": draw(n), "cls": n})
    with from_tars([str(tmp_path / "x.tar")], tmp_path / "a", labels=["x", "y", "z"]).made as made:
        assert made.counts == {"x": 1, "y": 1, "z": 1}
    with pytest.raises(ConfigError, match="2 names, but there is a label 2"):
        from_tars([str(tmp_path / "x.tar")], tmp_path / "b", labels=["x", "y"])


def test_bad_samples_and_a_cut_tar_cost_only_themselves(tmp_path: Path, draw: Draw) -> None:
    with wds.TarWriter(str(tmp_path / "a.tar")) as writer:
        writer.write({"__key__": "same", "jpg": draw(0), "cls": 0})
        writer.write({"__key__": "text", "jpg": b"<html>", "cls": 0})
        writer.write({"__key__": "none", "txt": "x", "cls": 0})
        writer.write({"__key__": "nolabel", "jpg": draw(1)})
        writer.write({"__key__": "twice", "jpg": draw(0), "cls": 1})
    with wds.TarWriter(str(tmp_path / "b.tar")) as writer:
        for n in range(3):
            writer.write({"__key__": "same" if not n else f"k{n}", "jpg": draw(10 + n), "cls": 0})
    whole = (tmp_path / "b.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[: whole.index(b"k2.jpg") + 600])
    done = from_tars([str(tmp_path / "{a,b}.tar")], tmp_path / "set")
    with done.made as made:
        keys = [made.key(i) for i in range(len(made))]
        assert keys[0] == "same"
        assert keys[1].startswith("same-")
        assert keys[2] == "k1"
    reasons = {item.path.rpartition(" ")[2]: item.reason for item in done.dropped}
    assert reasons["text"] == "not an image"
    assert reasons["none"].startswith("no image (it has ")
    assert reasons["nolabel"] == "no label in cls"
    assert reasons["twice"].startswith("duplicate of a.tar@0 same")
    assert any("what stands before it is kept" in reason for reason in reasons.values())


def test_tars_in_a_store(tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASSLINE_CACHE", str(tmp_path / "cache"))
    _img2dataset(tmp_path / "in", draw)
    store = Store("memory://laion")
    for name in ("00000.tar", "00001.tar"):
        store.upload(name, tmp_path / "in" / name)
    with from_tars(["memory://laion/{00000..00001}.tar"], tmp_path / "a", label_from="json:instrument").made as far:
        with from_tars([str(tmp_path / "in")], tmp_path / "b", label_from="json:instrument").made as near:
            assert far.digest == near.digest
        assert far.manifest.source["first"] == "00000.tar"


def test_captions_are_no_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw: Draw) -> None:
    monkeypatch.setattr("shards.foreign._MOST_LABELS", 5)
    _img2dataset(tmp_path / "in", draw)
    with pytest.raises(ConfigError, match="are they captions"):
        from_tars([str(tmp_path / "in")], tmp_path / "set", label_from="txt")


def test_a_smaller_set_of_others_tars(tmp_path: Path, draw: Draw) -> None:
    _img2dataset(tmp_path / "in", draw)
    recode = Recode(size=16, format="png")
    with from_tars([str(tmp_path / "in")], tmp_path / "set", label_from="const:x", recode=recode).made as made:
        assert set(made.widths.tolist()) == {16}
        assert verify(made.folder) == []


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("{000..002}.tar", ["000.tar", "001.tar", "002.tar"]),
        ("{8..10}.tar", ["8.tar", "9.tar", "10.tar"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}-{0..1}.tar", ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]),
    ],
)
def test_braces(pattern: str, names: list[str]) -> None:
    assert expand(pattern) == names


@pytest.mark.parametrize(
    ("name", "said"), [("x.tar.gz", "unpack it first"), ("none.tar", "no such file"), ("no*.tar", "no .tar there")]
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"")
    with pytest.raises(ConfigError, match=said):
        from_tars([str(tmp_path / name)], tmp_path / "set")
