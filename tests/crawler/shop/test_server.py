"""The embedded shop over HTTP, as a browser and a crawler meet it."""

from __future__ import annotations

import io
import urllib.request
from email.utils import parsedate_to_datetime

import aiohttp
import pytest
from PIL import Image
from yarl import URL

from crawler.shop import pages
from crawler.shop.folder import folder_catalogue
from crawler.shop.process import ShopDied, shop_process
from crawler.shop.render import default_thumbnail
from crawler.shop.server import Shop, serve
from shards.errors import ConfigError


@pytest.fixture
async def get(shop_url):
    async with aiohttp.ClientSession() as session:

        async def one(path: str, **headers: str):
            address = URL(shop_url.rstrip("/") + path, encoded=True)
            async with session.get(address, headers=headers, allow_redirects=False) as response:
                return response.status, response.headers, await response.read()

        yield one


def _of(shop, wanted):
    return next(product for product in shop.stock.products if wanted(product))


async def test_thumbnails_are_the_photographs(shop, get, photos):
    product = _of(shop, lambda product: product.photo)
    path = shop.thumbnail_path(product)
    assert "//thumb150x150/" in path
    status, headers, body = await get(path)
    assert (status, headers["Content-Type"], body) == (200, "image/jpeg", photos[product.id])
    status, headers, webp = await get(path.replace(".jpg", ".webp"))
    assert (status, headers["Content-Type"]) == (200, "image/webp")
    with Image.open(io.BytesIO(webp)) as image:
        assert (image.format, image.size) == ("WEBP", (150, 150))


async def test_products_without_a_photograph_show_the_default_with_status_200(shop, get):
    bare = [product for product in shop.stock.products if not product.photo]
    paths = [shop.thumbnail_path(product) for product in bare]
    assert pages.DEFAULT_IMAGE in paths
    assert len(set(paths)) > 2
    for path in set(paths):
        status, _, body = await get(path)
        assert (status, body) == (200, default_thumbnail())


async def test_conditional_requests(shop, get):
    product = _of(shop, lambda product: product.photo)
    path = shop.thumbnail_path(product)
    _, headers, _ = await get(path)
    tag, changed = headers["ETag"], headers["Last-Modified"]
    assert parsedate_to_datetime(changed)
    for wanted in (
        {"If-None-Match": tag}, {"If-None-Match": f'"x", W/{tag}'}, {"If-None-Match": "*"},
        {"If-Modified-Since": changed},
    ):  # fmt: skip
        status, again, body = await get(path, **wanted)
        assert (status, again["ETag"], body) == (304, tag, b"")
    for wanted in (
        {"If-None-Match": '"x"'}, {"If-None-Match": '"x"', "If-Modified-Since": changed},
        {"If-Modified-Since": "Mon, 05 Jan 2015 09:00:00 GMT"}, {"If-Modified-Since": "nonsense"},
    ):  # fmt: skip
        assert (await get(path, **wanted))[0] == 200
    assert (await get(path.replace(".jpg", ".webp")))[1]["ETag"] != tag


async def test_pages(shop, get):
    status, headers, body = await get("/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"/gb/guitars-and-basses.html" in body
    product = _of(shop, lambda product: len(product.categories) == 2)
    for slug in product.categories:
        wanted = [f"/gb/{slug}.html?pg={page}&ls=100" for page in range(1, 9)]
        found = [shop.product_slug(product).encode() in (await get(path))[2] for path in wanted]
        assert sum(found) == 1
    status, _, body = await get(f"/gb/{shop.product_slug(product)}.htm")
    assert status == 200
    assert product.name.encode() in body
    assert (await get("/gb/st-models.html?pg=9999"))[0] == 200
    for path in ("/gb/none.html", "/gb/st-models.html?pg=x", "/gb/st-models.html?pg=0", "/gb/x_0.htm", "/none",
                 "/thumb//thumb150x150/pics/prod/0.jpg"):  # fmt: skip
        assert (await get(path))[0] == 404, path


async def test_at_most_a_hundred_items_a_page_and_twenty_five_by_default(shop, get):
    for query, most in (("", 25), ("?ls=100", 100), ("?ls=9999", 100), ("?ls=3", 3)):
        body = (await get(f"/gb/st-models.html{query}"))[2]
        assert body.count(b"fx-product-list-entry") == min(most, len(shop.products_in("st-models")))


async def test_robots_and_the_links_that_lead_into_the_closed_part(get):
    robots = (await get("/robots.txt"))[2].decode()
    assert f"Disallow: {pages.CLOSED}" in robots
    assert f'class="link-list__text" href="{pages.CLOSED}'.encode() in (await get("/gb/st-models.html"))[2]
    assert (await get(f"{pages.CLOSED}st-models.html"))[2].count(b"fx-product-list-entry") > 0


def test_a_folder_as_a_shop(tmp_path, make_picture):
    for label, names in {"Tuba (big)": ["a.jpg", "b.png"], "tuba-big": ["a.jpg", "deep/c.txt"], "none": []}.items():
        for name in names:
            path = tmp_path / label / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(make_picture(len(name)))
    (tmp_path / "none").mkdir()
    (tmp_path / "loose.jpg").write_bytes(b"")
    stock, photos = folder_catalogue(tmp_path)
    assert [category.name for category in stock.categories] == ["Tuba (big)", "tuba-big"]
    assert len({category.slug for category in stock.categories}) == 2
    assert [product.name for product in stock.products] == [
        "Tuba (big)/a.jpg", "Tuba (big)/b.png", "tuba-big/a.jpg", "tuba-big/deep/c.txt"
    ]  # fmt: skip
    assert photos[1] == (tmp_path / "Tuba (big)/a.jpg").read_bytes()
    assert len(photos) == len(list(photos)) == 4


def test_a_folder_that_is_none(tmp_path):
    for folder in (tmp_path / "absent", tmp_path):
        with pytest.raises(ConfigError, match="expected one folder of images a label"):
            folder_catalogue(folder)


async def test_whatever_a_folder_holds_is_served_by_its_content(tmp_path, make_picture):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "1.jpg").write_bytes(make_picture(1, kind="PNG"))
    (tmp_path / "x" / "2.jpg").write_bytes(b"no image")
    shop = Shop(*folder_catalogue(tmp_path), default_thumbnail())
    async with serve(shop) as url, aiohttp.ClientSession() as session:
        for number, expected in ((1, "image/png"), (2, "application/octet-stream")):
            address = f"{url}thumb//thumb150x150/pics/prod/{number}.jpg"
            async with session.get(URL(address, encoded=True)) as response:
                assert (response.status, response.content_type) == (200, expected)
            async with session.get(URL(address.replace(".jpg", ".webp"), encoded=True)) as response:
                assert response.status == (200 if number == 1 else 404)


def test_in_a_process_of_its_own(tmp_path, make_picture):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "1.jpg").write_bytes(make_picture(1))
    with shop_process(images=tmp_path) as url, urllib.request.urlopen(url) as response:
        assert b"link-list__text" in response.read()
    with pytest.raises(OSError), urllib.request.urlopen(url, timeout=2):
        pass


def test_a_process_that_cannot_start_says_why(tmp_path):
    with pytest.raises(ShopDied, match="no such folder"), shop_process(images=tmp_path / "absent"):
        pass
