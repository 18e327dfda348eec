"""What a file system can put in the way: names that are no UTF-8, pipes, links, locked folders, binary for JSON."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from shards.arrays import to_arrays
from shards.errors import ConfigError
from shards.files import as_text
from shards.folders import from_folders, to_folders
from shards.foreign import from_tars
from shards.manifest import MANIFEST_NAME
from shards.recipe import part_names
from shards.recode import Recode
from shards.shard_errors import ManifestDamaged
from shards.shard_set import ShardSet
from shards.sheet import sheet
from shards.verify import verify

from .conftest import Draw

BINARY = b"\xff" * 100_000


@pytest.mark.parametrize(
    ("name", "text"),
    [("bässe", "bässe"), (os.fsdecode(b"b\xe4sse"), r"b\xe4sse"), ("half\ud800", r"half\ud800")],
)
def test_a_name_that_is_no_utf8_becomes_text(name: str, text: str) -> None:
    assert as_text(name) == text


def test_folders_and_files_of_any_bytes_are_converted(tmp_path: Path, draw: Draw) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path / "photos") + b"\xff"), os.fsdecode(b"b\xe4sse"))
    folder.mkdir(parents=True)
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes(draw(1))
    (folder / os.fsdecode(b"\xfe.jpg")).write_bytes(b"no picture")
    done = from_folders(folder.parent, tmp_path / "set")
    with done.made as made:
        assert made.labels == (r"b\xe4sse",)
        assert made.meta(0)["file"] == r"b\xe4sse/\xff.jpg"
        assert [item.path for item in done.dropped] == [r"b\xe4sse/\xfe.jpg"]
        to_folders(made, tmp_path / "back")
    assert not verify(tmp_path / "set")
    with from_folders(tmp_path / "back", tmp_path / "again").made as again:
        assert again.labels == (r"b\xe4sse",)


def test_tars_with_keys_of_any_bytes_and_half_characters_are_converted(tmp_path: Path, draw: Draw) -> None:
    path = tmp_path / "theirs.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as made:
        for name, data in (("kä.jpg", draw(1)), ("kä.json", rb'{"label": "b\ud800", "by": "\udfff"}')):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    with from_tars([str(path)], tmp_path / "set").made as found:
        assert found.labels == ("b?",)
        assert found.meta(0)["source"] == {"tar": "theirs.tar", "key": r"k\xe4"}
        assert found.meta(0)["json"] == {"label": "b?", "by": "?"}


def test_pipes_links_upward_and_locked_folders_stop_no_conversion(
    tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "photos"
    for seed, label in enumerate(("bass", "guitar")):
        (source / label / "locked").mkdir(parents=True)
        (source / label / "a.jpg").write_bytes(draw(seed))
    os.mkfifo(source / "guitar" / "pipe")
    (source / "bass" / "up").symlink_to("..")
    scandir = os.scandir

    def refused(place: str) -> object:
        if str(place).endswith("guitar/locked"):  # a mode would not stop root
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refused)
    done = from_folders(source, tmp_path / "set")
    with done.made as made:
        assert made.counts == {"bass": 1, "guitar": 1}
    assert {item.path: item.reason for item in done.dropped} == {
        "guitar/locked": "cannot be read: Permission denied",
        "guitar/pipe": "no regular file",
    }


def test_a_set_is_written_where_a_link_points(tmp_path: Path, small: ShardSet) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    to_folders(small, tmp_path / "link")
    assert (tmp_path / "elsewhere" / "samples.jsonl").is_file()
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "other").symlink_to("there")
    with from_folders(tmp_path / "link", tmp_path / "other").made as made:
        assert len(made) == 10
    assert (tmp_path / "there" / MANIFEST_NAME).is_file()


def test_binary_in_place_of_json_is_not_printed(tmp_path: Path, small: ShardSet, draw: Draw) -> None:
    (small.folder / MANIFEST_NAME).write_bytes(BINARY)
    with pytest.raises(ManifestDamaged, match="no UTF-8 text: byte 0xff at 0") as caught:
        ShardSet.open(small.folder)
    assert len(str(caught.value)) < 400
    (tmp_path / "photos" / "bass").mkdir(parents=True)
    (tmp_path / "photos" / "bass" / "a.jpg").write_bytes(draw(1))
    (tmp_path / "photos" / "samples.jsonl").write_bytes(BINARY)
    with pytest.raises(ConfigError, match=r"samples\.jsonl:1: cannot be read \(no UTF-8 text"):
        from_folders(tmp_path / "photos", tmp_path / "set")


@pytest.mark.parametrize("names", [None, 0, "", "train", [], [1], [""], ["../up"], ["a/b"], [".."], ["\x1b[31m"]])
def test_a_split_names_its_parts_or_is_refused(names: object) -> None:
    with pytest.raises(ConfigError, match=r"parts/split\.json: recipe\.names: .*; name one part's folder") as caught:
        part_names(json.dumps({"recipe": {"names": names}}).encode(), "parts/split.json")
    assert str(caught.value).isprintable()


def test_a_full_disk_leaves_no_half_array_and_no_half_sheet(
    tmp_path: Path, small: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"data\.npy"):
        to_arrays(small, tmp_path / "arrays", recode=Recode(size=8))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        sheet(small, tmp_path / "sheet.png")
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
