from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from shards import duplicates, neighbours
from shards.duplicates import DEFAULT_DISTANCE, HASH_BITS, dhash, distance, groups, hash_image

Change = Callable[[Image.Image], Image.Image]


def hue(turn: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        h, s, v = image.convert("HSV").split()
        return Image.merge("HSV", (h.point([(x + turn) % 256 for x in range(256)]), s, v)).convert("RGB")

    return change


def jpeg(quality: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality)
        return Image.open(out)

    return change


def resized(factor: float) -> Change:
    return lambda image: image.resize((int(image.width * factor), int(image.height * factor)), Image.Resampling.LANCZOS)


# the share of real thumbnails whose variant must be near: what docs/decisions/shards-dhash.md measured, less a margin
VARIANTS: dict[str, tuple[Change, float]] = {
    "hue 56 degrees": (hue(40), 0.97),
    "hue 120 degrees": (hue(85), 0.97),
    "hue 180 degrees": (hue(128), 0.97),
    "brighter": (lambda image: ImageEnhance.Brightness(image).enhance(1.15), 0.90),
    "darker": (lambda image: ImageEnhance.Brightness(image).enhance(0.85), 0.95),
    "less contrast": (lambda image: ImageEnhance.Contrast(image).enhance(0.8), 0.92),
    "JPEG 60": (jpeg(60), 0.97),
    "JPEG 85": (jpeg(85), 0.97),
    "0.6 of the size": (resized(0.6), 0.88),
    "1.5 of the size": (resized(1.5), 0.95),
}


def near(a: NDArray[np.uint8], b: NDArray[np.uint8], max_distance: int) -> bool:
    differing = int(np.bitwise_count(a ^ b).sum())
    return differing <= max_distance and 10 * differing <= int(np.bitwise_count(a).sum() + np.bitwise_count(b).sum())


def by_brute_force(hashes: NDArray[np.uint8], max_distance: int) -> list[int]:
    found = list(range(len(hashes)))
    for i in range(len(hashes)):
        for j in range(i):
            if (hashes[i] == hashes[j]).all() or near(hashes[i], hashes[j], max_distance):
                low, high = sorted((found[i], found[j]))
                found = [low if x == high else x for x in found]
    names: dict[int, int] = {}
    return [names.setdefault(x, len(names)) for x in found]


@pytest.fixture(scope="module")
def photos(instruments10: Path) -> list[Image.Image]:
    """Every twelfth real thumbnail."""
    files = [file for folder in sorted(instruments10.iterdir()) for file in sorted(folder.iterdir())][::12]
    return [Image.open(file).convert("RGB") for file in files]


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_of_a_photo_are_near(photos: list[Image.Image], name: str) -> None:
    change, share = VARIANTS[name]
    pairs = [[np.frombuffer(dhash(image), np.uint8) for image in (photo, change(photo))] for photo in photos]
    assert np.mean([near(a, b, DEFAULT_DISTANCE) for a, b in pairs]) >= share


def test_unrelated_products_do_not_chain(instruments10: Path) -> None:
    """All 1,806 thumbnails: the largest group is of single figures, where plain distance 64 makes one of hundreds."""
    files = [file for folder in sorted(instruments10.iterdir()) for file in sorted(folder.iterdir())]
    hashes = np.stack([np.frombuffer(hash_image(file.read_bytes()), np.uint8) for file in files])
    sizes = np.bincount(groups(hashes))
    assert sizes.max() <= 6
    assert sizes[sizes > 1].sum() < 0.03 * len(files)


def test_hash_of_what_pillow_opens(draw: Callable[..., bytes]) -> None:
    colour = Image.open(io.BytesIO(draw(1, "PNG", (160, 160)))).convert("RGB")
    plain = dhash(colour)
    assert len(plain) * 8 == HASH_BITS
    assert dhash(colour.convert("RGBA")) == plain
    assert distance(dhash(colour.quantize(256)), plain) < 40
    assert distance(dhash(colour.convert("CMYK")), plain) < 40
    for mode in ("L", "1", "LA", "I;16"):
        assert len(dhash(colour.convert("L").convert(mode))) * 8 == HASH_BITS
    assert dhash(Image.new("RGB", (1, 1))) == bytes(HASH_BITS // 8)


def test_transparent_is_white() -> None:
    cut_out = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    cut_out.paste((200, 30, 30, 255), (10, 20, 40, 60))
    on_white = Image.new("RGB", (64, 64), "white")
    on_white.paste((200, 30, 30), (10, 20, 40, 60))
    assert dhash(cut_out) == dhash(on_white)
    assert any(dhash(on_white))


def test_draft_decoding_of_a_large_jpeg_is_near(photos: list[Image.Image]) -> None:
    out = io.BytesIO()
    photos[5].resize((900, 900), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    drafted, whole = hash_image(out.getvalue()), dhash(Image.open(out))
    assert distance(drafted, whole) <= 12


def test_unreadable_is_an_error() -> None:
    with pytest.raises(OSError, match="cannot identify"):
        hash_image(b"no image")


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_groups_are_what_brute_force_finds(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    width = data.draw(st.sampled_from([3, 8, 144]))
    n = data.draw(st.integers(0, 40))
    density = data.draw(st.sampled_from([0.05, 0.2, 0.5]))
    centres = rng.random((max(1, n // 4), width * 8)) < density
    flips = rng.random((n, width * 8)) < data.draw(st.sampled_from([0.0, 0.02, 0.05]))
    hashes = np.packbits(centres[rng.integers(len(centres), size=n)] ^ flips, axis=1)
    limit = data.draw(st.sampled_from([0, 1, 4, 64]))
    assert groups(hashes, limit).tolist() == by_brute_force(hashes, limit)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_bound_costs_a_pair(data: st.DataObject) -> None:
    """Leaves of a few rows, sparse and dense hashes, few and many bits: the projection finds what brute force finds."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n, width = data.draw(st.integers(1, 60)), data.draw(st.sampled_from([16, 144]))
    centres = rng.random((max(1, n // 5), width * 8)) < data.draw(st.sampled_from([0.01, 0.1, 0.4, 0.9]))
    flips = rng.random((n, width * 8)) < data.draw(st.sampled_from([0.002, 0.01, 0.03]))
    hashes = np.packbits(centres[rng.integers(len(centres), size=n)] ^ flips, axis=1)
    limit = data.draw(st.sampled_from([1, 8, 64]))
    expected = by_brute_force(hashes, limit)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"_SMALL": 0, "_LEAF": 4, "_COLUMNS": 8, "_PAIRS": 5, "_BAND_COST": 1 << 40}.items():
            patch.setattr(neighbours, name, value)
        patch.setattr(neighbours, "_WIDE", data.draw(st.sampled_from([0, 1 << 18])))  # in half precision too
        assert groups(hashes, limit).tolist() == expected


@pytest.mark.parametrize("way", ["bands", "projection"])
def test_both_ways_find_the_same(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    centres = rng.random((150, 512)) < 0.2
    hashes = np.packbits(centres[rng.integers(150, size=600)] ^ (rng.random((600, 512)) < 0.02), axis=1)
    monkeypatch.setattr(neighbours, "_SMALL", 0)
    monkeypatch.setattr(neighbours, "_BAND_COST", 0 if way == "bands" else 1 << 40)
    assert groups(hashes).tolist() == by_brute_force(hashes, DEFAULT_DISTANCE)


def test_a_long_chain_is_one_group() -> None:
    """Each is near the next only: the component has to be followed through four hundred steps."""
    bits = np.zeros((400, 512), bool)
    for i in range(400):
        bits[i, i : i + 100] = True
    order = np.random.default_rng(0).permutation(400)
    assert groups(np.packbits(bits, axis=1)[order], 2).max() == 0


def test_groups_are_numbered_by_first_member() -> None:
    hashes = np.random.default_rng(1).integers(0, 256, (5, 64), np.uint8)
    assert groups(hashes[[3, 1, 3, 0, 1]]).tolist() == [0, 1, 0, 2, 1]
    assert groups(hashes[:0]).tolist() == []


_TWO_AT_ONCE = """
import threading, time
import numpy
from threadpoolctl import threadpool_info
from shards.blas import one_thread

def blas():
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

def work(seconds):
    with one_thread():
        seen.append(blas())
        time.sleep(seconds)

before, seen = blas(), []
threads = [threading.Thread(target=work, args=(seconds,)) for seconds in (0.1, 0.2)]
threads[0].start()
while not seen:
    time.sleep(0.001)
threads[1].start()
for thread in threads:
    thread.join()
print(seen, blas() == before)
"""


def test_blas_has_its_threads_back_after_two_wanted_one_at_once() -> None:
    """In a process of its own: OpenBLAS counts anew after a fork, as there are in other tests."""
    ran = subprocess.run([sys.executable, "-c", _TWO_AT_ONCE], capture_output=True, text=True, check=True)
    assert ran.stdout == "[[1], [1]] True\n"


@given(st.lists(st.binary(min_size=3, max_size=3), min_size=1, max_size=60), st.integers(1, 7))
def test_kinds_of_rows_are_those_of_unique(rows: list[bytes], together: int) -> None:
    table = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 3)
    with pytest.MonkeyPatch.context() as context:
        context.setattr(duplicates, "_TOGETHER", together)
        first, inverse = duplicates._different(table)
    _, known, numbers = np.unique(np.array(rows, "V3"), return_index=True, return_inverse=True)
    assert first.tolist() == known.tolist()
    assert inverse.tolist() == numbers.tolist()
