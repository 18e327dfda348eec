"""SIGKILL at every step of every stage, again and again, with and without a power cut; and the set is that of a crawl
that nothing disturbed.

A few dozen kills in the suite; `BASSLINE_KILLS=500 pytest tests/crawler/test_kill.py` for as many as one likes.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crawler.report import DROPS_NAME
from crawler.shop.catalogue import Catalogue, catalogue
from crawler.shop.render import default_thumbnail
from crawler.shop.restock import restocked
from crawler.shop.server import Shop, serve
from shards.shard_set import ShardSet
from shards.verify import verify

KILLS = int(os.environ.get("BASSLINE_KILLS", "24"))
LIMITS = {"concurrency": 8, "per_host": 8, "rate_per_host": 0.0, "backoff_s": 0.05}
SHARD_SAMPLES = 12  # so that sealing is met as often as fetching

# What dies where: a pattern of the event, up to which occurrence of it, and what may not be passed alive.
_PAST = {"explore": "^(collect|settle): ", "collect": "^settle: ", "settle": "^$"}
_EVENTS = {
    "explore": (("page", 6), ("COMMIT", 2)),
    "collect": (
        ("page", 6), ("image", 25), ("write", 25), ("(fsync of|naming) part", 4), ("fsync of folder", 4),
        ("(fsync of|naming) shard", 4), ("COMMIT", 6), (".", 80),
    ),
    "settle": (
        (".", 8), ("shard", 6), ("folder", 8), ("index", 16), ("manifest", 4), ("drops", 4), ("COMMIT", 6),
        ("removing", 2), (".", 60),
    ),
}  # fmt: skip


class Killable:
    """The process that forks crawls and says how they ended."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("killable.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.kills: Counter[str] = Counter()

    async def run(self, site: dict[str, Any], out: Path, plan: dict[str, Any], **options: Any) -> bool:
        """One crawl, perhaps to its end; whether it came to it."""
        job = {"site": "embedded", "tables": site, "out": str(out), "limits": LIMITS, "plan": plan, "options": options}
        return await asyncio.to_thread(self._run, {**job, "shard_samples": SHARD_SAMPLES})

    def _run(self, job: dict[str, Any]) -> bool:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        status, died_at = json.loads(self._process.stdout.readline())
        if died_at:
            assert status == -9, (status, died_at)
            stage = "refresh, " * bool(job["options"]) + re.sub("^(.*?):.*?(, power cut)?$", r"\1\2", died_at)
            self.kills[stage] += 1
            return False
        assert status == 0, "a crawl that was to go on has failed; its traceback is above"
        return True

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)
        if self._process.stdout:
            self._process.stdout.close()


@pytest.fixture
def killable() -> Iterator[Killable]:
    one = Killable()
    yield one
    one.close()


@pytest.fixture(scope="module")
def stock() -> Catalogue:
    return catalogue(50, seed=5)


@pytest.fixture(scope="module")
def photos(stock, make_picture) -> dict[int, bytes]:
    return {product.id: make_picture(product.id, (60, 60)) for product in stock.products if product.photo}


def plans(rng: random.Random, kills: int) -> Iterator[dict[str, Any]]:
    """Kills in the order of the stages, then none."""
    shares = {"explore": 0.1, "collect": 0.4, "settle": 0.5}
    for stage, share in shares.items():
        for number in range(max(1, round(kills * share))):
            power = rng.random() < 0.5
            if number == 0:  # one that is sure to hit the stage, however quick it is
                plan = {"match": f"^{stage}: .*{_EVENTS[stage][0][0]}", "nth": 1}
            elif rng.random() < 0.2:
                plan = {"match": f"^{stage}", "after_s": rng.uniform(0, 0.15), "nth": 0}
            else:
                event, most = rng.choice(_EVENTS[stage])
                plan = {"match": f"^{stage}: .*{event}", "nth": rng.randint(1, most)}
            yield {**plan, "guard": _PAST[stage], "power": power}


def contents(folder: Path) -> dict[str, tuple[str, bytes, dict[str, Any]]]:
    """Everything by key, but the moment of fetching; asserts that every tar is whole and nothing else lies about."""
    assert verify(folder) == []
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as archive:
            names = archive.getnames()
            assert len(names) == len(set(names))
    left = {path.name for path in folder.iterdir()}
    assert not {name for name in left if name.endswith((".part", ".tmp", ".next"))}
    with ShardSet.open(folder) as found:
        samples = {}
        for i in range(len(found)):
            meta = {name: value for name, value in found.meta(i).items() if name != "fetched_at"}
            samples[found.key(i)] = (found.labels[found.label_ids[i]], bytes(found.image(i)), meta)
    return samples


def drops(folder: Path) -> bytes:
    return (folder / DROPS_NAME).read_bytes()


@pytest.mark.timeout(60 + 6 * KILLS)
async def test_killed_at_every_stage(killable, stock, photos, make_picture, tmp_path, unused_tcp_port, record_property):
    rng = random.Random(11)
    copied = dict(photos)
    shown = [product.id for product in stock.products if product.photo]
    copied[shown[1]] = copied[shown[0]]  # a duplicate, so that shards are written anew
    for product in shown[2:8]:
        copied[product] = copied[shown[2]]  # a placeholder
    later = restocked(stock, 0.1)
    new = {product.id: make_picture(product.id + 9_000_000, (60, 60)) for product in later.to_draw}
    shops = {
        "first": Shop(stock, copied, default_thumbnail()),
        "later": Shop(later.catalogue, {**copied, **new}, default_thumbnail(), renewed=later.renewed),
    }
    url = f"http://127.0.0.1:{unused_tcp_port}/"
    site = {"site": {"start": [url]}}
    expected: dict[str, Any] = {}
    for name, shop in shops.items():
        async with serve(shop, port=unused_tcp_port):
            assert await killable.run(
                site, tmp_path / "whole", {"match": "^$"}, **({"refresh": True} if expected else {})
            )
        expected[name] = (contents(tmp_path / "whole"), drops(tmp_path / "whole"))
    assert expected["first"][0].keys() != expected["later"][0].keys()
    rounds = 0
    while killable.kills.total() < KILLS:
        folder = tmp_path / str(rounds)
        for name, shop in shops.items():
            options = {"refresh": True} if name == "later" else {}
            async with serve(shop, port=unused_tcp_port):
                for plan in plans(rng, min(20, KILLS // 2)):
                    if await killable.run(site, folder, plan, **options):
                        break
                    if name == "later":  # the old set or the new one, at every moment
                        with ShardSet.open(folder) as found:
                            keys = {found.key(i) for i in range(len(found))}
                        assert keys in (expected["first"][0].keys(), expected["later"][0].keys())
                else:
                    assert await killable.run(site, folder, {"match": "^$"}, **options)
                assert contents(folder) == expected[name][0]
                assert drops(folder) == expected[name][1]
        rounds += 1
    by_stage = ", ".join(f"{count} in {stage}" for stage, count in sorted(killable.kills.items()))
    told = f"survived {killable.kills.total()} kills over {rounds} crawls and as many refreshes: {by_stage}"
    record_property("told", told)
    for stage in ("explore", "collect", "settle"):
        assert killable.kills[stage] + killable.kills[f"{stage}, power cut"], stage
        assert killable.kills[f"refresh, {stage}"] + killable.kills[f"refresh, {stage}, power cut"], stage
