"""`bassline crawl` as a process: what it serves, logs and says, how it stops, and what it does not put up with."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from bassline.crawl_watch import metrics_at
from crawler.metrics import MOST_HOSTS, OTHER_HOSTS, CrawlMetrics
from crawler.report import CrawlStats, HostStats
from crawler.shop.process import shop_process
from crawler.traffic import FETCH_BUCKETS_S
from shards.errors import ConfigError
from shards.shard_set import ShardSet
from shards.verify import verify

from .conftest import Run

NO_SAMPLES = Metric("none", "", "counter")
LABELS = {"bass": 16, "guitar": 24}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A shop of 40 small pictures, two of them the same, in a process of its own."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = random.Random(4)
    for label, count in LABELS.items():
        (folder / label).mkdir()
        for number in range(count):
            pixels = rng.randbytes(6 * 6 * 3) if number else bytes(108)
            picture = Image.frombytes("RGB", (6, 6), pixels).resize((100, 100), Image.Resampling.NEAREST)
            picture.save(folder / label / f"{number}.jpg")
    with shop_process(images=folder) as url:
        yield url


@pytest.fixture(scope="module")
def site(shop: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A site file of that shop."""
    path = tmp_path_factory.mktemp("site") / "site.toml"
    path.write_text(f'extends = "folder"\n[site]\nname = "tiny"\nstart = ["{shop}"]\n')
    return str(path)


@pytest.fixture(scope="module")
def slow_site(site: str) -> str:
    """The same shop, at a pace at which there is something to see."""
    path = Path(site).with_name("slow.toml")
    path.write_text(f"{Path(site).read_text()}[limits]\nrate_per_host = 40.0\n")
    return str(path)


def crawling(
    *arguments: str | Path, program: Sequence[str] = ("-m", "bassline"), **options: Any
) -> subprocess.Popen[str]:
    command = [sys.executable, *program, "crawl", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **{**pipes, **options})


def events(fifo: Path) -> Iterator[dict[str, Any]]:
    """What a crawl logs, as it happens: its log is a pipe."""
    with fifo.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    assert verify(folder) == []
    with ShardSet.open(folder) as found:
        return {found.key(i): (int(found.label_ids[i]), bytes(found.image(i))) for i in range(len(found))}


@pytest.fixture(scope="module")
def whole(slow_site: str, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """An undisturbed crawl: its --json, its metrics on the way, its log, its set."""
    folder = tmp_path_factory.mktemp("whole")
    os.mkfifo(folder / "log")
    with crawling(slow_site, "--out", folder / "set", "--metrics", "0", "--log", folder / "log", "--json") as process:
        assert process.stderr
        assert process.stdout
        told, texts, url = [], [], ""
        for event in events(folder / "log"):
            told.append(event)
            url = url or process.stderr.readline().split("metrics: ")[1].strip()
            # a crawl that has ended meanwhile serves no more; what it had served is enough
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=30) as answer:
                assert answer.headers["Content-Type"].startswith("text/plain")
                texts.append(answer.read().decode())
        out, err = process.communicate()
    assert process.returncode == 0, err
    return {"json": json.loads(out), "err": err, "events": told, "metrics": texts, "set": folder / "set"}


def test_the_totals(whole: Mapping[str, Any]) -> None:
    told = whole["json"]
    outcomes = told["outcomes"]
    assert told["kept"] + sum(outcomes["dropped"].values()) + sum(outcomes["failed"].values()) == told["products"]
    assert told["products"] == sum(LABELS.values())
    (name, host), *others = told["by_host"].items()
    assert not others
    assert name.startswith("127.0.0.1:")
    assert host["requests"] == told["requests"]
    assert host["bytes"] == told["bytes"]
    assert told["bytes_per_s"] > 0
    assert len(contents(whole["set"])) == told["kept"]


def test_the_log_has_everything(whole: Mapping[str, Any]) -> None:
    kinds = [event["event"] for event in whole["events"]]
    assert [event["stage"] for event in whole["events"] if event["event"] == "stage"] == [
        "explore",
        "collect",
        "settle",
    ]
    assert kinds.count("request") == whole["json"]["requests"]
    assert sum(event["bytes"] for event in whole["events"] if event["event"] == "request") == whole["json"]["bytes"]
    classes = whole["json"]["problem_classes"]
    assert sum(kind in ("page", "image") for kind in kinds) == sum(problem["count"] for problem in classes.values())


def test_the_metrics_while_it_crawls(whole: Mapping[str, Any]) -> None:
    families = [{family.name: family for family in text_string_to_metric_families(text)} for text in whole["metrics"]]
    first, *_, second = (found for found in families if found.get("bassline_crawl_requests", NO_SAMPLES).samples)
    (host,) = whole["json"]["by_host"]
    for name in ("requests", "received_bytes", "retries"):
        (before,), (after,) = (families[f"bassline_crawl_{name}"].samples for families in (first, second))
        assert after.name == f"bassline_crawl_{name}_total"
        assert after.labels == {"host": host}
        assert before.value <= after.value <= max(whole["json"]["requests"], whole["json"]["bytes"])
    assert second["bassline_crawl_requests"].samples[0].value > 0
    assert second["bassline_crawl_requests"].type == "counter"
    assert second["bassline_crawl_in_flight"].type == "gauge"
    seconds = second["bassline_crawl_fetch_seconds"]
    assert seconds.type == "histogram"
    buckets = [sample.value for sample in seconds.samples if sample.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert len(buckets) == len(FETCH_BUCKETS_S) + 1
    (count,) = [sample.value for sample in seconds.samples if sample.name.endswith("_count")]
    assert count == buckets[-1] == second["bassline_crawl_requests"].samples[0].value
    stages = {sample.labels["stage"]: sample.value for sample in second["bassline_crawl_stage"].samples}
    assert sum(stages.values()) == 1


def test_metrics_of_many_hosts_stay_few_and_never_fall() -> None:
    metrics = CrawlMetrics("many")
    stats = CrawlStats()
    metrics.update(stats)
    rng = random.Random(1)
    asked: dict[str, int] = {}
    last: dict[str, float] = {}
    for _ in range(30):
        for _ in range(40):
            name = f"host{rng.randrange(500)}"
            asked[name] = asked.get(name, 0) + 1
        buckets = (0,) * (len(FETCH_BUCKETS_S) + 1)
        hosts = [HostStats(name, count, 0, 0, 0, 1, 0.0, 0.0, 0, 0.0, buckets) for name, count in asked.items()]
        rng.shuffle(hosts)  # the busiest first, whoever that is now
        stats.hosts = tuple(hosts)
        found = {
            sample.labels["host"]: sample.value
            for family in metrics.registry.collect()
            if family.name == "bassline_crawl_requests"
            for sample in family.samples
        }
        assert sum(found.values()) == sum(asked.values())
        assert all(found[name] >= value for name, value in last.items())
        last = found
    assert len(last) == MOST_HOSTS + 1
    assert OTHER_HOSTS in last


@pytest.mark.parametrize(
    ("where", "means"),
    [("9100", ("127.0.0.1", 9100)), ("0.0.0.0:0", ("0.0.0.0", 0)), ("[::1]:80", ("::1", 80)), ("box:1", ("box", 1))],
)
def test_where_metrics_are_served(where: str, means: tuple[str, int]) -> None:
    assert metrics_at(where) == means


@pytest.mark.parametrize("where", ["", "x", ":9100", "99999", "1.2.3.4:", "1.2.3.4:-1", "²"])
def test_where_metrics_cannot_be_served(where: str) -> None:
    with pytest.raises(ConfigError, match="expected PORT or ADDRESS:PORT"):
        metrics_at(where)


def test_a_port_in_use_is_one_line(bassline: Run, site: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = bassline("crawl", site, "--out", "set", "--metrics", str(taken.getsockname()[1]), check=2)
    assert "--metrics: cannot serve at" in done.stderr
    assert "Address already in use" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("set").exists()


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("explore", signal.SIGTERM),
        ("collect", signal.SIGINT),
        ("collect", signal.SIGTERM),
    ],
)
def test_a_signal_at_each_stage(
    stage: str, number: signal.Signals, slow_site: str, tmp_path: Path, bassline: Run, whole: Mapping[str, Any]
) -> None:
    os.mkfifo(tmp_path / "log")
    out = tmp_path / "set"
    with crawling(slow_site, "--out", out, "--log", tmp_path / "log", "--quiet") as process:
        for event in events(tmp_path / "log"):
            if event["event"] == "stage" and event["stage"] == stage:
                process.send_signal(number)
        said = process.communicate()
    assert process.returncode == 130, said
    assert said == ("", "interrupted the state is kept; run the same command again to go on\n")
    assert (out / "crawl.sqlite").exists()
    done = bassline("crawl", slow_site, "--out", out, "--json")
    assert json.loads(done.stdout)["kept"] == whole["json"]["kept"]
    assert contents(out) == contents(whole["set"])


SETTLING_HELD = """
import sys
from crawler import settle
from bassline.__main__ import main

at, go = sys.argv[1:3]
sys.argv[1:3] = []
real = settle.settle


def held(*arguments):
    open(at, "w").close()
    open(go).read()
    return real(*arguments)


settle.settle = held
main()
"""


@contextlib.contextmanager
def held_while_settling(site: str, out: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A crawl that waits where it would settle, and the pipe that lets it go on once it was opened to write."""
    at, go = out.with_name("at"), out.with_name("go")
    for pipe in (at, go):
        os.mkfifo(pipe)
    with crawling(site, "--out", out, "--quiet", program=["-c", SETTLING_HELD, str(at), str(go)]) as process:
        at.read_bytes()  # once it is there
        yield process, go


def test_a_signal_while_settling_lets_it_finish(site: str, tmp_path: Path, whole: Mapping[str, Any]) -> None:
    with held_while_settling(site, tmp_path / "set") as (process, go):
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        go.write_bytes(b"")
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "kept" in out
    assert contents(tmp_path / "set") == contents(whole["set"])


def test_a_second_signal_leaves_at_once(site: str, tmp_path: Path, bassline: Run, whole: Mapping[str, Any]) -> None:
    out = tmp_path / "set"
    with held_while_settling(site, out) as (process, _):
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)  # not SIGINT: two of a kind that wait are one
        said = process.communicate()
    assert process.returncode == 130, said
    assert said == ("", "interrupted the state is kept; run the same command again to go on\n")
    bassline("crawl", site, "--out", out, "--quiet", "--json")
    assert contents(out) == contents(whole["set"])


def test_a_reader_that_leaves_does_not_end_the_crawl(site: str, tmp_path: Path) -> None:
    """`bassline crawl ... 2>&1 | head -1`: the set is made, whoever listens."""
    read, write = os.pipe()
    process = crawling(site, "--out", tmp_path / "set", stdout=write, stderr=write)
    os.close(write)
    os.close(read)
    with process:
        assert process.wait(60) in (0, 1)
    assert len(contents(tmp_path / "set")) > 30


def _file(path: Path) -> Path:
    path.write_text("a file")
    return path


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (lambda folder: _file(folder / "set"), "it is a file"),
        (lambda folder: _file(folder / "set") / "below", "Not a directory"),
        (lambda folder: folder / ("x" * 300), "File name too long"),
        (lambda folder: Path("/proc/nowhere/set"), "No such file or directory"),
        (lambda folder: Path("/sys/set"), "may not|Operation not permitted|Permission denied|Read-only"),
    ],
    ids=["a file", "below a file", "too long", "no such mount", "not writable"],
)
def test_a_folder_that_cannot_be(
    place: Callable[[Path], Path], said: str, bassline: Run, site: str, tmp_path: Path
) -> None:
    done = bassline("crawl", site, "--out", place(tmp_path), "--quiet", check=1)
    assert re.search(said, done.stderr), done.stderr
    assert "name another one" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_on_a_read_only_disk(bassline: Run, site: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", disk], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting a read-only disk takes root and CAP_SYS_ADMIN")
    try:
        for out in (disk, disk / "set"):
            said = bassline("crawl", site, "--out", out, "--quiet", check=1).stderr
            assert "may not be written to" in said or "Read-only file system" in said
            assert said.count("\n") == 1
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_log_that_cannot_be(bassline: Run, site: str) -> None:
    done = bassline("crawl", site, "--out", "set", "--log", "no/such/folder/log", check=2)
    assert "--log: no/such/folder/log cannot be written (No such file or directory)" in " ".join(done.stderr.split())
    assert done.stderr.count("\n") == 1


def test_a_log_that_fills_its_disk_ends_no_crawl(bassline: Run, site: str, tmp_path: Path) -> None:
    done = bassline("crawl", site, "--out", tmp_path / "set", "--log", "/dev/full")
    assert done.stderr.count("--log /dev/full: given up (No space left on device)") == 1
    assert len(contents(tmp_path / "set")) > 30


def test_the_summary_says_every_outcome(bassline: Run, site: str, whole: Mapping[str, Any]) -> None:
    done = bassline("crawl", site, "--out", whole["set"])
    for word in ("kept", "bass", "guitar", "finished before", *whole["json"]["outcomes"]["dropped"]):
        assert word in done.stdout + done.stderr, word
