from __future__ import annotations

import contextlib
import io
import string
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards import tar
from shards.shard_errors import TarDamaged

NAMES = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=95)
PATH = Path("x.tar")


def by_tarfile(members: list[tuple[str, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@given(NAMES, st.integers(0, 8**11 - 1))
def test_header_is_what_tarfile_writes(name: str, size: int) -> None:
    info = tarfile.TarInfo(f"{name}.webp")
    info.size = size
    assert tar.header(f"{name}.webp", size) == info.tobuf(tarfile.USTAR_FORMAT)


def test_header_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        tar.header("x" * 101, 1)
    with pytest.raises(ValueError, match="does not fit"):
        tar.header("x", 8**11)


@given(st.lists(st.tuples(NAMES, st.binary(max_size=1100)), max_size=5))
def test_whole_tar_is_what_tarfile_writes_and_walks_back(members: list[tuple[str, bytes]]) -> None:
    ours = b"".join(tar.header(name, len(content)) + content + tar.padding(len(content)) for name, content in members)
    ours += tar.end_blocks(len(ours))
    assert ours == by_tarfile(members)
    assert [(m.name, ours[m.offset : m.offset + m.size]) for m in tar.walk(memoryview(ours), PATH)] == members


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_walk_reads_other_peoples_tars(form: int) -> None:
    long = "folder/" * 12 + "k" * 60
    members = [("a/1.jpg", b"1"), (f"{long}.jpg", b"22"), ("a/1.cls", b"3" * 600)]
    if form == tarfile.PAX_FORMAT:
        members.append(("größe.jpg", b"4"))
    data = by_tarfile(members, form)
    found = list(tar.walk(memoryview(data), PATH))
    assert [(m.name, data[m.offset : m.offset + m.size]) for m in found] == members
    assert all(data[m.header : m.header + 1] for m in found)


def test_walk_passes_over_what_is_no_file() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "c"}) as archive:
        for name, kind in (("d", tarfile.DIRTYPE), ("l", tarfile.SYMTYPE), ("f.jpg", tarfile.REGTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "elsewhere" if kind == tarfile.SYMTYPE else ""
            archive.addfile(info)
    assert [m.name for m in tar.walk(memoryview(out.getvalue()), PATH)] == ["f.jpg"]


@given(st.data())
def test_a_truncated_tar_is_never_taken_for_a_whole_one(data: st.DataObject) -> None:
    whole = by_tarfile([("a.jpg", b"1" * 700), ("a.cls", b"0")])
    content_ends = 512 + 1024 + 512 + 512
    cut = data.draw(st.integers(0, content_ends + 511))
    with pytest.raises(TarDamaged) as caught:
        list(tar.walk(memoryview(whole[:cut]), PATH))
    assert caught.value.offset <= cut


@given(st.integers(0, 511), st.integers(1, 255))
def test_a_flipped_header_is_noticed_at_its_offset(at: int, flip: int) -> None:
    whole = bytearray(by_tarfile([("a.jpg", b"1" * 700), ("a.cls", b"0")]))
    whole[1536 + at] ^= flip
    members = []
    with pytest.raises(TarDamaged) as caught:
        members += list(tar.walk(memoryview(whole), PATH))
    assert caught.value.offset == 1536


@given(st.binary(max_size=3000))
def test_walk_of_noise_is_an_error_or_nothing(noise: bytes) -> None:
    with contextlib.suppress(TarDamaged):
        list(tar.walk(memoryview(noise), PATH))


@given(st.binary(min_size=1, max_size=200))
def test_a_broken_pax_header_is_an_error(content: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(content)
    data = info.tobuf(tarfile.USTAR_FORMAT) + content + tar.padding(len(content)) + bytes(1024)
    with contextlib.suppress(TarDamaged):
        list(tar.walk(memoryview(data), PATH))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.jpg", ("a", "jpg")), ("d.x/a.b.JPG", ("d.x/a", "b.jpg")), ("a", ("a", "")), ("d/.hidden", ("d/", "hidden"))],
)
def test_split_name(name: str, expected: tuple[str, str]) -> None:
    assert tar.split_name(name) == expected


@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=1100)), max_size=9),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.integers(0, 3),
    st.integers(0, 20000),
    st.sampled_from([None, 0, 1, 7, 48, 255]),
)
def test_all_at_once_is_what_the_walk_finds(
    members: list[tuple[str, bytes]], form: int, long: int, at: int, byte: int | None
) -> None:
    """Whole tars of every kind, and such with one byte changed: the same members, or the same error."""
    named = [
        (f"{'d' * 60 * (long if n % 3 == 1 else 0)}/{name}.jpg", content) for n, (name, content) in enumerate(members)
    ]
    if form == tarfile.USTAR_FORMAT:
        named = [(name[-99:], content) for name, content in named]
    data = bytearray(by_tarfile(named, form))
    if byte is not None and at < len(data):
        data[at] = byte

    def outcome(read: Callable[[memoryview, Path], Iterable[tar.Member]]) -> object:
        try:
            return list(read(memoryview(bytes(data)), PATH))
        except TarDamaged as error:
            return str(error)

    assert outcome(tar.members_of) == outcome(tar.walk)


def test_all_at_once_over_many_members() -> None:
    plain = by_tarfile([(f"k{n}.txt", b"x" * (n % 700)) for n in range(9000)])
    assert tar.members_of(memoryview(plain), PATH) == list(tar.walk(memoryview(plain), PATH))
