"""SIGKILL at random moments, again and again, and the set is that of an undisturbed crawl."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest

from crawler.crawl import crawl, run
from crawler.limits import Limits
from shards.shard_set import ShardSet

LIMITS = Limits(concurrency=8, per_host=8, rate_per_host=300.0, backoff_s=0.05)
SHARD_SAMPLES = 40  # so that sealing is met as often as fetching
KILLS = 10


@pytest.fixture(scope="module")
def start():
    """Starts a crawl in a process of its own, forked from one that has the imports behind it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["crawler.crawl"])

    def one(site: Any, out: Path) -> Any:
        options = {"limits": LIMITS, "shard_samples": SHARD_SAMPLES}
        child = context.Process(target=run, args=(site, out), kwargs=options)
        child.start()
        return child

    return one


async def _ends_within(child: Any, seconds: float) -> bool:
    await asyncio.to_thread(child.join, seconds)
    return child.exitcode is not None


def _contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as archive:
            names = archive.getnames()
            assert len(names) == len(set(names))
    with ShardSet.open(folder) as found:
        return {found.key(i): (int(found.label_ids[i]), bytes(found.image(i))) for i in range(len(found))}


async def test_killed_at_random_moments(start, shop_url, site_at, tmp_path):
    site = site_at(shop_url)
    whole = await crawl(site, tmp_path / "whole", limits=LIMITS, shard_samples=SHARD_SAMPLES)
    rng = random.Random(7)
    kills = 0
    while kills < KILLS:
        child = start(site, tmp_path / "killed")
        # later kills wait longer, so that settling is hit as well as collecting
        if await _ends_within(child, rng.uniform(0.05, 0.3 + 0.15 * kills)):
            break
        child.kill()
        child.join()
        kills += 1
    else:
        child = start(site, tmp_path / "killed")
        assert await _ends_within(child, 60)
    assert child.exitcode == 0
    print(f"survived {kills} kills")
    assert kills >= 3
    assert _contents(tmp_path / "killed") == _contents(tmp_path / "whole")
    report = await crawl(site, tmp_path / "killed")
    assert (report.already_finished, report.kept, report.dropped) == (True, whole.kept, whole.dropped)
    assert not list((tmp_path / "killed").glob("*.part"))


async def test_sigterm_keeps_the_state(start, shop_url, site_at, tmp_path):
    child = start(site_at(shop_url), tmp_path)
    for _ in range(500):
        if (tmp_path / "shard-000000.tar.part").exists():
            break
        await asyncio.sleep(0.02)
    child.terminate()
    assert await _ends_within(child, 30)
    assert child.exitcode == 0
    assert not (tmp_path / "dataset.json").exists()
    assert (await crawl(site_at(shop_url), tmp_path)).finished
