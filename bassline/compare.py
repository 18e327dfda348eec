"""`bassline report --compare A B`: is one run better than the other, and on which images they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bassline import console
from bassline.run_folder import Run, read_run, told_apart
from shards.errors import ConfigError
from shards.files import write_atomic
from trainer.compare import Comparison, compare
from trainer.errors import NotComparable

__all__ = ["compare_runs"]

SHOWN = 60
"""Images the page shows at most, of each side."""


def compare_runs(first: Path, second: Path, data: Path | None, out: Path | None, *, json: bool) -> None:
    """Prints McNemar's test of two run folders and writes a page of the images where they differ.

    Raises:
        RunUnreadable: a folder is no finished run.
        NotComparable: they were not tested on the same images.
        ConfigError: they are one folder, or there is no folder for the page.
    """
    one, other = read_run(first), read_run(second)
    names = _names(one, other)
    _refuse(one, other)
    right = [np.array([each["predicted"] == each["label"] for each in run.answers], bool) for run in (one, other)]
    found = compare(*right)
    sides = [np.flatnonzero(right[0] & ~right[1]).tolist(), np.flatnonzero(right[1] & ~right[0]).tolist()]
    page = out or first / f"compare-{second.resolve().name}.html"
    if not page.parent.is_dir():
        raise ConfigError("--out", "", f"{page.parent} is not a folder; create it first")
    write_atomic(page, [_page(one, other, names, found, sides, data).encode()])
    if json:
        keys = [[str(one.answers[index]["key"]) for index in side] for side in sides]
        told = {"runs": list(names), **found.to_json(), "only_first_right": keys[0], "only_second_right": keys[1]}
        console.emit({**told, "data_digest": one.result["data_digest"], "page": str(page)})
        return
    made = console.table(f"{names[0]} and {names[1]} on the same {found.samples:,} images", "", "right", "wrong")
    made.columns[1].header, made.columns[2].header = f"{names[1]} right", f"{names[1]} wrong"
    made.add_row(f"{names[0]} right", f"{found.both:,}", f"[bold]{found.first:,}[/]")
    made.add_row(f"{names[0]} wrong", f"[bold]{found.second:,}[/]", f"{found.neither:,}")
    console.out.print(made)
    for line in _said(names, found):
        console.out.print(line, soft_wrap=True)
    console.out.print(f"\npage: {page}", soft_wrap=True)


def _names(one: Run, other: Run) -> tuple[str, str]:
    """The runs' names; the ends of their folders' where those are the same."""
    if one.folder.resolve() == other.folder.resolve():
        raise ConfigError("--compare", "", f"{one.folder} and {other.folder} are one run; give two")
    first, second = told_apart([one, other])
    return first.beside or first.name, second.beside or second.name


def _refuse(one: Run, other: Run) -> None:
    first, second = str(one.folder), str(other.folder)
    digests = one.result["data_digest"], other.result["data_digest"]
    if digests[0] != digests[1]:
        raise NotComparable(first, second, f"they were tested on different data ({digests[0]} and {digests[1]})")
    keys = [[(each["key"], each["label"]) for each in run.answers] for run in (one, other)]
    if keys[0] != keys[1]:
        raise NotComparable(
            first, second, "their test.jsonl name different images, though the data set is the same (bad images?)"
        )


def _said(names: tuple[str, str], found: Comparison) -> list[str]:
    low, high = found.ci95
    better = "no difference is shown"
    if found.p_value < 0.05:
        better = f"{names[0] if found.difference > 0 else names[1]} is better"
    chance = "less than 0.0001" if found.p_value < 0.0001 else f"{found.p_value:.4f}"
    return [
        f"difference in accuracy: {100 * found.difference:+.2f} points, 95 % interval {100 * low:+.2f} to "
        f"{100 * high:+.2f} (Newcombe 1998, paired)",
        f"McNemar's test ({found.method}) on {found.first + found.second:,} images where one is right and the other "
        f"wrong: p {'=' if found.p_value >= 0.0001 else 'is'} {chance}; at the 5 % level {better}",
    ]


def _page(
    one: Run, other: Run, names: tuple[str, str], found: Comparison, sides: list[list[int]], data: Path | None
) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bassline"), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    shown = [index for side in sides for index in side[:SHOWN]]
    pictures = _pictures([str(one.answers[index]["key"]) for index in shown], data)
    parts = []
    for name, rival, side in ((names[0], names[1], sides[0]), (names[1], names[0], sides[1])):
        cards = []
        for index in side[:SHOWN]:
            answers = one.answers[index], other.answers[index]
            said = [
                f"{who}: {each['predicted']} {100 * float(each['probability']):.1f} %"
                for who, each in zip(names, answers, strict=True)
            ]
            key = str(answers[0]["key"])
            cards.append({"key": key, "truth": answers[0]["label"], "said": said, "uri": pictures.get(key, "")})
        parts.append({"title": f"{name} right, {rival} wrong", "count": len(side), "cards": cards})
    return environment.get_template("compare.html.j2").render(
        title=f"{names[0]} and {names[1]}", names=names, found=found, said=_said(names, found), parts=parts
    )


def _pictures(keys: list[str], data: Path | None) -> dict[str, str]:
    """Data addresses of the test images that are there, by key."""
    if data is None:
        return {}
    from bassline.report import data_uri
    from shards.shard_set import ShardSet

    with ShardSet.open(data / "test") as test:
        index_of: dict[str, Any] = {test.key(index): index for index in range(len(test))}
        return {key: data_uri(test, index_of[key]) for key in keys if key in index_of}
