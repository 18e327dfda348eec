"""A disk that is really full, at every moment of a crawl: one clear line, and with room again the same set as ever."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from crawler.crawl import crawl
from crawler.crawl_errors import CrawlError, LedgerFailed
from crawler.drop_page import keep_drop_page
from crawler.limits import Limits
from crawler.shop.catalogue import catalogue
from crawler.shop.render import default_thumbnail
from crawler.shop.server import Shop, serve
from shards.shard_set import ShardSet
from shards.verify import verify

LIMITS = Limits(concurrency=8, per_host=8, rate_per_host=0, backoff_s=0.01)
SHARD_SAMPLES = 30
MIB = 1 << 20


class Disk:
    """A tmpfs of a few MiB, and a balloon that leaves of it what is wanted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._balloon = path / "balloon"

    def leave(self, free: int) -> None:
        """Fills the disk up to `free` bytes."""
        with self._balloon.open("wb") as file:
            room = os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize
            file.write(bytes(max(0, room - free)))

    def make_room(self) -> None:
        self._balloon.unlink(missing_ok=True)

    def resize(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", self.path], check=True)


@pytest.fixture(scope="module")
def tmpfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Disk]]:
    """Mounts small disks; skips where one may not."""
    mounted: list[Path] = []

    def mount(size: int) -> Disk:
        path = tmp_path_factory.mktemp("disk")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"mounting a tmpfs takes root and CAP_SYS_ADMIN: {done.stderr.strip()}")
        mounted.append(path)
        return Disk(path)

    yield mount
    for path in mounted:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture(scope="module")
def small_shop(make_picture: Callable[..., bytes]) -> Shop:
    stock = catalogue(60, seed=5)
    photos = {product.id: make_picture(product.id) for product in stock.products if product.photo}
    return Shop(stock, photos, default_thumbnail())


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    assert verify(folder) == []
    with ShardSet.open(folder) as found:
        return {found.key(i): (int(found.label_ids[i]), bytes(found.image(i))) for i in range(len(found))}


def clear(error: CrawlError, folder: Path) -> None:
    line = str(error)
    assert "\n" not in line
    assert str(folder) in line
    assert "make room and run the same command again" in line


async def test_a_disk_too_small_for_the_set(
    tmpfs: Callable[[int], Disk], small_shop: Shop, site_at: Callable[..., Any], tmp_path: Path
) -> None:
    async with serve(small_shop) as url:
        site = site_at(url)
        await crawl(site, tmp_path / "whole", limits=LIMITS, shard_samples=SHARD_SAMPLES)
        size = sum(path.stat().st_size for path in (tmp_path / "whole").iterdir())
        disk = tmpfs(size // 2)
        with pytest.raises(LedgerFailed) as full:
            await crawl(site, disk.path / "set", limits=LIMITS, shard_samples=SHARD_SAMPLES)
        clear(full.value, disk.path / "set")
        disk.resize(64 * MIB)
        report = await crawl(site, disk.path / "set", limits=LIMITS, shard_samples=SHARD_SAMPLES)
        assert report.finished
    assert contents(disk.path / "set") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("stage", "room"),
    [("explore", (0, 20)), ("collect", (0, 8, 48, 112)), ("settle", (0, 8, 20, 48, 112, 256, 8192))],
)
async def test_full_at_any_moment_of_a_stage(
    stage: str,
    room: tuple[int, ...],
    tmpfs: Callable[[int], Disk],
    small_shop: Shop,
    site_at: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """The disk fills up as the stage begins, with a little more room each time, until that is enough for it.

    So the write that fails is another one each time: the part, the ledger's log, a rewritten shard, an index, the
    manifest, the list of drops.
    """
    said: list[str] = []
    async with serve(small_shop) as url:
        site = site_at(url)
        await crawl(site, tmp_path / "whole", limits=LIMITS, shard_samples=SHARD_SAMPLES)
        whole = contents(tmp_path / "whole")
        drops = (tmp_path / "whole" / "drops.jsonl").read_bytes()
        for free in room:
            disk = tmpfs(16 * MIB)

            def fill(event: Mapping[str, Any], disk: Disk = disk, free: int = free) -> None:
                if event["event"] == "stage" and event["stage"] == stage:
                    disk.leave(free << 10)

            out = disk.path / "set"
            try:
                await crawl(site, out, limits=LIMITS, shard_samples=SHARD_SAMPLES, on_event=fill)
            except LedgerFailed as error:
                clear(error, out)
                said.append(str(error))
            else:
                assert free, "nothing was written by this stage: it cannot fail"
            disk.make_room()
            report = await crawl(site, out, limits=LIMITS, shard_samples=SHARD_SAMPLES)
            assert report.finished
            assert contents(out) == whole
            assert (out / "drops.jsonl").read_bytes() == drops
    assert len(said) >= 2


async def test_full_before_it_begins(
    tmpfs: Callable[[int], Disk], small_shop: Shop, site_at: Callable[..., Any]
) -> None:
    disk = tmpfs(4 * MIB)
    disk.leave(0)
    async with serve(small_shop) as url:
        with pytest.raises(CrawlError) as full:
            await crawl(site_at(url), disk.path / "set", limits=LIMITS)
        clear(full.value, disk.path / "set")
        disk.make_room()
        assert (await crawl(site_at(url), disk.path / "set", limits=LIMITS)).finished


async def test_full_as_the_page_of_drops_is_drawn(
    tmpfs: Callable[[int], Disk], small_shop: Shop, site_at: Callable[..., Any]
) -> None:
    disk = tmpfs(16 * MIB)
    out = disk.path / "set"
    async with serve(small_shop) as url:
        report = await crawl(site_at(url), out, limits=LIMITS)
    disk.leave(0)
    with pytest.raises(LedgerFailed) as full:
        keep_drop_page(report)
    clear(full.value, out)
    assert not (out / "drops.html").exists()
    disk.make_room()
    page = keep_drop_page(report)
    assert page == out / "drops.html"
    assert page.stat().st_size > 1000
