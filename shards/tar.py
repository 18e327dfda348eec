"""The tar format, as little of it as shards need: write one header fast, walk a file and know every offset."""

from __future__ import annotations

import re
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shards.files import MAPPED, forget
from shards.shard_errors import TarDamaged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "BLOCK",
    "Gap",
    "Member",
    "end_blocks",
    "header",
    "members_of",
    "next_header",
    "padding",
    "plain_sizes",
    "scan",
    "split_name",
    "walk",
]

BLOCK = 512
_NAME = 100  # bytes of a ustar name
_EMPTY = bytes(BLOCK)
_REGULAR = ord("0")
_NOWHERE = Path()
_MAGIC = re.compile(rb"ustar[\0 ]")


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


class Member(NamedTuple):
    """A regular file in a tar: its name, where its (first) header starts, where its bytes start, how many they are.

    A named tuple and not a dataclass: it is made three times a sample, in a third of the time.
    """

    name: str
    header: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Where the member's last block ends."""
        return self.offset + self.size + -self.size % BLOCK


class Gap(NamedTuple):
    """Bytes of a damaged tar that belong to no member that can be read: from `start` to `end`."""

    start: int
    end: int
    problem: str


def split_name(name: str) -> tuple[str, str]:
    """(key, extension): WebDataset splits at the first dot after the last slash; the extension is lower case."""
    folder, slash, last = name.rpartition("/") if "/" in name else ("", "", name)
    key, _, ext = last.partition(".")
    return folder + slash + key if slash else key, ext.lower()


def walk(data: memoryview, path: Path, start: int = 0) -> Iterator[Member]:
    """The regular files of a tar (ustar, pax, GNU or older), in order.

    Args:
        data: the whole tar; of a map, what has been passed is let go of.
        path: its name, for errors.
        start: offset of the header to begin with.

    Raises:
        TarDamaged: a header does not match its checksum, the file ends inside a member or without its end blocks, or
            goes on after them.
    """
    at, end = start, len(data)
    held = start
    first = -1  # where a member's extension headers start
    extended: dict[str, str] = {}
    while True:
        block = bytes(data[at : at + BLOCK])
        if len(block) < BLOCK:
            raise TarDamaged(path, min(at, end), "the tar ends here without its end blocks: it is truncated")
        if block[0] == 0 and block == _EMPTY:
            if first >= 0:
                raise TarDamaged(path, first, "an extension header without its member")
            if (further := _nonzero(data, at)) is not None:
                raise TarDamaged(path, at, f"zeros where a header is due, but the file goes on at {further}")
            return
        size = _checked_size(block, path, at)
        kind = block[156]
        body = at + BLOCK
        if not extended and first < 0 and kind == _REGULAR and not block[345]:  # nearly every header there is
            if body + size > end:
                raise _ends_inside(path, at, size, end - body)
            yield Member(_text(block[:_NAME]), at, body, size)
            at = body + size + -size % BLOCK
            if at - held > MAPPED:
                forget(data, held, at)
                held = at
            continue
        if "size" in extended and kind not in b"xgLK":
            size = int(extended["size"])
        if body + size > end:
            raise _ends_inside(path, at, size, end - body)
        if kind in b"xL":
            first = at if first < 0 else first
            content = bytes(data[body : body + size])
            extended |= _pax(content, path, at) if kind == ord("x") else {"path": _text(content)}
        elif kind in b"K":
            first = at if first < 0 else first  # a long link name: its member follows
        elif kind != ord("g"):
            if kind in b"0\x007":  # "7", contiguous, is read as a regular file by everyone
                yield Member(extended.get("path") or _name(block), at if first < 0 else first, body, size)
            first, extended = -1, {}
        at = body + size + -size % BLOCK
        if at - held > MAPPED:
            forget(data, held, at)
            held = at


def members_of(data: memoryview, path: Path) -> list[Member]:
    """All of `walk`, several times faster for a tar of plain headers, which is what we and most others write.

    The chain of sizes is followed header by header; name, type and checksum of all of them are then read at once.

    Raises:
        TarDamaged: as `walk`.
    """
    found: list[Member] = []
    at = 0
    while True:
        offsets, sizes, after = _chain(data, at)
        part = _plain(data, offsets, sizes)
        if part is None:
            return [*found, *walk(data, path, at)]
        found += part
        forget(data, at, after)
        at = after
        if len(offsets) < _CHUNK:
            return [*found, *walk(data, path, at)]  # what is not plain, or the end


_CHUNK = 4096  # headers looked at together: 2 MiB
_SIZE = struct.Struct("11s").unpack_from


def _chain(data: memoryview, at: int) -> tuple[list[int], list[int], int]:
    """Offsets and sizes of up to _CHUNK headers from `at` on whose bodies fit, and where the last one ends."""
    offsets: list[int] = []
    sizes: list[int] = []
    last = len(data) - BLOCK
    with suppress(ValueError):
        for _ in range(_CHUNK):
            if at > last:
                break
            size = int(_SIZE(data, at + 124)[0], 8)
            if not 0 <= size <= last - at:
                break
            offsets.append(at)
            sizes.append(size)
            at += (size + 2 * BLOCK - 1) // BLOCK * BLOCK
    return offsets, sizes, at


def _plain(data: memoryview, offsets: list[int], sizes: list[int]) -> list[Member] | None:
    """The members of headers that are regular files without extension headers; None if one is not, or is damaged."""
    if not offsets:
        return []
    import numpy as np  # 0.2 s that a process which only writes does not pay

    blocks = np.frombuffer(b"".join([data[at : at + BLOCK] for at in offsets]), np.uint8).reshape(-1, BLOCK)
    right = _right(blocks)
    if not right.all():
        return None
    names = np.ascontiguousarray(blocks[:, :_NAME]).view(f"S{_NAME}")[:, 0].tolist()
    texts = [name.decode("utf-8", "surrogateescape") for name in names]
    if any("\0" in text for text in texts):
        return None
    return list(map(Member._make, zip(texts, offsets, (at + BLOCK for at in offsets), sizes, strict=True)))


def _right(blocks: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of the headers (N, 512) are regular files without a prefix, with the checksum that they have."""
    import numpy as np

    told = _octal(blocks[:, 148:154])
    words = blocks.view("<u8")
    # the bytes two by two, in four lanes of 16 bits: 64 times 2 * 255 fits, and it is faster than a plain sum
    lanes = ((words & 0x00FF00FF00FF00FF) + (words >> 8 & 0x00FF00FF00FF00FF)).sum(axis=1)
    sums = sum(((lanes >> shift) & 0xFFFF).astype(np.int64) for shift in (0, 16, 32, 48))
    sums = sums - blocks[:, 148:156].sum(axis=1, dtype=np.int64) + 8 * ord(" ")
    right: NDArray[np.bool_] = (blocks[:, 156] == _REGULAR) & (blocks[:, 345] == 0) & (told == sums)
    return right


def _octal(digits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The numbers that rows of octal digits are, int64 (N,); -1 where one is no digit."""
    import numpy as np

    values = digits.astype(np.int64) - ord("0")
    numbers = values @ (8 ** np.arange(digits.shape[1] - 1, -1, -1))
    return np.where(((values >= 0) & (values <= 7)).all(axis=1), numbers, -1)


def plain_sizes(blocks: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """The sizes in headers (uint8, (N, 512)), int64 (N,); None if not all are of regular files, plain and undamaged."""
    sizes = _octal(blocks[:, 124:135])
    return sizes if bool(_right(blocks).all()) and bool((sizes >= 0).all()) else None


def scan(
    data: memoryview, path: Path, damaged: Callable[[Member], bool | None] | None = None
) -> Iterator[Member | Gap]:
    """Everything that can be read of a damaged tar, with the gaps between: `walk` that does not stop.

    Where no header is due, the next one is looked for at any offset, as bytes may have been inserted or lost. A member
    after which no header comes may have lost bytes and swallowed its neighbours' headers: then those count, not the
    member. What it cannot know: whether a header is the tar's own, or one of a tar that is a member and lost its own.

    Args:
        data, path: as for `walk`.
        damaged: says of a member whether its bytes are known to be wrong (True), known to be right (False), or neither.
    """
    at, end = 0, len(data)
    while at < end:
        problem = "the tar ends here"
        member = None
        try:
            member = next(walk(data, path, at), None)
        except TarDamaged as error:
            problem = error.problem
        else:
            if member is None:  # the end blocks
                return
        if member is None:
            found = next_header(data, at + 1)
            yield Gap(at, end if found is None else found, problem)
            if found is None:
                return
            at = found
            continue
        wrong = damaged(member) if damaged else None
        content = member.offset + member.size
        follows = _header_at(data, member.end)
        if wrong or (wrong is None and not follows):
            found = next_header(data, member.offset, content)
            if found is not None:
                yield Gap(member.header, found, f"{member.name} is cut short: the next header comes inside it")
                at = found
                continue
        if not follows and (found := next_header(data, content, member.end)) is not None:
            yield member
            yield Gap(content, found, f"the next header comes before the last block of {member.name} ends")
            at = found
            continue
        yield member
        at = member.end
    yield Gap(end, end, "the tar ends here without its end blocks: it is truncated")


def next_header(data: memoryview, start: int, end: int | None = None) -> int | None:
    """The offset of the first tar header that starts in `start` to `end` (exclusive) and fits; None if there is none.

    One with "ustar" is found at any offset, an older one at multiples of 512 only.
    """
    limit = min(len(data) - BLOCK + 1, len(data) if end is None else end)
    found: int | None = None
    for match in _MAGIC.finditer(data, start + 257, max(start + 257, min(len(data), limit + 262))):
        at = match.start() - 257
        if at < limit and _header_at(data, at):
            found = at
            break
    stop = limit if found is None else found
    for at in range(start + -start % BLOCK, stop, BLOCK):
        if data[at] and data[at + 154] in b"\0 " and _header_at(data, at):
            return at
    return found


def _header_at(data: memoryview, at: int) -> bool:
    block = bytes(data[at : at + BLOCK])
    if len(block) < BLOCK or block == _EMPTY:
        return False
    try:
        _checked_size(block, _NOWHERE, at)
    except TarDamaged:
        return False
    return True


def _nonzero(data: memoryview, at: int) -> int | None:
    """Offset of the first byte from `at` that is not zero."""
    for start in range(at, len(data), 1 << 20):
        piece = bytes(data[start : start + (1 << 20)])
        if left := len(piece.lstrip(b"\0")):
            return start + len(piece) - left
    return None


def _ends_inside(path: Path, at: int, size: int, there: int) -> TarDamaged:
    return TarDamaged(path, at, f"the tar ends inside this member ({size} bytes, {max(0, there)} are there)")


def _checked_size(block: bytes, path: Path, at: int) -> int:
    try:
        told = int(block[148:156].strip(b" \0") or b"0", 8)
        if block[124] & 0x80:  # base 256, for 8 GiB and more
            size = int.from_bytes(block[125:136], "big")
        else:
            size = int(block[124:136].strip(b" \0") or b"0", 8)
    except ValueError:
        raise TarDamaged(path, at, "no tar header where one is due") from None
    # Adler-32's low half is 1 + the sum of the bytes, modulo 65521, ten times faster than sum()
    if size < 0 or zlib.adler32(block) & 0xFFFF != (told - 255 + sum(block[148:156])) % 65521:
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
