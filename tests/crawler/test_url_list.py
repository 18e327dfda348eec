"""A list of addresses and labels as a source, over a real server: formats, bad rows, resume, rows added later."""

from __future__ import annotations

import csv
import gzip
import json
import tracemalloc
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler import url_list
from crawler.crawl import crawl
from crawler.crawl_errors import NothingFound
from crawler.limits import Limits
from crawler.report import CrawlReport
from crawler.site import Site, list_site, load_site
from crawler.url_list import Rows, UrlList, read
from shards.errors import ConfigError
from shards.shard_set import ShardSet

FAST = Limits(concurrency=16, per_host=16, rate_per_host=0, backoff_s=0.01, retries=0, total_s=10, read_s=5)


@pytest.fixture
async def url(start_web, make_picture):
    return await start_web({f"/{i}.jpg": make_picture(i, size=(48, 48)) for i in range(30)})


def local(path: Path, **columns: Any) -> Site:
    return list_site(path, **columns, site={"allow_private": ["127.0.0.1"]})


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[1]
    if kind == "parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        if kind == "jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def contents(folder: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    with ShardSet.open(folder) as found:
        rows = [(found.meta(i), found.labels[int(found.label_ids[i])]) for i in range(len(found))]
    return {meta["image_url"].rsplit("/", 1)[1]: (label, meta.get("row", {})) for meta, label in rows}


def accounted(report: CrawlReport) -> None:
    assert report.kept + sum(report.dropped.values()) + sum(report.failed.values()) == report.products


@pytest.mark.parametrize("name", ["list.csv", "list.tsv", "list.csv.gz", "list.jsonl", "list.parquet"])
async def test_every_format_gives_the_same_set(url, tmp_path, name):
    rows = [{"url": f"{url}{i}.jpg", "label": ["cat", "dog"][i % 2], "caption": f"no, {i}"} for i in range(6)]
    report = await crawl(local(write(tmp_path / name, rows)), tmp_path / "set", limits=FAST)
    accounted(report)
    assert report.labels == {"cat": 3, "dog": 3}
    assert contents(tmp_path / "set")["3.jpg"] == ("dog", {"caption": "no, 3"})


async def test_labels_may_be_numbers_other_columns_or_absent(url, tmp_path):
    rows = [{"image": f"{url}{i}.jpg", "class": 10 - i, "score": i / 2} for i in range(10)]
    path = write(tmp_path / "list.parquet", rows)
    await crawl(local(path, url="image", label="class"), tmp_path / "set", limits=FAST)
    with ShardSet.open(tmp_path / "set") as found:
        assert found.labels == tuple(str(i) for i in range(1, 11))  # as numbers, not as texts
    assert contents(tmp_path / "set")["3.jpg"] == ("7", {"score": 1.5})
    report = await crawl(local(path, url="image"), tmp_path / "bare", limits=FAST)
    assert report.labels == {"unlabelled": 10}
    plain = tmp_path / "list.txt"
    plain.write_text(f"{url}1.jpg\n\n{url}2.jpg\n")
    assert (await crawl(local(plain), tmp_path / "plain", limits=FAST)).labels == {"unlabelled": 2}


async def test_bad_rows_are_counted_told_and_passed_over(url, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(f'url,label\n{url}1.jpg,a\nnonsense,a\n,a\n{url}2.jpg,b,c\nftp://x/y,a\n"{url}3.jpg",\n\n')
    report = await crawl(local(path), tmp_path / "set", limits=FAST)
    assert report.labels == {"a": 1, "unlabelled": 1}
    assert "expected an http(s) address in 'url', not 'nonsense'" in report.problems["list.csv, line 3"]
    assert "3 fields under 2 columns" in report.problems["list.csv, line 5"]
    assert report.problems["list.csv"].startswith("4 of 6 rows passed over")


async def test_duplicates_two_labels_and_dead_addresses(url, tmp_path):
    rows = [(1, "a"), (1, "a"), (2, "a"), (2, "b"), (99, "a"), (3, "b")]
    path = write(tmp_path / "list.csv", [{"url": f"{url}{i}.jpg", "label": label} for i, label in rows])
    report = await crawl(local(path), tmp_path / "set", limits=FAST)
    accounted(report)
    assert {name: label for name, (label, _) in contents(tmp_path / "set").items()} == {"1.jpg": "a", "3.jpg": "b"}
    assert report.dropped == {"label-conflict": 1, "http-404": 1}


async def test_rows_added_later_in_another_order_are_picked_up_and_nothing_is_fetched_twice(url, tmp_path):
    first = [{"url": f"{url}{i}.jpg", "label": "m" if i % 2 else "z"} for i in range(8)]
    path = write(tmp_path / "list.csv", first)
    report = await crawl(local(path), tmp_path / "set", limits=FAST)
    again = await crawl(local(path), tmp_path / "set", limits=FAST)
    assert again.already_finished
    added = [{"url": f"{url}{i}.jpg", "label": "a"} for i in range(20, 25)]
    moved = tmp_path / "elsewhere.csv"
    write(moved, [*added, *reversed(first)])
    more = await crawl(local(moved), tmp_path / "set", limits=FAST)
    accounted(more)
    assert more.finished
    assert not more.already_finished
    assert more.answered == 5
    assert more.kept == report.kept + 5
    with ShardSet.open(tmp_path / "set") as found:
        assert found.labels == ("m", "z", "a")  # numbers that were given stay
    assert Counter(label for label, _ in contents(tmp_path / "set").values()) == {"m": 4, "z": 4, "a": 5}


async def test_in_a_site_file(url, tmp_path):
    write(tmp_path / "list.csv", [{"link": f"{url}{i}.jpg", "kind": "a", "title": f"t{i}"} for i in range(4)])
    (tmp_path / "mine.toml").write_text(
        '[site]\nname = "mine"\nallow_private = ["127.0.0.1"]\n[drop]\ntitle = ["t3"]\n'
        '[list]\npath = "list.csv"\nurl = "link"\nlabel = "kind"\n'
    )
    report = await crawl(load_site(tmp_path / "mine.toml"), tmp_path / "set", limits=FAST)
    assert (report.kept, report.dropped) == (3, {"rule": 1})


async def test_private_addresses_are_refused_though_any_host_may_be_in_a_list(url, tmp_path):
    path = write(tmp_path / "list.csv", [{"url": f"{url}1.jpg"}])
    with pytest.raises(NothingFound):
        await crawl(list_site(path), tmp_path / "set", limits=FAST)
    assert '"reason": "address"' in (tmp_path / "set" / "drops.jsonl").read_text()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", b"link,label\nhttp://x/,a\n", "no column 'url' (name one with --url-column); columns: link, label"),
        ("a.parquet", b"no parquet", "cannot be read"),
        ("a.csv.gz", b"\x1f\x8b\x08\x00cut", "cannot be read"),
        ("a.jsonl", b'{"u": 1}\n', "no column 'url'"),
        ("a.xlsx", b"", "not known by its suffix"),
    ],
)
def test_what_is_no_list_gets_one_line(tmp_path, name, content, problem):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        list(read(UrlList(path=str(path)), Rows()))
    assert problem in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_caption_is_no_label(tmp_path):
    rows = [{"url": f"http://x/{i}", "caption": f"c{i}"} for i in range(10_100)]
    path = write(tmp_path / "list.csv", rows)
    with pytest.raises(ConfigError, match="more than 10,000 labels"):
        list(read(UrlList(path=str(path), label="caption"), Rows()))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_list(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(url_list, "_BATCH", 100)

    def peak(count: int) -> int:
        rows = [{"url": f"http://x.example/{i}.jpg", "label": "a", "caption": "c" * 50} for i in range(count)]
        path = write(tmp_path / f"{count}.{kind}", rows)
        del rows
        tracemalloc.start()
        assert sum(len(batch) for batch in read(UrlList(path=str(path)), Rows())) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(3_000) < 1.5 * peak(500) + 100_000


@given(st.binary(max_size=400), st.sampled_from(["csv", "tsv", "jsonl", "txt", "parquet", "csv.gz"]))
def test_any_bytes_are_rows_or_one_line(tmp_path_factory, content, kind):
    path = tmp_path_factory.getbasetemp() / f"fuzz.{kind}"
    path.write_bytes(content)
    with suppress(ConfigError):
        for batch in read(UrlList(path=str(path)), Rows()):
            assert all(row.url.startswith("http") and row.label for row in batch)
