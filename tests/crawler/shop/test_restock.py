from __future__ import annotations

import asyncio
import urllib.request
from http.client import HTTPResponse
from pathlib import Path
from urllib.error import HTTPError

import pytest

from crawler.shop.catalogue import catalogue
from crawler.shop.restock import restocked
from crawler.shop.server import open_shop, serve


def test_what_changes_and_what_does_not() -> None:
    before = catalogue(100, seed=2)
    later = restocked(before, 0.1)
    assert later == restocked(before, 0.1)
    assert later != restocked(before, 0.1, seed=1)
    old = {product.id: product for product in before.products}
    new = {product.id: product for product in later.catalogue.products}
    assert len(new) == len(later.catalogue.products)
    assert old.keys() - new.keys() == later.gone
    assert new.keys() - old.keys() == later.added
    assert {id for id in old.keys() & new.keys() if old[id] != new[id]} == later.renewed
    assert {id for id in later.renewed if old[id].spec == new[id].spec} == set()
    assert len(later.gone) == len(later.renewed) > 5 <= len(later.added)
    kept = [product.id for product in before.products if product.id in new]
    assert kept == [product.id for product in later.catalogue.products if product.id in old]
    assert restocked(before, 0.0).catalogue == before
    with pytest.raises(ValueError, match="share"):
        restocked(before, 0.6)


async def test_a_renewed_photograph_is_another_under_the_old_address(tmp_path: Path) -> None:
    def ask(url: str, **headers: str) -> tuple[int, bytes, str, str]:
        try:
            response: HTTPResponse = urllib.request.urlopen(urllib.request.Request(url, headers=headers))
        except HTTPError as error:
            with error:
                return error.code, b"", "", ""
        with response:
            return response.status, response.read(), response.headers["ETag"], response.headers["Last-Modified"]

    before, later = open_shop(products=20, cache=tmp_path), open_shop(products=20, changed=0.1, cache=tmp_path)
    renewed = next(iter(later.renewed))
    same = next(p.id for p in later.stock.products if p.photo and p.id not in later.renewed and p.id in before.photos)
    async with serve(before) as old, serve(later) as new:
        for id, changes in ((renewed, True), (same, False)):
            path = f"thumb//thumb150x150/pics/prod/{id}.jpg"
            _, body, etag, modified = await asyncio.to_thread(ask, old + path)
            for headers in ({"If-None-Match": etag}, {"If-Modified-Since": modified}):
                status, now, *_ = await asyncio.to_thread(lambda: ask(new + path, **headers))  # noqa: B023
                assert (status, now) == ((200, now) if changes else (304, b""))
                assert not changes or now != body
