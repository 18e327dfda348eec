from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shards.examine import Evidence, examine, read_tar
from shards.files import map_file
from shards.index import dali_index
from shards.sample import Sample
from shards.shard_set import ShardSet
from shards.untouched import Untouched, untouched
from shards.writer import write_set

Make = Callable[..., Sample]
Draw = Callable[..., bytes]


def evidence_of(made: ShardSet) -> Evidence:
    return Evidence(made.labels, made.index, np.arange(len(made)), decode=False)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, make: Make, draw: Draw) -> ShardSet:
    """One tar: three types, labels of one and two digits, samples without JSON."""
    samples = [make(seed, seed) for seed in range(12)]
    samples += [Sample("png", draw(20, "PNG"), "png", 3, {"seed": 1}), Sample("webp_", draw(21, "WEBP"), "webp", 11)]
    samples += [Sample("k" * 90, draw(22), "jpg", 10), Sample("last", draw(23), "jpg", 0)]
    folder = tmp_path_factory.mktemp("untouched") / "set"
    return write_set(folder, samples, [f"label {n}" for n in range(12)], source={"kind": "test"})


def slowly(data: memoryview, path: Path, evidence: Evidence) -> tuple[list[object], Untouched | None]:
    """What `examine` says: findings, and what `untouched` should say where there are none."""
    contents = read_tar(data, path, evidence)
    found: list[object] = list(examine(contents, data, path.name, evidence))
    if found or contents.gaps:
        return found, None
    return found, Untouched([(one.key, one.offset) for one in contents.samples], dali_index(contents.members))


def test_it_says_what_examine_says(one: ShardSet, small: ShardSet, real: ShardSet) -> None:
    path = one.folder / "shard-000000.tar"
    seen: list[int] = []
    quick = untouched(map_file(path), path, evidence_of(one), seen.append)
    assert quick is not None
    assert seen == [16]
    assert ([], quick) == slowly(map_file(path), path, evidence_of(one))
    assert quick.dali_index == path.with_suffix(".idx").read_bytes()
    for made in (small, real):
        for number, info in enumerate(made.manifest.shards):
            rows = np.flatnonzero(made.index.rows["shard"] == number)
            path = made.folder / info.name
            quick = untouched(map_file(path), path, replace(evidence_of(made), rows=rows))
            assert quick is not None
            assert quick.dali_index == path.with_suffix(".idx").read_bytes()


def test_no_changed_byte_is_passed_over_that_examine_would_see(one: ShardSet) -> None:
    """Every byte of every header and label, and the images' first; the digest is believed to be right all the while."""
    path = one.folder / "shard-000000.tar"
    evidence = evidence_of(one)
    whole = bytearray(path.read_bytes())
    members = [member for number in range(len(one)) for member in one._members(number)[1].members.values()]
    places = sorted({at for member in members for at in (*range(member.header, member.header + 160), member.offset)})
    refused = 0
    for at in [*places, len(whole) - 1, members[-1].end]:
        flip = (1, 0x40)[at % 2]
        whole[at] ^= flip
        if (quick := untouched(memoryview(whole), path, evidence)) is None:
            refused += 1
        else:
            assert slowly(memoryview(whole), path, evidence) == ([], quick), at
        whole[at] ^= flip
    assert refused > 0.97 * len(places)  # nearly every byte of a header is in its checksum


def test_what_else_it_leaves_to_examine(one: ShardSet) -> None:
    path = one.folder / "shard-000000.tar"
    data, evidence, index = map_file(path), evidence_of(one), one.index
    assert untouched(data[:-10240], path, evidence) is None
    assert untouched(memoryview(b""), path, evidence) is None
    for wrong in (
        replace(evidence, decode=True),
        replace(evidence, rows=None),
        replace(evidence, labels=None),
        replace(evidence, labels=one.labels[:11]),
        replace(evidence, rows=np.arange(len(one) - 1)),
        replace(evidence, rows=np.arange(1, len(one))),
        replace(evidence, rows=np.arange(len(one))[::-1]),
    ):
        assert untouched(data, path, wrong) is None
    for name in ("offset", "image", "size", "json", "json_size", "label", "ext"):
        rows = index.rows.copy()
        rows[name][5] += 1
        assert untouched(data, path, replace(evidence, index=replace(index, rows=rows))) is None, name
    rows = index.rows.copy()
    rows["told"][5] = 0
    assert untouched(data, path, replace(evidence, index=replace(index, rows=rows))) is None
    keys = index.keys.copy()
    keys[5] = keys[6]
    assert untouched(data, path, replace(evidence, index=replace(index, keys=keys))) is None
