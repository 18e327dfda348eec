"""The rendered shop: one file, written whole or not at all, read without copying the rest."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from crawler.shop import render as rendering
from crawler.shop.catalogue import catalogue
from crawler.shop.render import Photographs, default_cache, default_thumbnail, render, rendered


def test_every_product_with_a_photograph_is_drawn_once(tmp_path: Path) -> None:
    shop = catalogue(24)
    progress: list[tuple[int, int]] = []
    wanted = [product for product in shop.products if product.photo]
    with rendered(shop, tmp_path, workers=1, on_progress=lambda done, total: progress.append((done, total))) as photos:
        assert list(photos) == [product.id for product in wanted]
        assert all(photos[product.id] == render(product) for product in wanted[:5])
        assert len(set(photos.values())) == len(wanted)
    assert progress[-1] == (len(wanted), len(wanted))
    assert [path.suffix for path in tmp_path.iterdir()] == [".shop"]

    with rendered(shop, tmp_path, on_progress=lambda done, total: pytest.fail("drawn again")) as photos:
        assert photos[wanted[0].id] == render(wanted[0])
        with pytest.raises(KeyError):
            photos[0]


def test_two_processes_draw_the_same_as_one(tmp_path: Path) -> None:
    shop = catalogue(70)
    with rendered(shop, tmp_path / "two", workers=2) as two, rendered(shop, tmp_path / "one", workers=1) as one:
        assert dict(one) == dict(two)
        assert two.path.name == one.path.name


def test_an_interrupted_drawing_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rendered(catalogue(3), tmp_path, workers=1, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_other_stock_and_other_seeds_have_their_own_file(tmp_path: Path) -> None:
    paths = set()
    for shop in (catalogue(1), catalogue(2), catalogue(1, seed=1)):
        with rendered(shop, tmp_path, workers=1) as photos:
            paths.add(photos.path)
    assert len(paths) == 3


def test_the_cache_keeps_the_shops_used_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_KEPT_SHOPS", 1)
    for seed in (0, 1):
        rendered(catalogue(1, seed), tmp_path, workers=1).close()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.shop"
    path.write_bytes(b"not a shop at all")
    with pytest.raises(ValueError, match=r"x\.shop: not a rendered shop; delete it"):
        Photographs(path)


def test_the_default_thumbnail_is_one_picture() -> None:
    image = Image.open(io.BytesIO(default_thumbnail()))
    assert (image.format, image.size) == ("JPEG", (150, 150))
    assert default_thumbnail() is default_thumbnail()


def test_the_cache_follows_the_users_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "bassline" / "shop"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "bassline" / "shop"
