"""Curating as a person does it: look for doubted labels, tick them in a browser, drop what was ticked, compare."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bassline.set_suspects import write_suspects
from shards.sample import Sample
from shards.shard_set import ShardSet
from shards.suspects import Suspect, Suspects
from shards.writer import write_set

from .browser import CHROMIUM, open_page
from .conftest import Run


@pytest.fixture
def photos(thumbnails: dict[str, list[Path]], tmp_path: Path) -> Iterator[ShardSet]:
    """Twenty-four real thumbnails of three labels, with a title and an address each."""
    samples = [
        Sample(
            f"{label}-{file.stem}",
            file.read_bytes(),
            "png" if file.read_bytes()[:4] == b"\x89PNG" else "jpg",
            number,
            {"title": f"{label} {file.stem} <b>&", "product_url": f"https://shop.test/{label}/{file.stem}"},
        )
        for number, (label, files) in enumerate(list(thumbnails.items())[:3])
        for file in files
    ]
    with write_set(tmp_path / "set", samples, list(thumbnails)[:3], source={"kind": "test"}) as made:
        yield made


def test_drop_diff_and_merge_on_the_command_line(bassline: Run, photos: ShardSet, tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text(f"{photos.key(0)}\tlooks wrong\n")
    label = photos.labels[1]
    dropped = bassline(
        "shards",
        "drop",
        "set",
        "--out",
        "new",
        "--keys",
        keys,
        "--where",
        f"label={label}",
        "--reason",
        "a test",
        "--json",
    )
    told = json.loads(dropped.stdout.splitlines()[-1])
    assert (told["samples"], told["dropped"]) == (15, 9)
    shown = bassline("shards", "drop", "set", "--out", "shown", "--where", f"label = {label}", "--reason", "a test")
    assert "label = " in shown.stdout
    assert "has no samples left" in shown.stderr

    assert bassline("shards", "diff", "set", "set", "--exit-code").stdout == "the same 24 samples\n"
    found = bassline("shards", "diff", "set", "new", "--exit-code", "--limit", "3", check=1)
    assert "removed 9" in found.stdout
    assert "and 6 more" in found.stdout
    bassline("shards", "diff", "set", "new")
    assert json.loads(bassline("shards", "diff", "set", "new", "--json").stdout)["counts"]["removed"] == 9

    (tmp_path / "map.toml").write_text(f'[labels]\n{label} = "thing"\n[sets.new]\n{photos.labels[2]} = "thing"\n')
    maps = ("--map-file", "map.toml", "--map", f"{photos.labels[2]}=thing")
    told = json.loads(bassline("shards", "merge", "set", "new", "--out", "both", *maps, "--json").stdout)
    assert told["labels"] == {photos.labels[0]: 8, "thing": 16}
    assert told["same_bytes"] == 15
    assert "samples were there already" in bassline("shards", "merge", "set", "new", "--out", "again").stdout
    bassline("shards", "shuffle", "set", "--out", "mixed", "--seed", "4")
    assert not json.loads(bassline("shards", "diff", "set", "mixed", "--json").stdout)["different"]
    bassline("shards", "split", "set", "--out", "cv", "--folds", "3")
    assert (tmp_path / "cv" / "fold-2" / "test" / "dataset.json").is_file()
    told = json.loads(
        bassline("shards", "split", "set", "--out", "two", "--parts", "a,b", "--counts", "20,4", "--json").stdout
    )
    assert {name: part["samples"] for name, part in told["parts"].items()} == {"a": 20, "b": 4}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["drop", "set", "--out", "new", "--reason", "x"], "give --keys, --where or --near-duplicates"),
        (["drop", "set", "--out", "new", "--reason", "x", "--where", "widht<3"], "did you mean 'width'"),
        (["merge", "set", "--out", "new", "--map", "bass"], "expected OLD=NEW"),
        (["merge", "set", "--out", "new", "--map-file", "none.toml"], "none.toml: no such file"),
        (["split", "set", "--out", "new", "--parts", "a,b", "--counts", "1,2,3"], "expected 2 numbers for a, b"),
    ],
)
def test_wrong_usage_ends_with_2(bassline: Run, photos: ShardSet, arguments: list[str], said: str) -> None:
    done = bassline("shards", *arguments, check=2)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_suspects_on_the_command_line(bassline: Run, photos: ShardSet, tmp_path: Path) -> None:
    told = json.loads(bassline("shards", "suspects", "set", "--out", "s.html", "--folds", "3", "--json").stdout)
    assert told["samples"] <= 24
    page = (tmp_path / "s.html").read_text()
    assert page.count('class="card"') == len(told["suspects"])
    assert "<b>&" not in page.partition("</style>")[2].replace("<b>&amp;", "")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
async def test_a_person_ticks_and_saves_and_drop_takes_the_list(
    bassline: Run, photos: ShardSet, tmp_path: Path
) -> None:
    """In a real browser: arrows, x, a click and s; the ticks outlive a reload; the saved file is what drop takes."""
    a, b, _ = photos.labels
    found = tuple(
        Suspect(i, photos.key(i), photos.labels[photos.label_ids[i]], b if i < 8 else a, 0.1, 0.8, rank)
        for rank, i in enumerate((0, 1, 2, 9, 10), 1)
    )
    joint = np.zeros((3, 3), np.int64)
    page_file = tmp_path / "suspects.html"
    write_suspects(page_file, photos, Suspects(found, joint, np.zeros(3), 0.9, 0.4, 5, (), photos.labels), "set", 300)
    saved = tmp_path / "drop-keys.txt"
    async with open_page(tmp_path) as page:
        await page.go(page_file)
        assert await page.value("document.querySelector('.card img').naturalWidth") > 50
        assert await page.value("document.querySelector('.facts').textContent.includes('<b>&')")
        assert await page.value("document.getElementById('save').disabled")
        await page.press("x")
        await page.press("ArrowRight")
        await page.press("ArrowRight")
        await page.press(" ")
        await page.press("ArrowLeft")
        await page.press("x")
        await page.press("x")  # and unticked again
        await page.value("document.querySelectorAll('.card img')[4].click()")
        assert await page.value("document.getElementById('count').textContent") == "3 ticked"
        await page.value(
            "const p = document.getElementById('pair'); p.value = '1'; p.dispatchEvent(new Event('change'))"
        )
        assert (
            await page.value("[...document.querySelectorAll('.card')].map(c => c.hidden)") == [True] * 3 + [False] * 2
        )
        await page.go(tmp_path / "suspects.html")
        await page.value("location.reload()")
        await page.go(tmp_path / "suspects.html")
        assert await page.value("document.getElementById('count').textContent") == "3 ticked"
        await page.press("s")
        async with asyncio.timeout(60):
            while not saved.exists():  # noqa: ASYNC110  # the browser writes it, and tells nobody here
                await asyncio.sleep(0.05)
        assert page.problems == []
    assert photos.digest in saved.read_text().splitlines()[0]
    bassline("shards", "drop", "set", "--out", "clean", "--keys", saved, "--reason", "wrong label")
    lines = [json.loads(line) for line in (tmp_path / "clean" / "drops.jsonl").read_text().splitlines()]
    assert [(line["key"], line["detail"]) for line in lines] == [
        (photos.key(i), f"ticked: {photos.labels[photos.label_ids[i]]}, looks like {b if i < 8 else a} 80%")
        for i in (0, 2, 10)
    ]
