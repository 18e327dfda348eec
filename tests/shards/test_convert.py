from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from shards.convert import ConvertProgress, Dropped, from_folders
from shards.decodable import problem_of
from shards.errors import ConfigError

Draw = Callable[..., bytes]


def test_folders_become_a_set_and_bad_files_are_told(tmp_path: Path, draw: Draw) -> None:
    gif, animated = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (9, 9)).save(gif, "GIF")
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "blue")]
    frames[0].save(animated, "WEBP", save_all=True, append_images=frames[1:])
    files = {
        "bass/a.jpg": draw(0),
        "bass/named.jpg": draw(1, "PNG"),
        "bass/deep/er/b.webp": draw(2, "WEBP"),
        "guitar/again.jpg": draw(0),
        "guitar/c.jpg": draw(3),
        "guitar/cut.jpg": draw(4, size=(300, 300))[:1500],
        "guitar/empty.jpg": b"",
        "guitar/gif.jpg": gif.getvalue(),
        "guitar/moves.webp": animated.getvalue(),
        "guitar/text.jpg": b"<html>",
        "guitar/.hidden": b"x",
        ".git/x": b"x",
        "README": b"beside the labels",
    }
    for name, data in files.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    seen: list[ConvertProgress] = []
    result = from_folders(tmp_path / "in", tmp_path / "out", on_progress=seen.append)
    with result.made as made:
        assert made.labels == ("bass", "guitar")
        assert made.counts == {"bass": 3, "guitar": 1}
        assert [made.meta(i)["file"] for i in range(4)] == [
            "bass/a.jpg", "bass/deep/er/b.webp", "bass/named.jpg", "guitar/c.jpg",
        ]  # fmt: skip
        assert [made.ext(i) for i in range(4)] == ["jpg", "webp", "png", "jpg"]
        assert [bytes(made.image(i)) for i in (0, 3)] == [draw(0), draw(3)]
        assert made.meta(0)["label"] == "bass"
    reasons = {dropped.path: dropped.reason for dropped in result.dropped}
    assert reasons.pop("guitar/cut.jpg").startswith("cannot be decoded: image file is truncated")
    assert reasons == {
        "guitar/again.jpg": "duplicate of bass/a.jpg",
        "guitar/empty.jpg": "not an image",
        "guitar/gif.jpg": "a gif, expected jpg, png, webp",
        "guitar/moves.webp": "animated, 2 frames",
        "guitar/text.jpg": "not an image",
    }
    assert seen[-1] == ConvertProgress(10, 10, 6)


def test_duplicates_may_be_kept(tmp_path: Path, draw: Draw) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "b/3.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(draw(0))
    result = from_folders(tmp_path / "in", tmp_path / "out", keep_duplicates=True)
    first = result.made.key(0)
    assert [result.made.key(i) for i in range(3)] == [first, f"{first}-1", f"{first}-2"]
    assert result.dropped == ()


def test_the_same_folders_give_the_same_set(thumbnails: dict[str, list[Path]], tmp_path: Path) -> None:
    for label, files in thumbnails.items():
        (tmp_path / "in" / label).mkdir(parents=True)
        for file in files:
            (tmp_path / "in" / label / file.name).write_bytes(file.read_bytes())
    one, two = (from_folders(tmp_path / "in", tmp_path / name) for name in ("one", "two"))
    assert len(one.made) + len(one.dropped) == sum(map(len, thumbnails.values()))
    assert one.made.digest == two.made.digest
    assert one.made.manifest == two.made.manifest


@pytest.mark.parametrize("there", [False, True])
def test_no_folders_is_a_clear_error(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "in" / "empty").mkdir(parents=True)
    with pytest.raises(ConfigError, match="expected a folder of label folders"):
        from_folders(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bomb_is_not_decoded() -> None:
    header = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0" + b"\0" * 20
    assert problem_of(header) == "60000 x 60000 pixels, more than 64000000"


def test_dropped_says_itself() -> None:
    assert Dropped("a", "b") == Dropped("a", "b")
