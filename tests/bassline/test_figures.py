"""The figures of README are those of the records."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.record import read_record
from bench.stats import ratio

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "README.md").read_text().splitlines()
    if line.startswith("|") and "`2026-" in line
]
# README's words -> (ours, theirs, whether it is a time)
WHAT = {
    "a bare aiohttp client that keeps nothing": ("bassline", "bare", False),
    "img2dataset, not re-encoding": ("bassline", "img2dataset-as-is", False),
    "Scrapy with an images pipeline": ("bassline", "scrapy", False),
    "simplejpeg alone, all bytes in memory: the ceiling": ("stream-simplejpeg", "decode", False),
    "FFCV's jpg mode, which writes the set anew": ("stream-simplejpeg", "ffcv", False),
    "DALI's own webdataset pipeline": ("stream-simplejpeg", "dali", False),
    "LitData, decoding by simplejpeg too": ("stream-simplejpeg", "litdata-simplejpeg", False),
    "webdataset, decoding by simplejpeg too": ("stream-simplejpeg", "webdataset-simplejpeg", False),
    "ImageFolder and DataLoader, uint8 too": ("stream-simplejpeg", "imagefolder", False),
    "a plain indexed tensor": ("resident", "tensor", False),
    "a plain PyTorch loop of the same recipe": ("epochs ours", "epochs plain", False),
    "": ("to common loss ours", "to common loss plain", True),
}


def test_every_row_is_known() -> None:
    assert [row[1] for row in ROWS] == list(WHAT)


@pytest.mark.parametrize("row", ROWS, ids=[row[1] or row[0] for row in ROWS])
def test_a_figure_is_its_records(row: list[str]) -> None:
    found = read_record(ROOT / "bench" / "records" / f"{row[3].strip('`')}.json").measurements
    ours, theirs, is_time = WHAT[row[1]]
    pair = [found[name]["values"] for name in (ours, theirs)]
    assert len(pair[0]) == len(pair[1]) >= 5
    times = ratio(*(reversed(pair) if is_time else pair))
    assert row[2] == f"{times.median:.2f} ({times.low:.2f} to {times.high:.2f})"
