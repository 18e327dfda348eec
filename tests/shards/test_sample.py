from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from shards.dimensions import dimensions
from shards.sample import Sample, check, sniff
from shards.shard_errors import BadSample

KINDS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff", "AVIF": "avif"}


@pytest.mark.parametrize(("kind", "expected"), KINDS.items())
def test_sniff_goes_by_content(kind: str, expected: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", (32, 16), "red").save(out, kind)
    assert sniff(out.getvalue()[:512]) == expected


@pytest.mark.parametrize(
    "text", [b"<svg xmlns='x'/>", b"\xef\xbb\xbf  <svg>", b"<?xml version='1.0'?>\n<svg>", b"<!-- a --><SVG>"]
)
def test_sniff_knows_svg(text: bytes) -> None:
    assert sniff(text) == "svg"


@pytest.mark.parametrize("head", [b"", b"\xff", b"<!DOCTYPE html><html>", b"RIFF\0\0\0\0WAVE", b"{}", b"xxxxxxxxWEBP"])
def test_sniff_knows_what_is_no_image(head: bytes) -> None:
    assert sniff(head) is None


@pytest.mark.parametrize(
    "options",
    [
        {"format": "JPEG"},
        {"format": "JPEG", "progressive": True},
        {"format": "JPEG", "comment": b"c" * 70},
        {"format": "PNG"},
        {"format": "WEBP", "quality": 70},
        {"format": "WEBP", "lossless": True},
        {"format": "WEBP", "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"},
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (150, 97), (3, 700)])
def test_dimensions_agree_with_pillow(options: dict[str, object], size: tuple[int, int]) -> None:
    out = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(out, **options)  # type: ignore[arg-type]
    assert dimensions(out.getvalue()) == size
    assert dimensions(memoryview(out.getvalue())) == size


def test_dimensions_of_real_thumbnails(thumbnails: dict[str, list[Path]]) -> None:
    for files in thumbnails.values():
        for file in files:
            with Image.open(file) as image:
                assert dimensions(file.read_bytes()) == image.size


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe0\0\0" * 9,
        b"\x89PNG\r\n\x1a\n",
        b"RIFF0000WEBPVP8 " + b"\0" * 20,
        b"x" * 40,
    ],
)
def test_dimensions_of_what_does_not_say(data: bytes) -> None:
    assert dimensions(data) is None


@pytest.mark.parametrize(
    "bad",
    [
        Sample("", b"x", "jpg", 0),
        Sample("a.b", b"x", "jpg", 0),
        Sample("a/b", b"x", "jpg", 0),
        Sample("../a", b"x", "jpg", 0),
        Sample("é", b"x", "jpg", 0),
        Sample("a\n", b"x", "jpg", 0),
        Sample("k" * 96, b"x", "jpg", 0),
        Sample("k", b"x", "gif", 0),
        Sample("k", b"x", "jpg", -1),
        Sample("k", b"", "jpg", 0),
    ],
)
def test_check_refuses(bad: Sample) -> None:
    with pytest.raises(BadSample):
        check(bad)


def test_check_takes_the_longest_key() -> None:
    check(Sample("k" * 95, b"x", "webp", 0))
