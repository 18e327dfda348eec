"""What a set shows of itself: numbers, sheets, and who does not look like the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.describe import describe, exact_duplicates
from shards.oddness import oddness
from shards.quarantine import Quarantined, add_to_quarantine
from shards.sample import Sample
from shards.shard_set import ShardSet
from shards.sheet import sections, sheet
from shards.split import split
from shards.writer import write_set

Draw = Callable[..., bytes]
Make = Callable[..., Sample]


@pytest.fixture
def mixed(tmp_path: Path, draw: Draw, make: Make) -> ShardSet:
    """Twenty pictures of one shape, and of the second label: a wide one, a dark one, a large one, one cut short."""
    samples = [make(seed, seed % 2, group=seed // 2 * 2) for seed in range(20)]
    samples[3] = replace(samples[3], meta=samples[3].meta | {"group": 3})
    samples += [
        Sample("wide", draw(30, size=(90, 20)), "jpg", 1, {"group": 90}),
        Sample("large", draw(31, size=(200, 160)), "jpg", 1, {"group": 91}),
        Sample("cut", draw(32, size=(80, 64))[:700], "jpg", 1, {"group": 92}),
        Sample("again", samples[4].image, "jpg", 0, {"group": 4}),
    ]
    return write_set(tmp_path / "mixed", samples, ["a", "b"], source={"kind": "test"}, shard_samples=9)


def test_what_a_set_holds(mixed: ShardSet) -> None:
    told = describe(mixed)
    assert (told["samples"], told["labels"]) == (24, {"a": 11, "b": 13})
    assert told["exact_duplicates"] == 1
    assert exact_duplicates(mixed) == [[4, mixed.find("again")]]
    assert told["groups_with_several_labels"] == 9
    assert told["longer_side"] == {"least": 40, "p05": 40, "median": 40, "p95": 88, "most": 200}
    assert sum(item["samples"] for item in told["longer_side_histogram"]) == 24
    assert told["dimensions"]["40x32"] == 21
    assert told["distinct_dimensions"] == 4
    add_to_quarantine(mixed.folder, [Quarantined("wide", "", "")])
    with ShardSet.open(mixed.folder) as opened:
        assert describe(opened)["quarantined"] == 1
        assert describe(opened)["labels"] == {"a": 11, "b": 12}


def test_an_empty_set_has_nothing_to_show(tmp_path: Path) -> None:
    with write_set(tmp_path / "set", [], ["a"], source={}) as opened:
        told = describe(opened)
        assert (told["samples"], told["image_bytes"], told["longer_side_histogram"]) == (0, None, [])
        assert [(section.title, section.samples) for section in sections({"": opened})] == [("a", 0)]
        assert oddness(opened).reasons == []
        sheet(opened, tmp_path / "empty.png")


def test_the_oddest_come_with_their_reason(mixed: ShardSet) -> None:
    found = oddness(mixed)
    reasons = {mixed.key(i): found.reasons[i] for i in range(len(mixed))}
    assert reasons["cut"].startswith("cannot be decoded")
    assert reasons["wide"].startswith("aspect 4.50, usual 1.25")
    assert reasons["large"].startswith("longer side 200, usual 40")
    assert reasons[mixed.key(1)] == f"a near-duplicate is a: {mixed.key(0)}"
    assert reasons[mixed.key(0)] == ""
    b = next(section for section in sections({"": mixed}, order="oddest") if section.title == "b")
    assert mixed.key(b.pictures[0].number) == "cut"
    assert {mixed.key(picture.number) for picture in b.pictures[1:10]} >= {mixed.key(n) for n in range(5, 21, 2)}
    without = oddness(mixed, look=False)
    assert without.reasons[mixed.find("cut") or 0] != reasons["cut"]


def test_sections_by_label_group_and_part(mixed: ShardSet, tmp_path: Path) -> None:
    by_group = sections({"": mixed}, by="group")
    assert by_group[0].title == "group 4: a 2, b 1"
    assert [section.samples for section in by_group] == [3, *[2] * 8]
    assert [(section.title, section.samples) for section in sections({"": mixed}, by="group", most=2)[-1:]] == [
        ("and 7 more", 14)
    ]
    largest = sections({"": mixed}, order="largest", each=2)
    assert [mixed.key(picture.number) for picture in largest[1].pictures] == ["large", "cut"]
    assert largest[1].pictures[0].reason.startswith("200x160, ")
    smallest = sections({"": mixed}, order="smallest", each=1)
    assert smallest[1].pictures[0].reason.startswith("40x32, ")
    made = split(mixed.folder, tmp_path / "parts", fractions=(0.5, 0.25, 0.25), seed=0)
    by_part = sections(made.parts, by="split")
    assert [(section.title, section.samples) for section in by_part] == [("train", 12), ("val", 6), ("test", 6)]
    by_label = sections(made.parts, by="label", each=100)
    assert [(section.title, section.samples) for section in by_label] == [("a", 11), ("b", 13)]
    assert {picture.part for picture in by_label[0].pictures} == {"train", "val", "test"}


def test_sheet(small: ShardSet, tmp_path: Path) -> None:
    path = sheet(small, tmp_path / "sheet.png", per_label=3, columns=4, cell=32)
    with Image.open(path) as page:
        assert page.size == (4 * 36 + 4, 2 * (18 + 36) + 4)
        assert len(page.getcolors(100_000)) > 20
    again = sheet(small, tmp_path / "again.png", per_label=3, columns=4, cell=32)
    assert again.read_bytes() == path.read_bytes()
    other = sheet(small, tmp_path / "other.png", per_label=3, columns=4, cell=32, seed=1)
    assert other.read_bytes() != path.read_bytes()


@pytest.mark.filterwarnings("error")
def test_sheet_of_bad_images_and_empty_labels(tmp_path: Path) -> None:
    with (
        write_set(tmp_path / "set", [Sample("k", b"no image", "jpg", 0)], ["a", "b"], source={}) as made,
        Image.open(sheet(made, tmp_path / "sheet.png")) as page,
    ):
        assert (255, 0, 0) in {color for _, color in page.getcolors(100_000)}
        assert np.asarray(page).shape[2] == 3
