"""A sheet of what a run file's augmentation does: every kind alone, and all of it together, on real training images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from shards.files import write_atomic
from shards.read import gather, permutation
from shards.shard_set import ShardSet
from trainer.augment import augment, mirrored_in, mix
from trainer.config import Augment, Data, RunConfig
from trainer.decode import open_decoder
from trainer.errors import NothingDecoded
from trainer.split_data import open_split

__all__ = ["columns_of", "draw"]

_GAP, _TITLE, _SAMPLES = 4, 18, 8
_LEAST_CELL = 88  # pixels: the longest title has room
_TOGETHER = 3  # draws of everything at once: one does not show how much it varies


def columns_of(how: Augment) -> list[tuple[str, Augment]]:
    """The sheet's columns: nothing, each kind that is on by itself, and everything several times."""
    off, asked = Augment(), [(key, value) for key, value in how if value]
    found = [("original", off)]
    for key, value in asked:
        shown = "" if value is True else f" {value:g}"
        found.append((f"{key.replace('_', ' ').replace('alternating', 'alt.')}{shown}", Augment(**{key: value})))
    return found + [("all together", how)] * (_TOGETHER if asked else 0)


def draw(config: RunConfig, data: Path, out: Path) -> list[str]:
    """Writes the sheet as a PNG: a row a sample, up to eight of as many labels as there are; gives the columns' titles.

    Drawn from the run's seed, so the same call gives the same sheet.

    Raises:
        NothingDecoded: none of the chosen images can be decoded.
        SplitIncomplete and others: as `trainer.fit.fit`.
    """
    with closing(open_split(data)) as split:
        images, samples, labels = _some(split.train, config.data, config.train.seed)
    columns = columns_of(config.augment)
    torch.manual_seed(config.train.seed)
    targets = torch.zeros((len(images), 1))
    blank = images.float().mean((0, 1, 2))
    sheets: list[torch.Tensor] = []
    for number, (_, how) in enumerate(columns):
        # alternating flip mirrors every image in one of two epochs in a row: odd columns show one, even ones the other
        mirrored = torch.from_numpy(mirrored_in(number, samples, config.train.seed))
        varied = augment(images, how, mirrored=mirrored, blank=blank)
        if how.mixup:
            varied, _ = mix(varied, targets, how.mixup)
        sheets.append(varied.round().clamp(0, 255).to(torch.uint8))
    page = _page([title for title, _ in columns], labels, [sheet.numpy() for sheet in sheets])
    memory = io.BytesIO()
    page.save(memory, "PNG")
    write_atomic(out, [memory.getbuffer()])
    return [title for title, _ in columns]


def _some(source: ShardSet, data: Data, seed: int) -> tuple[torch.Tensor, NDArray[np.int64], list[str]]:
    """Samples of different labels in turns: uint8 (N, S, S, 3), their numbers, their labels' names."""
    order = permutation(len(source), seed, 0)
    rank = np.zeros(len(order), np.int64)  # how many of its label came before
    seen: dict[int, int] = {}
    for place, label in enumerate(source.label_ids[order].tolist()):
        rank[place] = seen[label] = seen.get(label, -1) + 1
    chosen = order[np.argsort(rank, kind="stable")][: 4 * _SAMPLES]  # some may be damaged
    images = torch.empty((len(chosen), data.size, data.size, 3), dtype=torch.uint8)
    decoder = open_decoder("simplejpeg", data.size, data.fit, data.threads, "cpu")
    with closing(decoder):
        bad = set(decoder.decode(gather(source, chosen), images))
    good = [place for place in range(len(chosen)) if place not in bad][:_SAMPLES]
    if not good:
        raise NothingDecoded(source.folder, str(source.where(int(chosen[0]))))
    numbers = chosen[good]
    return images[good], numbers, [source.labels[label] for label in source.label_ids[numbers]]


def _page(titles: Sequence[str], labels: Sequence[str], sheets: Sequence[NDArray[np.uint8]]) -> Image.Image:
    size = sheets[0].shape[1]
    times = max(1, -(-_LEAST_CELL // size))  # whole pixels: nothing is blurred that the net sees sharp
    cell = size * times
    font = ImageFont.load_default(12)
    margin = max(int(font.getlength(label)) for label in labels) + 2 * _GAP
    width, height = margin + len(titles) * (cell + _GAP) + _GAP, _TITLE + len(labels) * (cell + _GAP) + _GAP
    page = Image.new("RGB", (width, height), "#d8d8d8")  # thumbnails are white to their edges
    pen = ImageDraw.Draw(page)
    for column, (title, sheet) in enumerate(zip(titles, sheets, strict=True)):
        x = margin + column * (cell + _GAP)
        pen.text((x, 2), title, fill="black", font=font)
        for row, label in enumerate(labels):
            y = _TITLE + row * (cell + _GAP)
            if not column:
                pen.text((_GAP, y + cell // 2 - 7), label, fill="black", font=font)
            page.paste(Image.fromarray(sheet[row]).resize((cell, cell), Image.Resampling.NEAREST), (x, y))
    return page
