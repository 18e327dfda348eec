"""info, head, sheet and verify as a person runs them: over sets, splits, damaged sets and other people's tars."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from shards.sample import Sample
from shards.shard_set import ShardSet
from shards.split import split
from shards.writer import write_set

from .conftest import Run


def _picture(seed: int, size: tuple[int, int] = (40, 32)) -> bytes:
    out = io.BytesIO()
    Image.effect_noise(size, 40 + seed).convert("RGB").save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    about = {
        "title": "<b>Bass & more</b>",
        "product_url": "https://shop.example/p/1",
        "image_url": "javascript:alert(1)",
    }
    samples = [Sample(f"k{n}", _picture(n), "jpg", n % 2, {"label": "ab"[n % 2], **about}) for n in range(8)]
    write_set(tmp_path / "set", samples, ["a", "b"], source={"kind": "test"}, shard_samples=4).close()
    return tmp_path / "set"


def test_verify_repair_and_verify_again(bassline: Run, folder: Path) -> None:
    assert json.loads(bassline("shards", "verify", str(folder), "--json").stdout)["findings"] == []
    path = folder / "shard-000001.tar"
    with ShardSet.open(folder) as opened:
        key, at = opened.key(5), int(opened.index.rows[5]["image"])
    data = bytearray(path.read_bytes())
    data[at + 300] ^= 64
    path.write_bytes(data)
    done = bassline("shards", "verify", str(folder), check=1)
    assert f"crc: shard-000001.tar@{at - 512} {key}: the image's bytes" in done.stdout
    done = bassline("shards", "verify", str(folder), "--repair")
    assert f"lost: {key} (shard-000001.tar@{at - 512}): crc:" in done.stdout
    told = json.loads(bassline("shards", "verify", str(folder), "--repair", "--json").stdout)
    assert told["findings"] == []
    assert told["repaired"]["lost"] == []
    assert json.loads(bassline("shards", "info", str(folder), "--json").stdout)["samples"] == 7


def test_quarantine(bassline: Run, folder: Path) -> None:
    with ShardSet.open(folder) as opened:
        at = int(opened.index.rows[5]["image"])
    path = folder / "shard-000001.tar"
    data = bytearray(path.read_bytes())
    data[at + 300] ^= 64
    path.write_bytes(data)
    assert (
        json.loads(bassline("shards", "verify", str(folder), "--quarantine", "--json", check=1).stdout)["quarantined"]
        == 1
    )
    assert "1 samples are passed over" in bassline("shards", "info", str(folder)).stdout


def test_a_split_is_verified_part_by_part(bassline: Run, folder: Path, tmp_path: Path) -> None:
    split(folder, tmp_path / "parts", fractions=(0.5, 0.25, 0.25), seed=0)
    told = json.loads(bassline("shards", "verify", str(tmp_path / "parts"), "--json").stdout)
    assert {name: part["findings"] for name, part in told["parts"].items()} == {"train": [], "val": [], "test": []}
    (tmp_path / "parts" / "val" / "shard-000000.idx").unlink()
    assert "dali index: shard-000000.idx" in bassline("shards", "verify", str(tmp_path / "parts"), check=1).stdout
    shown = bassline("shards", "info", str(tmp_path / "parts")).stdout
    assert "label train val test all share" in " ".join(shown.split())


def test_other_peoples_tars_are_held_to_what_they_have(bassline: Run, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "00000.tar", "w") as archive:
        for n in range(4):
            for ext, content in {"jpg": _picture(n), "txt": b"a caption"}.items():
                info = tarfile.TarInfo(f"{n:09d}.{ext}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    bassline("shards", "verify", str(tmp_path))
    whole = (tmp_path / "00000.tar").read_bytes()
    at = whole.find(b"000000002.jpg") + 50  # inside a header
    (tmp_path / "00000.tar").write_bytes(whole[:at] + b"?" * 700 + whole[at:])
    assert "damaged: 00000.tar@" in bassline("shards", "verify", str(tmp_path), check=1).stdout
    out = tmp_path / "out"
    told = json.loads(bassline("shards", "verify", str(tmp_path), "--repair", "--out", str(out), "--json").stdout)
    assert told["repaired"]["kept"] == 3
    assert sorted(path.name for path in out.iterdir()) == ["00000.tar", "damaged"]


def test_head_says_where_a_sample_came_from(bassline: Run, folder: Path) -> None:
    shown = bassline("shards", "head", str(folder), "-n", "1").stdout
    assert shown.split()[:2] == ["k0", "a"]
    assert "<b>Bass & more</b>" in shown
    assert "https://shop.example/p/1" in shown
    assert bassline("shards", "head", str(folder), "--key", "k5", "--pictures").stdout.count("▀") >= 100
    told = json.loads(bassline("shards", "head", str(folder), "--label", "b", "--json").stdout)["samples"]
    assert [row["key"] for row in told] == ["k1", "k3", "k5", "k7"]
    assert "no such label" in bassline("shards", "head", str(folder), "--label", "c", check=2).stderr
    assert "no such sample" in bassline("shards", "head", str(folder), "--key", "c", check=2).stderr


def test_a_page_needs_nothing_beside_it(bassline: Run, folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "sheet.html"
    told = json.loads(bassline("shards", "sheet", str(folder), "--out", str(page), "--oddest", "--json").stdout)
    text = page.read_text()
    assert told["bytes"] == len(text.encode())
    assert text.count("data:image/jpeg;base64,") == 8
    assert "&lt;b&gt;Bass &amp; more&lt;/b&gt;" in text
    assert 'href="https://shop.example/p/1"' in text
    assert 'href="javascript' not in text
    assert "<link" not in text
    assert 'src="http' not in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify", "SET", "--out", "x"], "is where --repair writes"),
        (["verify", "SET", "--repair", "--quarantine"], "give one of them"),
        (["sheet", "SET", "--largest", "--oddest"], "give one of --largest, --smallest and --oddest"),
        (["sheet", "SET", "--out", "x.pdf"], "ends in .png or .html"),
    ],
)
def test_wrong_usage(bassline: Run, folder: Path, arguments: list[str], said: str) -> None:
    words = [str(folder) if word == "SET" else word for word in arguments]
    assert said in " ".join(bassline("shards", *words, check=2).stderr.split())


def test_a_set_whose_groups_nobody_looked_for_says_so(bassline: Run, folder: Path) -> None:
    said = bassline("shards", "sheet", folder, "--out", "groups.html", "--by", "group")
    assert "no group of several: by what the set says" in said.stderr
    assert "0 samples have near-duplicates" in (told := bassline("shards", "info", folder).stdout)
    assert "`drop --near-duplicates` look themselves" in told


def test_a_full_disk_leaves_no_half_page(bassline: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    said = bassline("shards", "sheet", folder, "--out", "page.html", check=1)
    assert said.stderr.startswith("error page.html: No space left on device; make room")
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


def test_a_name_that_the_terminal_cannot_show_is_escaped(
    bassline: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = folder.rename(folder.with_name(os.fsdecode(b"s\xff")))
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="utf-8", errors="strict", write_through=True))
    bassline("shards", "info", named.name)
    assert shown.getvalue().startswith(rb"s\udcff")
