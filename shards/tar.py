"""The tar format, as little of it as shards need: write one header fast, walk a file and know every offset."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shards.shard_errors import TarDamaged

__all__ = ["BLOCK", "Member", "end_blocks", "header", "padding", "split_name", "walk"]

BLOCK = 512
_NAME = 100  # bytes of a ustar name
_EMPTY = bytes(BLOCK)


def _template() -> tuple[bytes, bytes, bytes, int]:
    """What stands around name, size and checksum, and the sum of it, checksum field counted as spaces."""
    info = tarfile.TarInfo("n")
    info.mode = 0o644
    whole = info.tobuf(tarfile.USTAR_FORMAT)
    before, between, after = whole[_NAME:124], whole[136:148], whole[156:]
    return before, between, after, sum(before) + sum(between) + sum(after) + 8 * ord(" ")


_BEFORE, _BETWEEN, _AFTER, _SUM = _template()


def header(name: str, size: int) -> bytes:
    """One ustar header (512 bytes): mode 0644, owner 0, time 0.

    The same bytes as tarfile's USTAR_FORMAT at a fraction of its cost: only name, size and checksum differ between
    members.
    """
    raw = name.encode("ascii")
    if len(raw) > _NAME or size >= 8**11:
        raise ValueError(f"{name[:120]!r} with {size} bytes does not fit a ustar header")
    digits = b"%011o\0" % size
    checksum = _SUM + sum(raw) + sum(digits)
    return b"".join((raw.ljust(_NAME, b"\0"), _BEFORE, digits, _BETWEEN, b"%06o\0 " % checksum, _AFTER))


def padding(size: int) -> bytes:
    """The zeros that fill the last block of `size` bytes."""
    return _EMPTY[: -size % BLOCK]


def end_blocks(size: int) -> bytes:
    """The zeros that close a tar of `size` bytes: two blocks, then up to a whole record, as tar and tarfile do."""
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % tarfile.RECORDSIZE)


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar: its name, where its (first) header starts, where its bytes start, how many they are."""

    name: str
    header: int
    offset: int
    size: int


def split_name(name: str) -> tuple[str, str]:
    """(key, extension): WebDataset splits at the first dot after the last slash; the extension is lower case."""
    dot = name.find(".", name.rfind("/") + 1)
    return (name, "") if dot < 0 else (name[:dot], name[dot + 1 :].lower())


def walk(data: memoryview, path: Path, start: int = 0) -> Iterator[Member]:
    """The regular files of a tar (ustar, pax or GNU), in order.

    Args:
        data: the whole tar.
        path: its name, for errors.
        start: offset of the header to begin with.

    Raises:
        TarDamaged: a header does not match its checksum, or the file ends inside a member or without its end blocks.
    """
    at, end = start, len(data)
    first = -1  # where a member's extension headers start
    extended: dict[str, str] = {}
    while True:
        if at + BLOCK > end:
            raise TarDamaged(path, min(at, end), "the tar ends here without its end blocks: it is truncated")
        block = bytes(data[at : at + BLOCK])
        if block == _EMPTY:
            return
        kind = block[156:157]
        size = _checked_size(block, path, at)
        if "size" in extended and kind not in b"xgLK":
            size = int(extended["size"])
        body = at + BLOCK
        if body + size > end:
            raise TarDamaged(
                path, at, f"the tar ends inside this member ({size} bytes, {max(0, end - body)} are there)"
            )
        if kind in b"xL":
            first = at if first < 0 else first
            content = bytes(data[body : body + size])
            extended |= _pax(content, path, at) if kind == b"x" else {"path": _text(content)}
        elif kind not in b"gK":
            if kind in b"0\x007":  # "7", contiguous, is read as a regular file by everyone
                yield Member(extended.get("path") or _name(block), at if first < 0 else first, body, size)
            first, extended = -1, {}
        at = body + size + -size % BLOCK


def _checked_size(block: bytes, path: Path, at: int) -> int:
    try:
        told = int(block[148:156].strip(b" \0") or b"0", 8)
        size_field = block[124:136]
        if size_field[0] & 0x80:  # base 256, for 8 GiB and more
            size = int.from_bytes(size_field[1:], "big")
        else:
            size = int(size_field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise TarDamaged(path, at, "no tar header where one is due") from None
    # Adler-32's low half is 1 + the sum of the bytes, modulo 65521, ten times faster than sum()
    raw_sum = told - 8 * ord(" ") + sum(block[148:156])
    if size < 0 or zlib.adler32(block) & 0xFFFF != (1 + raw_sum) % 65521:
        raise TarDamaged(path, at, "the header does not match its checksum")
    return size


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _name(block: bytes) -> str:
    name = _text(block[:_NAME])
    if block[257:263] == b"ustar\0" and block[345]:
        return f"{_text(block[345:500])}/{name}"
    return name


def _pax(content: bytes, path: Path, at: int) -> dict[str, str]:
    """Records of a pax header: "<length> <keyword>=<value>\\n"."""
    found: dict[str, str] = {}
    while content:
        digits = content.partition(b" ")[0]
        record = content[: int(digits)] if digits.isdigit() else b""
        keyword, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not equals or (keyword == b"size" and not value.isdigit()):
            raise TarDamaged(path, at, "a pax header that is none")
        found[_text(keyword)] = value.decode("utf-8", "surrogateescape")
        content = content[len(record) :]
    return found
