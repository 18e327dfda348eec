"""A contact sheet: what is in the set, at a glance. Which pictures stand on it, and as one PNG."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from shards.files import write_atomic
from shards.oddness import oddness
from shards.read import permutation
from shards.shard_set import ShardSet

__all__ = ["By", "Order", "Picture", "Section", "sections", "sheet", "small"]

By = Literal["label", "group", "split"]
Order = Literal["random", "largest", "smallest", "oddest"]

_GAP = 4
_TITLE = 18


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a sheet: its set, that set's name in its split ("" alone), its number, and why it is here."""

    source: ShardSet
    part: str
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, how many samples it stands for, and some of their pictures."""

    title: str
    samples: int
    pictures: tuple[Picture, ...]


def sections(
    parts: Mapping[str, ShardSet],
    *,
    by: By = "label",
    order: Order = "random",
    each: int = 24,
    most: int = 60,
    seed: int = 0,
) -> list[Section]:
    """Which pictures stand on a sheet, under which headings.

    Args:
        parts: the sets, by the name of their part of a split; one set alone under "".
        by: a section for each label, each part, or each group of several near-duplicates, the large ones first.
        order: which samples of a section: at random, or the largest and smallest by pixels, or the oddest (`oddness`).
        each: pictures a section.
        most: sections; those left out are counted in a last one without pictures.
        seed: decides which stand for a section at random.
    """
    at = [(part, source, i) for part, source in parts.items() for i in range(len(source))]
    if not at:
        return [Section(name, 0, ()) for name in _names(parts)] if by == "label" else []
    score, reasons = _scores(parts, order, seed)
    ranks = np.argsort(-score, kind="stable")
    titles = _sections_of(parts, by)
    members: dict[str, list[int]] = {name: [] for name in _names(parts)} if by == "label" else {}
    for place in ranks.tolist():
        if titles[place] or by != "group":
            members.setdefault(titles[place], []).append(place)
    if by == "group":
        members = dict(sorted(members.items(), key=lambda item: -len(item[1])))
        members = {_group_title(name, [at[place] for place in found]): found for name, found in members.items()}
    elif by == "split":
        members = {name: members.get(name, []) for name in parts}
    made = []
    for title, found in list(members.items())[:most]:
        pictures = tuple(Picture(at[p][1], at[p][0], at[p][2], reasons[p]) for p in found[:each])
        made.append(Section(title or "all", len(found), pictures))
    if len(members) > most:
        left = sum(len(found) for found in list(members.values())[most:])
        made.append(Section(f"and {len(members) - most:,} more", left, ()))
    return made


def _names(parts: Mapping[str, ShardSet]) -> list[str]:
    return list(dict.fromkeys(label for source in parts.values() for label in source.labels))


def _sections_of(parts: Mapping[str, ShardSet], by: By) -> list[str]:
    """The section of every sample, parts one after the other; "" of those that are in none."""
    found: list[str] = []
    for part, source in parts.items():
        if by == "label":
            found += [source.labels[label] for label in source.label_ids.tolist()]
        elif by == "split":
            found += [part] * len(source)
        else:
            numbers, inverse, counts = np.unique(source.groups, return_inverse=True, return_counts=True)
            named = [f"{part} group {number}".strip() for number in numbers.tolist()]
            found += [named[n] if counts[n] > 1 else "" for n in inverse.tolist()]
    return found


def _group_title(name: str, members: Sequence[tuple[str, ShardSet, int]]) -> str:
    counts = Counter(source.labels[int(source.label_ids[i])] for _, source, i in members)
    return f"{name}: {', '.join(f'{label} {count}' for label, count in counts.most_common())}"


def _scores(parts: Mapping[str, ShardSet], order: Order, seed: int) -> tuple[NDArray[np.float64], list[str]]:
    """What samples are ranked by, the highest first, and what is said of each."""
    total = sum(map(len, parts.values()))
    if order == "random":
        ranks = np.empty(total)
        ranks[permutation(total, seed, 0)] = -np.arange(total)
        return ranks, [""] * total
    if order == "oddest":
        found = [oddness(source) for source in parts.values()]
        return np.concatenate([odd.scores for odd in found]), [reason for odd in found for reason in odd.reasons]
    pixels = np.concatenate([(source.widths * source.heights).astype(np.float64) for source in parts.values()])
    sizes = np.concatenate([source.sizes for source in parts.values()])
    value = pixels + sizes / (sizes.max(initial=0) + 1.0)  # bytes decide between pictures of one size
    shapes = [
        f"{width}x{height}, {size:,} bytes"
        for source in parts.values()
        for width, height, size in zip(
            source.widths.tolist(), source.heights.tolist(), source.sizes.tolist(), strict=True
        )
    ]
    return (value if order == "largest" else -value), shapes


def sheet(
    source: ShardSet | Sequence[Section],
    out: Path,
    *,
    per_label: int = 24,
    columns: int = 12,
    cell: int = 96,
    seed: int = 0,
) -> Path:
    """Draws a PNG: each section's heading and count, and its pictures below.

    Args:
        source: sections; or an opened set, for `per_label` random samples of every label.
        out: the PNG to write.
        per_label, seed: as of `sections`, for a set.
        columns: pictures a row.
        cell: pixels a picture; images keep their shape, and a cross stands for one that cannot be decoded.
    """
    chosen = sections({"": source}, each=per_label, seed=seed) if isinstance(source, ShardSet) else source
    step = cell + _GAP
    heights = [_TITLE + step * -(-max(1, len(section.pictures)) // columns) for section in chosen]
    page = Image.new("RGB", (columns * step + _GAP, sum(heights) + _GAP), "#d8d8d8")
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(13)
    top = 0
    for section, height in zip(chosen, heights, strict=True):
        pen.text((_GAP, top + 2), f"{section.title}  {section.samples:,}", fill="black", font=font)
        for place, picture in enumerate(section.pictures):
            row, column = divmod(place, columns)
            _paste(page, picture, _GAP + column * step, top + _TITLE + row * step, cell)
        top += height
    png = io.BytesIO()
    page.save(png, "PNG")
    write_atomic(out, [png.getbuffer()])
    return out


def small(data: bytes | memoryview, cell: int) -> Image.Image | None:
    """The picture within `cell` by `cell` pixels, RGBA; None if it cannot be decoded."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore")
            image.draft("RGB", (2 * cell, 2 * cell))
            made = image.convert("RGBA")
            made.thumbnail((cell, cell))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return made


def _paste(page: Image.Image, picture: Picture, x: int, y: int, cell: int) -> None:
    page.paste("white", (x, y, x + cell, y + cell))
    made = small(picture.source.image(picture.number), cell)
    if made is None:
        pen = ImageDraw.Draw(page)
        pen.line((x, y, x + cell, y + cell), fill="red", width=2)
        pen.line((x, y + cell, x + cell, y), fill="red", width=2)
        return
    page.paste(made, (x + (cell - made.width) // 2, y + (cell - made.height) // 2), made)
