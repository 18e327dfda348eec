"""Every decoder gives the same squares, and calls the same images bad."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainer import jpeg
from trainer.decode import Decoder, open_decoder, read_rgb
from trainer.geometry import plan
from trainer.jpeg import read_header

NAMES = ["dali", "simplejpeg", "torchvision", "pillow"]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def decode(name: str, images: list[bytes], size: int = 32, fit: str = "pad") -> tuple[np.ndarray, list[int]]:
    decoder = open_decoder(name, size, fit, 2, "cpu")
    out = torch.zeros((len(images), size, size, 3), dtype=torch.uint8)
    try:
        bad = decoder.decode(images, out)
    finally:
        decoder.close()
    return out.numpy(), bad


def reference(data: bytes, size: int, fit: str) -> np.ndarray:
    """Pillow all the way: decode, cut, resize, put on white."""
    image = Image.fromarray(read_rgb(data))
    layout = plan(image.height, image.width, size, fit)
    top, left, bottom, right = layout.box
    image = image.crop((left, top, right, bottom)).resize((layout.width, layout.height), Image.Resampling.BILINEAR)
    square = np.full((size, size, 3), 255, np.uint8)
    square[layout.y : layout.y + layout.height, layout.x : layout.x + layout.width] = np.asarray(image)
    return square


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    memory = io.BytesIO()
    image.save(memory, kind, **options)
    return memory.getvalue()


@pytest.fixture(scope="module")
def real(thumbnails: dict[str, list[Path]]) -> list[bytes]:
    return [path.read_bytes() for paths in thumbnails.values() for path in paths[:4]]


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("size", [32, 200])
def test_the_same_pixels(name: str, real: list[bytes], fit: str, size: int) -> None:
    squares, bad = decode(name, real, size, fit)
    assert bad == []
    for square, data in zip(squares, real, strict=True):
        expected = reference(data, size, fit)
        difference = np.abs(square.astype(int) - expected)
        assert difference.mean() < 0.5
        assert difference.max() <= 64  # on the rim: see decode.py
        layout = plan(*read_rgb(data).shape[:2], size, fit)
        rim = 4 if size > 150 else 2
        rows = slice(layout.y + rim, layout.y + layout.height - rim)
        columns = slice(layout.x + rim, layout.x + layout.width - rim)
        assert difference[rows, columns].max() <= 3


def squares_of(count: int, side: int) -> list[bytes]:
    rng = np.random.default_rng(side)
    small = rng.integers(0, 256, (count, 6, 6, 3), np.uint8)
    return [encode(Image.fromarray(each).resize((side, side), Image.Resampling.BICUBIC), "jpeg") for each in small]


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_squares_among_others_keep_their_places(name: str, fit: str) -> None:
    whole, larger = squares_of(6, 32), squares_of(6, 48)
    wide = [encode(Image.open(io.BytesIO(data)).crop((0, 0, 48, 32)), "jpeg") for data in larger]
    mixed = [data for each in zip(whole, larger, wide, strict=True) for data in each]
    decoder = open_decoder(name, 32, fit, 2, "cpu")
    for images in (whole, mixed, wide, whole[:1], mixed[::-1], whole):  # one after the other through one decoder
        out = torch.zeros((len(images), 32, 32, 3), dtype=torch.uint8)
        assert decoder.decode(images, out) == []
        for square, data in zip(out.numpy(), images, strict=True):
            difference = np.abs(square.astype(int) - reference(data, 32, fit))[2:-2, 2:-2]
            assert difference.max() <= 3
    decoder.close()


def test_dali_does_not_resize_what_fits() -> None:
    """Its resize filters an image of the right size too, for several times what decoding it costs."""
    decoder, out = open_decoder("dali", 150, "pad", 1, "cpu"), torch.empty((64, 150, 150, 3), dtype=torch.uint8)
    spent: dict[int, list[float]] = {150: [], 151: []}
    images = {side: squares_of(64, side) for side in spent}
    for repeat in range(6):
        for side, costs in spent.items():
            begun = time.process_time()
            assert decoder.decode(images[side], out) == []
            if repeat:
                costs.append(time.process_time() - begun)
    decoder.close()
    assert min(spent[150]) < 0.7 * min(spent[151])


def odd_images() -> dict[str, bytes]:
    ramp = np.linspace(0, 255, 48 * 40 * 3, dtype=np.uint8).reshape(40, 48, 3)
    image = Image.fromarray(ramp)
    alpha = image.copy()
    alpha.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 48, dtype=np.uint8), (40, 1))))
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "grey jpeg": encode(image.convert("L"), "jpeg"),
        "cmyk jpeg": encode(image.convert("CMYK"), "jpeg"),
        "turned jpeg": encode(image, "jpeg", exif=exif),
        "progressive jpeg": encode(image, "jpeg", progressive=True),
        "png": encode(image, "png"),
        "alpha png": encode(alpha, "png"),
        "palette png": encode(image.quantize(16), "png", transparency=0),
        "16 bit png": encode(Image.fromarray(ramp[:, :, 0].astype(np.uint16) * 257), "png"),
        "webp": encode(alpha, "webp", lossless=True),
        "gif": encode(image.quantize(16), "gif"),
    }


def test_odd_images_are_read_alike(name: str) -> None:
    odd = odd_images()
    squares, bad = decode(name, list(odd.values()))
    assert bad == []
    for kind, square, data in zip(odd, squares, odd.values(), strict=True):
        difference = np.abs(square.astype(int) - reference(data, 32, "pad"))
        assert difference.mean() < 1.5, kind


def test_alpha_lies_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    assert read_rgb(encode(clear, "png")).min() == 255


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    assert read_rgb(odd_images()["16 bit png"]).mean() == pytest.approx(127, abs=2)


def test_exif_turns_the_image() -> None:
    turned = odd_images()["turned jpeg"]
    header = read_header(turned)
    assert header is not None
    assert not header.plain
    assert read_rgb(turned).shape == (48, 40, 3)


def test_a_bad_image_costs_itself_only(name: str, real: list[bytes]) -> None:
    images = [*real[:6], real[6][: len(real[6]) // 2], b"", b"<html>no photo</html>", *real[7:9], b"\xff\xd8\xff"]
    squares, bad = decode(name, images)
    assert bad == [6, 7, 8, 11]
    for position in (0, 5, 9, 10):
        assert np.abs(squares[position].astype(int) - reference(images[position], 32, "pad")).mean() < 0.5


def test_a_decoder_goes_on_after_a_bad_batch(name: str, real: list[bytes]) -> None:
    decoder = open_decoder(name, 32, "pad", 2, "cpu")
    out = torch.zeros((4, 32, 32, 3), dtype=torch.uint8)
    assert decoder.decode([real[0], real[1][:900], real[2], real[3]], out) == [1]
    assert decoder.decode(real[:3], out[:3]) == []
    assert decoder.decode(real[:4], out) == []
    decoder.close()


def test_flipped_bytes_never_raise(name: str, real: list[bytes]) -> None:
    generator = np.random.default_rng(0)
    images = []
    for data in real[:16]:
        damaged = bytearray(data)
        for at in generator.integers(2, len(data), 12):
            damaged[at] ^= int(generator.integers(1, 256))
        images.append(bytes(damaged))
    _, bad = decode(name, images)
    assert set(bad) <= set(range(16))


@pytest.fixture
def one_thread() -> Iterator[Decoder]:
    decoder = open_decoder("simplejpeg", 16, "pad", 1, "cpu")
    yield decoder
    decoder.close()


def test_nothing_to_decode(one_thread: Decoder) -> None:
    assert one_thread.decode([], torch.zeros((0, 16, 16, 3), dtype=torch.uint8)) == []


def test_headers_agree_with_pillow(real: list[bytes]) -> None:
    for data in real:
        header = read_header(data)
        image = Image.open(io.BytesIO(data))
        if image.format == "JPEG":
            assert header is not None
            assert (header.width, header.height) == image.size
        else:
            assert header is None


@given(st.data())
def test_headers_that_are_looked_up_are_those_that_are_read(real: list[bytes], data: st.DataObject) -> None:
    image = bytearray(data.draw(st.sampled_from(real)))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=4)):
        if at < len(image):
            image[at] = value
    some = bytes(image[: data.draw(st.integers(0, len(image)))])
    for given_as in (some, memoryview(some)):
        assert read_header(given_as) == jpeg._read_header(given_as)[0]
    assert len(jpeg._lengths) <= 4
    assert len(jpeg._known) <= 1024
