"""A set that lost samples to a bad disk is repaired, and the crawl gets back what the repair could not keep."""

from __future__ import annotations

import json

import pytest

from crawler.crawl import crawl
from crawler.limits import Limits
from shards.repair import ASIDE, LOST_NAME, repair
from shards.shard_set import ShardSet
from shards.verify import verify

FAST = Limits(concurrency=16, per_host=16, rate_per_host=0, backoff_s=0.01, retries=1, total_s=10, read_s=2)


@pytest.mark.parametrize("refresh", [None, "keep"])
async def test_what_a_repair_lost_is_fetched_again(shop_url, site_at, tmp_path, refresh):
    site = site_at(shop_url)
    first = await crawl(site, tmp_path, limits=FAST, shard_samples=12)
    with ShardSet.open(tmp_path) as found:
        before = {found.key(i): (bytes(found.image(i)), found.meta(i)) for i in range(len(found))}
        row = found.index.rows[3]
        shard = tmp_path / found.manifest.shards[0].name
    data = bytearray(shard.read_bytes())
    data[int(row["image"]) + 40] ^= 0xFF
    shard.write_bytes(data)
    gone = tmp_path / found.manifest.shards[1].name
    gone.write_bytes(bytes(gone.stat().st_size))  # a whole shard of zeros
    done = repair(tmp_path)
    assert len(done.lost) > 1  # shards are filled as answers come, and the second one may be the last
    assert {
        json.loads(line)["key"] for line in (tmp_path / ASIDE / LOST_NAME).read_text().splitlines()
    } <= before.keys()
    again = await crawl(site, tmp_path, limits=FAST, refresh=refresh)
    assert (again.finished, again.already_finished, again.kept) == (True, False, first.kept)
    if not refresh:
        assert sum(host["requests"] for host in again.by_host.values()) == len(done.lost)
    assert verify(tmp_path) == []
    with ShardSet.open(tmp_path) as found:
        after = {found.key(i): (bytes(found.image(i)), found.meta(i)) for i in range(len(found))}
    assert {key: (image, meta["product_url"]) for key, (image, meta) in after.items()} == {
        key: (image, meta["product_url"]) for key, (image, meta) in before.items()
    }
    assert (await crawl(site, tmp_path, limits=FAST)).already_finished
