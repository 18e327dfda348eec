"""The crawl's bench on a few pictures: contenders in processes, over the real server; and what it refuses."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from bench import crawl as bench
from bench.crawl import CONTENDERS, against_targets, compare_crawls
from bench.crawl_peers import peer_versions
from bench.crawl_server import SICK, Server, crawl_server, host_paths, image_urls
from bench.errors import ContenderFailed
from bench.process import watch
from bench.record import read_record
from bench.stats import ratio, summarise
from shards.errors import ConfigError

RECORDS = Path(bench.__file__).parent / "records"
IMAGES = 400  # several result pages, and enough for the examiner's process


def _get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_the_server_shows_every_picture_once():
    with crawl_server(IMAGES) as server:
        shown: list[str] = []
        page = server.url
        for name in ("guitars", "basses"):
            page = f"{server.url}c/{name}"
            number = 1
            while b"product" in (body := _get(page)[1]):
                shown += [piece.partition('"')[0] for piece in body.decode().split('<img src="/')[1:]]
                number += 1
                page = f"{server.url}c/{name}?pg={number}"
        assert [server.url + path for path in shown] == image_urls(server.url, IMAGES)
        pictures = {_get(url)[1] for url in image_urls(server.url, IMAGES)}
        assert len(pictures) == IMAGES
        assert all(picture[:3] == b"\xff\xd8\xff" for picture in pictures)
        assert _get(server.url + "i/no.jpg")[0] == 404


def test_sick_hosts_are_sick_and_the_rest_is_told_of():
    kinds = ["healthy", *(kind for kind in SICK if kind != "slow")]
    with crawl_server(2, hosts=host_paths(len(kinds)), kinds=kinds) as server:
        body = b"".join(_get(f"{server.url}c/{name}")[1] for name in ("guitars", "basses")).decode()
        shown = sorted(piece.partition('"')[0] for piece in body.split('<img src="')[1:])
        of = {
            kind: [url for url in shown if url.startswith(f"http://{host}:")]
            for kind, host in zip(kinds, host_paths(5), strict=True)
        }
        assert all(len(urls) == 2 for urls in of.values())
        assert _get(of["failing"][0])[0] == 500
        assert [_get(of["limiting"][0])[0] for _ in range(3)] == [200, 200, 429]
        with pytest.raises(urllib.error.URLError, match="refused"):
            _get(of["dead"][0])
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(of["silent"][0], timeout=0.2)
        assert server.heard(0) is None
        assert [_get(url)[0] for url in of["healthy"]] == [200, 200]
        said = server.heard(10)
        assert said is not None
        assert list(said["done"]) == [host_paths(1)[0]]


def test_a_record_has_the_ratio_and_says_what_was_not_measured():
    told: list[str] = []
    record = compare_crawls(images=IMAGES, repeats=1, on_progress=lambda done, total, name: told.append(name))
    data = json.loads(json.dumps(record.to_json(), allow_nan=False))
    assert data["kind"] == "crawl"
    assert set(data["measurements"]) == {"bassline", "bare"}
    ours, bare = data["measurements"]["bassline"], data["measurements"]["bare"]
    assert data["ratios"]["ratio_to_bare"]["median"] == pytest.approx(ours["median"] / bare["median"])
    assert data["ratios"]["ratio_to_scrapy"] is None
    assert data["ratios"]["ratio_to_img2dataset"] is None
    assert "scrapy not measured" in data["verdict"]["sentence"]
    assert data["verdict"]["targets"]["ratio_to_bare"]["verdict"] == "not proven"  # one round has no interval
    assert data["verdict"]["targets"]["ratio_to_img2dataset-as-is"]["met"] is None
    assert data["verdict"]["name"] == "not proven"
    assert set(ours["stages"]) == {"explore_s", "collect_s", "settle_s"}
    # 118 MiB here with Python 3.11: 75 of the crawl and 40 of its examiner; torch alone would be 150 more
    assert 20 < bare["peak_mib"] < ours["peak_mib"] < 150
    assert told[-2:] == ["bassline", "bare"]


def test_img2dataset_is_judged_where_it_does_the_same_work():
    record = read_record(RECORDS / "2026-11-29-crawl.json")
    rates = {name: one["values"] for name, one in record.measurements.items()}
    ratios = {f"ratio_to_{name}": ratio(rates["bassline"], values) for name, values in rates.items()}
    found = against_targets(ratios)
    assert found["name"] == "met"
    assert "3.08 of img2dataset-as-is (wanted 2: reached; 7.14 of img2dataset, which re-encodes)" in found["sentence"]
    assert set(found["targets"]) == {"ratio_to_bare", "ratio_to_img2dataset-as-is", "ratio_to_scrapy"}
    slower = against_targets({**ratios, "ratio_to_img2dataset-as-is": summarise([1.9, 2.2, 2.3])})
    assert slower["name"] == "not proven"


_LAZY = """
import asyncio, sys
from pathlib import Path
from bench.crawl_bare import fetch_all
asyncio.run(fetch_all(Path(sys.argv[1]).read_text().split()[1:], Path(sys.argv[2])))
"""


def test_what_did_not_store_every_picture_is_refused(monkeypatch: pytest.MonkeyPatch):
    def command(server: Server, addresses: Path, out: Path, peers: Path) -> list[str]:
        return [sys.executable, "-c", _LAZY, str(addresses), str(out)]

    monkeypatch.setitem(CONTENDERS, "bare", bench.Contender("", command, CONTENDERS["bare"].stored))
    with pytest.raises(ContenderFailed, match=f"stored {IMAGES - 1} of {IMAGES} pictures"):
        compare_crawls(images=IMAGES, repeats=1, names=["bare"])


def test_unknown_and_absent_contenders():
    with pytest.raises(ConfigError, match="known: bassline, bare"):
        compare_crawls(names=["wget"])
    with pytest.raises(ConfigError, match="needs --peers"):
        compare_crawls(names=["scrapy"])
    assert peer_versions(Path("/nowhere/python")) == {}
    assert set(peer_versions(Path(sys.executable))) <= {"img2dataset", "scrapy"}


def test_watch_sees_children_and_ends_what_runs_too_long():
    hold = "import time; held = bytearray(60 << 20); time.sleep(0.5)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}]); print('said')"
    ended = watch([sys.executable, "-c", code])
    assert (ended.code, ended.said) == (0, "said\n")
    assert ended.peak_mib > 65
    assert ended.wall_s > 0.5
    assert ended.cpu_s > 0
    late = watch([sys.executable, "-c", "import time; time.sleep(60)"], limit_s=0.2)
    assert late.code == -9
    assert watch([sys.executable, "-c", "import sys; sys.exit('no')"]).complained == "no\n"
