"""What is taken for a thumbnail."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crawler.crawl_errors import Refused
from crawler.site import load_site
from crawler.thumbnails import examine
from shards.duplicates import hash_image

DROP = load_site("thomann").drop


def test_a_jpeg(make_picture):
    body = make_picture(1)
    found = examine(body, DROP)
    assert (found.body, found.ext, found.width, found.height) == (body, "jpg", 150, 150)
    assert found.key == found.sha256.hex()[:20]
    assert found.dhash == hash_image(body)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_by_content_whatever_it_is_called(make_picture, kind):
    assert examine(make_picture(1, kind=kind), DROP, "image/jpeg").ext == kind.lower()


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "LA", "RGBA", "1", "I;16"])
def test_every_mode_a_shop_may_have(mode):
    image = Image.new("RGB", (64, 64), "red").convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = image.convert("I").convert("I;16")
    out = io.BytesIO()
    image.save(out, "JPEG" if mode in ("L", "CMYK") else "PNG")
    assert examine(out.getvalue(), DROP).width == 64


def _refused(body: bytes) -> str:
    with pytest.raises(Refused) as refused:
        examine(body, DROP)
    return refused.value.reason


def test_what_is_refused(make_picture):
    good = make_picture(1)
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "blue")]

    def animated(kind: str) -> bytes:
        out = io.BytesIO()
        frames[0].save(out, kind, save_all=True, append_images=frames[1:])
        return out.getvalue()

    assert _refused(b"") == "not-an-image"
    assert _refused(b"<!doctype html><html>") == "not-an-image"
    assert _refused(b"<svg xmlns='http://www.w3.org/2000/svg'/>") == "format"
    assert _refused(animated("GIF")) == "format"
    assert _refused(animated("WEBP")) == "animated"
    assert _refused(animated("PNG")) == "animated"
    assert _refused(make_picture(1, size=(31, 150))) == "too-small"
    assert _refused(good[:-10]) == "broken"
    assert _refused(good[:600]) == "broken"
    assert _refused(make_picture(1, kind="PNG")[:-40]) == "broken"
    assert _refused(good[:3]) == "broken"


def test_a_bomb_is_refused_by_its_header():
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    assert _refused(body) == "dimensions"


@given(st.data())
def test_any_damage_is_a_thumbnail_or_a_refusal(make_picture, data):
    body = bytearray(
        make_picture(data.draw(st.integers(0, 3)), kind=data.draw(st.sampled_from(["JPEG", "PNG", "WEBP"])))
    )
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(Refused):
        assert examine(bytes(body), DROP).body == bytes(body)
