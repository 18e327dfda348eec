"""A shop that is down at the start is said to be, and is asked again by the next run."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from crawler.crawl import crawl
from crawler.crawl_errors import NothingFound
from crawler.limits import Limits
from crawler.shop.server import open_shop, serve
from crawler.site import load_site


async def test_a_shop_that_was_down_is_crawled_by_the_next_run(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    site = load_site("embedded", site={"start": [url]})
    with pytest.raises(NothingFound, match=rf"no start page could be read: {url}: robots.*run it again"):
        await crawl(site, tmp_path / "set", limits=Limits(retries=0, robots_retries=0))
    async with serve(open_shop(products=12, cache=tmp_path / "cache"), port=port):
        report = await crawl(site, tmp_path / "set")
    assert report.finished
    assert report.kept >= 12
