"""How fast is our crawl beside a bare client and others? The same pictures and server, in turns, whole processes.

A rate counts from the start of a process to its end: imports, ledger, indexes and all. The server is one process
beside, on the same cores as the contenders, as it is for every one of them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.crawl_peers import peer_versions, script
from bench.crawl_server import SICK, Server, crawl_server, host_paths, image_urls, warm_pictures
from bench.errors import BenchError, ContenderFailed
from bench.process import Ended, watch
from bench.record import Record, measured
from bench.stats import Summary, ratio, summarise
from bench.targets import Target, together
from shards.errors import ConfigError
from shards.shard_set import ShardSet

__all__ = ["CONTENDERS", "against_targets", "compare_crawls", "crawl_memory", "slow_hosts"]

OnProgress = Callable[[int, int, str], None]

_OPEN = {"concurrency": 64, "per_host": 64, "rate_per_host": 0.0}
"""Limits of a crawl of one's own server: 64 gets at a time, like the others."""

_POLITE = {"rate_per_host": 4.0}
"""Slow enough that 25 healthy hosts leave the processor idle: then only waiting can slow them."""

TARGETS = {"ratio_to_bare": Target(0.6), "ratio_to_img2dataset-as-is": Target(2.0), "ratio_to_scrapy": Target(5.0)}
"""Held against what does the same work: img2dataset as it is used re-encodes every picture, which we do not."""

PEAK_MIB, GROWTH = Target(150.0, below=True), Target(1.10, below=True)
SLOWED = Target(1.10, below=True)

_UNLIKE = {"ratio_to_img2dataset-as-is": "ratio_to_img2dataset"}  # told beside the target, and not judged


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to get the pictures: what tables call it, its command, how many pictures it has stored."""

    about: str
    command: Callable[[Server, Path, Path, Path], list[str]]  # server, addresses, out, the peers' Python
    stored: Callable[[Path], int]
    peer: str = ""


def _ours(server: Server, addresses: Path, out: Path, peers: Path) -> list[str]:
    return [sys.executable, "-m", "bench.crawl_ours", _wish(server, out, ["127.0.0.1"], _OPEN)]


def _wish(server: Server, out: Path, hosts: list[str], limits: dict[str, Any]) -> str:
    return json.dumps({"start": server.url, "out": str(out), "hosts": hosts, "limits": limits})


def _bare(server: Server, addresses: Path, out: Path, peers: Path) -> list[str]:
    return [sys.executable, "-m", "bench.crawl_bare", str(addresses), str(out)]


def _img2dataset(mode: str) -> Callable[[Server, Path, Path, Path], list[str]]:
    return lambda server, addresses, out, peers: [
        str(peers), *script("img2dataset_files"), str(addresses), str(out), mode,
    ]  # fmt: skip


def _scrapy(server: Server, addresses: Path, out: Path, peers: Path) -> list[str]:
    return [str(peers), *script("scrapy_images"), str(addresses), str(out)]


def _in_set(out: Path) -> int:
    with ShardSet.open(out) as found:
        return len(found)


def _in_tars(out: Path) -> int:
    count = 0
    for path in [out] if out.is_file() else sorted(out.glob("*.tar")):
        with tarfile.open(path) as archive:
            count += sum(member.name.endswith((".jpg", ".png", ".webp")) for member in archive)
    return count


def _in_folders(out: Path) -> int:
    return sum(1 for path in (out / "full").glob("*") if path.stat().st_size)


CONTENDERS = {
    "bassline": Contender("robots, ledger, hashes, verified, shards, index", _ours, _in_set),
    "bare": Contender("aiohttp, 64 gets into a tar", _bare, _in_tars),
    "img2dataset": Contender(
        "2 processes, 64 threads, to 256 pixels", _img2dataset("default"), _in_tars, "img2dataset"
    ),
    "img2dataset-as-is": Contender("the same without re-encoding", _img2dataset("as-is"), _in_tars, "img2dataset"),
    "scrapy": Contender("ImagesPipeline, 64 requests", _scrapy, _in_folders, "scrapy"),
}


def compare_crawls(
    *,
    images: int = 8000,
    repeats: int = 5,
    names: Sequence[str] = (),
    peers: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Record:
    """Measures our crawl, a bare client and, where at hand, img2dataset and Scrapy, in turns: A B C, C B A, ...

    Args:
        images: how many pictures of some 5 KB.
        repeats: processes a contender; a claim needs 5.
        names: contenders, by default all that are at hand.
        peers: a Python that has img2dataset and Scrapy.
        on_progress: called with (done, total, name).

    Raises:
        ConfigError: an unknown contender, or one that is not at hand.
        ContenderFailed: a contender's process failed, or did not store every picture: its rate would say nothing.
    """
    versions = peer_versions(peers) if peers else {}
    for name in names:
        if name not in CONTENDERS:
            raise ConfigError("--only", name, f"unknown contender; known: {', '.join(CONTENDERS)}")
        if (peer := CONTENDERS[name].peer) and peer not in versions:
            raise ConfigError("--only", name, f"needs --peers with a Python that has {peer}, or --peers install")
    chosen = list(names) or [name for name, one in CONTENDERS.items() if not one.peer or one.peer in versions]
    runs: dict[str, list[tuple[Ended, dict[str, Any]]]] = {name: [] for name in chosen}
    with _served(images, on_progress) as (server, folder):
        addresses = folder / "addresses.txt"
        addresses.write_text("".join(f"{url}\n" for url in image_urls(server.url, images)))
        for number in range(repeats):
            for turn, name in enumerate(chosen if number % 2 == 0 else reversed(chosen)):
                if on_progress:
                    on_progress(number * len(chosen) + turn, repeats * len(chosen), name)
                runs[name].append(_run(name, server, addresses, folder / "out", peers or Path(), images))
    rates = {name: [images / ended.wall_s for ended, _ in found] for name, found in runs.items()}
    ratios = {key: _ratio(rates, "bassline", key.removeprefix("ratio_to_")) for key in (*TARGETS, *_UNLIKE.values())}
    collecting = {
        name: [images / said[key] for _, said in runs.get(name, ())]
        for name, key in (("bassline", "collect_s"), ("bare", "fetch_s"))
    }
    ratios["collecting_ratio_to_bare"] = _ratio(collecting, "bassline", "bare")
    return Record(
        kind="crawl",
        settings={
            "images": images, "repeats": repeats, "gets": 64, "peers": versions, "server": "bench.crawl_server",
            "rate": "images by the seconds from a process's start to its end",
        },
        measurements={name: _measurement(name, found, images) for name, found in runs.items()},
        ratios={key: found and measured("ratio", found) for key, found in ratios.items()},
        verdict=against_targets(ratios),
    )  # fmt: skip


def _ratio(rates: dict[str, list[float]], ours: str, theirs: str) -> Summary | None:
    return ratio(rates[ours], rates[theirs]) if rates.get(ours) and rates.get(theirs) else None


def _measurement(name: str, runs: list[tuple[Ended, dict[str, Any]]], images: int) -> dict[str, Any]:
    return measured(
        "images/s",
        summarise([images / ended.wall_s for ended, _ in runs]),
        about=CONTENDERS[name].about,
        ours=name == "bassline",
        cpu_s_per_1000=statistics.median(ended.cpu_s for ended, _ in runs) / images * 1000,
        peak_mib=max(ended.peak_mib for ended, _ in runs),
        stages=_stages(runs),
    )


def _stages(runs: list[tuple[Ended, dict[str, Any]]]) -> dict[str, float]:
    return {key: statistics.median(said[key] for _, said in runs) for key in runs[0][1]}


def against_targets(ratios: dict[str, Summary | None]) -> dict[str, Any]:
    """The verdict of a record, by its ratios; None: not measured. Pure."""
    targets = {key: target.to_json(ratios[key]) for key, target in TARGETS.items()}
    lines = []
    for key, target in targets.items():
        name = key.removeprefix("ratio_to_")
        if target["found"] is None:
            lines.append(f"{name} not measured")
            continue
        words = f"{target['found']:.2f} of {name} (wanted {target['value']:g}: {target['verdict']}"
        if key in _UNLIKE and (unlike := ratios[_UNLIKE[key]]) is not None:
            words += f"; {unlike.median:.2f} of {_UNLIKE[key].removeprefix('ratio_to_')}, which re-encodes"
        lines.append(f"{words})")
    name = together(target["verdict"] for target in targets.values())
    return {"name": name, "sentence": f"A whole crawl runs at {', '.join(lines)}.", "targets": targets}


@contextmanager
def _served(images: int, on_progress: OnProgress | None, **options: Any) -> Iterator[tuple[Server, Path]]:
    """The server and a folder for what is fetched."""
    drawn = images * max(1, len(options.get("hosts", ())))
    warm_pictures(drawn, lambda done, total: on_progress(done, total, "drawing pictures") if on_progress else None)
    if on_progress:
        on_progress(0, 1, "starting the server")
    with tempfile.TemporaryDirectory(prefix="bassline-crawl-") as folder, crawl_server(images, **options) as server:
        yield server, Path(folder)


def _run(
    name: str, server: Server, addresses: Path, out: Path, peers: Path, images: int, look_s: float = 0.05
) -> tuple[Ended, dict[str, Any]]:
    """One process of a contender: what it cost, and seconds of its stages where it tells them."""
    contender = CONTENDERS[name]
    ended = watch(contender.command(server, addresses, out, peers), env=_environment(), look_s=look_s)
    if ended.code:
        raise ContenderFailed(name, ended.complained.strip().rpartition("\n")[2])
    stored = contender.stored(out)
    if stored != images:
        raise ContenderFailed(name, f"stored {stored:,} of {images:,} pictures, so its rate says nothing")
    shutil.rmtree(out) if out.is_dir() else out.unlink()
    if contender.peer:
        return ended, {}
    said = json.loads(ended.said)
    if name == "bare":
        return ended, said
    return ended, {f"{stage}_s": seconds for stage, seconds in said["time_s"].items()}


def _environment() -> dict[str, str]:
    """Ours; the peers must not find our packages."""
    return {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}


def crawl_memory(
    *, images: int = 8000, times: int = 10, repeats: int = 5, on_progress: OnProgress | None = None
) -> Record:
    """Measures the peak memory of a crawl, and of one `times` as large, in turns.

    Raises:
        ContenderFailed: a crawl failed or did not keep every picture.
    """
    sizes = {"crawl": images, "large": images * times}
    runs: dict[str, list[tuple[Ended, dict[str, Any]]]] = {name: [] for name in sizes}
    for number in range(repeats):
        for turn, (name, count) in enumerate(sizes.items() if number % 2 == 0 else reversed(sizes.items())):
            with _served(count, on_progress) as (server, folder):
                if on_progress:
                    on_progress(number * len(sizes) + turn, repeats * len(sizes), f"{count:,} images")
                runs[name].append(
                    _run("bassline", server, folder / "addresses.txt", folder / "out", Path(), count, look_s=0.02)
                )
    peaks = {name: summarise([ended.peak_mib for ended, _ in found]) for name, found in runs.items()}
    growth = ratio(peaks["large"].values, peaks["crawl"].values)
    targets = {
        "crawl": PEAK_MIB.to_json(peaks["crawl"]),
        "large": PEAK_MIB.to_json(peaks["large"]),
        "growth": GROWTH.to_json(growth),
    }
    words = {name: target["verdict"] for name, target in targets.items()}
    return Record(
        kind="crawl-memory",
        settings={
            "images": images, "times": times, "repeats": repeats,
            "peak": "resident, all processes of the crawl, every 20 ms",
        },
        measurements={
            name: measured(
                "MiB",
                peaks[name],
                images=sizes[name],
                wall_s=statistics.median(ended.wall_s for ended, _ in found),
                cpu_s_per_1000=statistics.median(ended.cpu_s for ended, _ in found) / sizes[name] * 1000,
                stages=_stages(found),
            )
            for name, found in runs.items()
        },
        ratios={"growth": measured("ratio", growth)},
        verdict={
            "name": together(words.values()),
            "sentence": f"{images:,} images peak at {peaks['crawl'].median:.0f} MiB, {sizes['large']:,} at "
            f"{peaks['large'].median:.0f} (wanted at most {PEAK_MIB.value:.0f}: {words['crawl']}, {words['large']}): "
            f"{growth.median:.2f} times (wanted at most {GROWTH.value:g}: {words['growth']}).",
            "targets": targets,
        },
    )  # fmt: skip


def slow_hosts(*, hosts: int = 50, images: int = 20, repeats: int = 3, on_progress: OnProgress | None = None) -> Record:
    """Measures whether hosts that are slow, fail, limit, say nothing or are dead slow the healthy ones.

    Every second of `hosts` is healthy (50 ms an answer). The time of the healthy ones, from the first of their pictures
    to the last, alone and together with the others, in turns, under the default limits of a site file but for a rate
    of 4 requests a second to a host.

    Args:
        hosts: loopback addresses 127.0.1.1 and on, which Linux has.
        images: of each host.

    Raises:
        BenchError: the crawl ended before the healthy hosts had given everything.
    """
    kinds = ["healthy" if number % 2 == 0 else SICK[number // 2 % len(SICK)] for number in range(hosts)]
    alone = [kind for kind in kinds if kind == "healthy"]
    runs: dict[str, list[dict[str, float]]] = {"alone": [], "together": []}
    for number in range(repeats):
        order = (("alone", alone), ("together", kinds))
        for turn, (name, present) in enumerate(order if number % 2 == 0 else order[::-1]):
            if on_progress:
                on_progress(2 * number + turn, 2 * repeats, name)
            runs[name].append(_healthy_s(present, images))
    finish = {name: [max(done.values()) for done in found] for name, found in runs.items()}
    slowed = ratio(finish["together"], finish["alone"])
    word = SLOWED.verdict(slowed)
    return Record(
        kind="crawl-hosts",
        settings={"hosts": hosts, "kinds": kinds, "images": images, "repeats": repeats, "limits": _POLITE},
        measurements={
            name: measured("s", summarise(finish[name]), by_host=[sorted(done.values()) for done in runs[name]])
            for name in runs
        },
        ratios={"together/alone": measured("ratio", slowed)},
        verdict={
            "name": together([word]),
            "sentence": f"{len(alone)} healthy hosts take {slowed.median:.2f} times as long beside "
            f"{hosts - len(alone)} that are slow, failing, limiting, silent or dead "
            f"(wanted at most {SLOWED.value:g}: {word}).",
            "targets": {"together/alone": SLOWED.to_json(slowed)},
        },
    )


def _healthy_s(kinds: Sequence[str], images: int) -> dict[str, float]:
    """Seconds until each healthy host had given its last picture; the crawl is stopped then."""
    addresses = host_paths(len(kinds))
    with _served(images, None, hosts=addresses, kinds=kinds) as (server, folder):
        wish = _wish(server, folder / "out", ["127.0.0.1", *addresses], _POLITE)
        with (folder / "words").open("w+") as words:
            crawl = subprocess.Popen(
                [sys.executable, "-m", "bench.crawl_ours", wish], stdout=words, stderr=words, stdin=subprocess.DEVNULL
            )
            try:
                while (said := server.heard(0.5)) is None:
                    if crawl.poll() is not None:
                        words.seek(0)
                        last = words.read().strip().rpartition("\n")[2][:300]
                        raise BenchError(f"the crawl ended before the healthy hosts had given everything: {last}")
            finally:
                crawl.send_signal(signal.SIGTERM)
                crawl.wait()
    done: dict[str, float] = said["done"]
    return done
