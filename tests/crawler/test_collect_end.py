"""What was fetched last is examined before the set is settled, however slow the examiners are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from crawler import examiners
from crawler.crawl import crawl
from crawler.shop.server import open_shop, serve
from crawler.site import load_site


async def test_slow_examiners_lose_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examine_all = examiners.examine_all

    def slowly(pictures: Any, drop: Any) -> Any:
        time.sleep(0.01 * len(pictures))  # as long as a busy machine takes; fetching is ten times faster
        return examine_all(pictures, drop)

    monkeypatch.setattr(examiners, "examine_all", slowly)
    async with serve(open_shop(products=40, cache=tmp_path / "cache")) as url:
        site = load_site("embedded", site={"start": [url], "hosts": ["127.0.0.1"]})
        report = await crawl(site, tmp_path / "set")
    assert report.kept >= 40  # and perhaps the one "no photo" thumbnail of too few products to be known as such
    assert report.kept + sum(report.dropped.values()) + sum(report.failed.values()) == report.products
