from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shards.index import INDEX_NAME
from shards.sample import Sample
from shards.shard_set import MANIFEST_NAME, ShardSet, finish
from shards.verify import Finding, VerifyProgress, verify
from shards.writer import ShardWriter

Make = Callable[..., Sample]


def change(path: Path, at: int, new: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[at : at + len(new)] = new
    path.write_bytes(data)


def kinds(findings: list[Finding]) -> set[str]:
    return {finding.kind for finding in findings}


def test_a_good_set_has_no_findings(small: ShardSet, real: ShardSet) -> None:
    seen: list[VerifyProgress] = []
    assert verify(small.folder) == []
    assert verify(real.folder, on_progress=seen.append) == []
    assert verify(real.folder, decode=False) == []


def test_a_flipped_image_byte_is_found_by_crc_and_digest(small: ShardSet) -> None:
    row = small.index.rows[5]
    middle = int(row["image"]) + int(row["size"]) // 2
    path = small.folder / "shard-000001.tar"
    change(path, middle, bytes([path.read_bytes()[middle] ^ 1]))
    findings = [finding for finding in verify(small.folder) if finding.kind != "image"]
    assert [(f.kind, f.file, f.offset, f.key) for f in findings] == [
        ("crc", "shard-000001.tar", int(row["offset"]), small.key(5)),
        ("digest", "shard-000001.tar", None, None),
    ]
    assert f"shard-000001.tar@{row['offset']} {small.key(5)}" in str(findings[0])


def test_a_flipped_header_and_a_truncated_tar(small: ShardSet) -> None:
    second = small.where(1).offset
    change(small.folder / "shard-000000.tar", second + 20, b"?")
    path = small.folder / "shard-000002.tar"
    path.write_bytes(path.read_bytes()[:3000])
    found = {(finding.kind, finding.file): finding for finding in verify(small.folder)}
    assert found["damaged", "shard-000000.tar"].offset == second
    assert "checksum" in found["damaged", "shard-000000.tar"].problem
    assert found["truncated", "shard-000002.tar"].offset is not None
    assert {("digest", "shard-000000.tar"), ("digest", "shard-000002.tar")} <= found.keys()


def test_missing_and_foreign_tars(small: ShardSet) -> None:
    (small.folder / "shard-000001.tar").rename(small.folder / "shard-000007.tar")
    found = {(finding.kind, finding.file) for finding in verify(small.folder)}
    assert {("missing", "shard-000001.tar"), ("manifest", "shard-000007.tar")} <= found


def test_stale_indexes(small: ShardSet) -> None:
    change(small.folder / INDEX_NAME, 300, b"??")
    (small.folder / "shard-000000.idx").write_text("v1.2 0\n")
    (small.folder / "shard-000001.idx").unlink()
    found = [(finding.kind, finding.file) for finding in verify(small.folder)]
    assert found == [("index", INDEX_NAME), ("dali index", "shard-000000.idx"), ("dali index", "shard-000001.idx")]
    finish(small.folder, small.labels, source={}).close()
    assert verify(small.folder) == []


def test_without_a_manifest_the_tars_are_still_walked(small: ShardSet) -> None:
    (small.folder / MANIFEST_NAME).unlink()
    change(small.folder / "shard-000000.tar", small.where(0).offset + 5, b"?")
    findings = verify(small.folder)
    assert kinds(findings) == {"manifest", "damaged", "component"}
    assert {found.key for found in findings if found.kind == "component"} == {small.key(0)}


def test_samples_that_are_wrong_in_themselves(tmp_path: Path, make: Make) -> None:
    """A tar as another tool may have written it: every sample wrong in one way, each found at its offset."""
    good = make(0)
    wrong = [
        Sample("no-image", b"<html>", "jpg", 0),
        Sample("cut", make(1).image[:600], "jpg", 0),
        Sample("named", make(2).image, "png", 0),
        Sample("large-label", make(3).image, "jpg", 7),
        Sample("two-labels", make(4).image, "jpg", 0, {"label": "bass"}),
        good,
        Sample("other", make(5).image, "jpg", 1, {"label": "bass"}),
        good,
    ]
    with ShardWriter(tmp_path) as writer:
        placed = [writer.add(sample).offset for sample in wrong]
        writer.seal()
    (tmp_path / MANIFEST_NAME).write_text(
        '{"format": "bassline shard set", "version": 1, "labels": ["guitar", "bass"], "counts": {}, "shards": [],'
        ' "split": null, "source": {}, "digest": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}'
    )
    found = {finding.key: finding for finding in verify(tmp_path) if finding.key}
    assert {key: (finding.kind, finding.offset) for key, finding in found.items()} == {
        "no-image": ("image", placed[0]),
        "cut": ("image", placed[1]),
        "named": ("extension", placed[2]),
        "large-label": ("label", placed[3]),
        "two-labels": ("label", placed[4]),
        good.key: ("duplicate key", placed[7]),
    }
    assert found["two-labels"].problem == ".cls says 0 (guitar), .json says 'bass'"
    assert found[good.key].problem == f"first at shard-000000.tar@{placed[5]}"
    assert {finding.key for finding in verify(tmp_path, decode=False) if finding.kind == "image"} == {"no-image"}


def test_missing_components(tmp_path: Path) -> None:
    import io
    import tarfile

    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in ("a.jpg", "b.cls", "c.json"):
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"0"))
    components = [(f.key, f.offset, f.problem) for f in verify(tmp_path) if f.kind == "component"]
    assert components == [
        ("a", 0, "no .cls; it has jpg"),
        ("b", 1024, "no image; it has cls"),
        ("c", 2048, "no .cls; it has json"),
        ("c", 2048, "no image; it has json"),
    ]
