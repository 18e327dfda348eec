"""What a JPEG says of itself before it is decoded: enough to choose a decoder and to plan the resize."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["JpegHeader", "read_header"]

_SOF = frozenset(range(0xC0, 0xD0)) - {
    0xC4,
    0xC8,
    0xCC,
}  # frame headers; the three left out are tables and an extension
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length (ITU T.81, table B.1)
_COMMON = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended and progressive Huffman: what every decoder reads


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """Size in pixels, and whether every decoder reads the image alike.

    plain: 8 bits, grey or YCbCr, Huffman coded, upright. The rest (CMYK, RGB, lossless, turned by Exif) goes to Pillow.
    """

    width: int
    height: int
    plain: bool


# What one encoder writes before the pixels is the same for all images of a size, and it is all that is read here: to
# look it up is less than to read it. By its bytes; and at which lengths it is worth looking.
_known: dict[bytes, JpegHeader] = {}
_lengths: list[int] = []
_LONGEST, _MOST_KNOWN, _MOST_LENGTHS = 1024, 1024, 4


def read_header(data: memoryview | bytes) -> JpegHeader | None:
    """What stands up to the frame header; None where the bytes are not a JPEG or end before it."""
    for length in _lengths:
        if header := _known.get(bytes(data[:length])):
            return header
    header, end = _read_header(data)
    if header is not None and end <= _LONGEST and len(_known) < _MOST_KNOWN:
        if end not in _lengths and len(_lengths) < _MOST_LENGTHS:
            _lengths.append(end)
        if end in _lengths:
            _known[bytes(data[:end])] = header
    return header


def _read_header(data: memoryview | bytes) -> tuple[JpegHeader | None, int]:
    """A few microseconds; with how many bytes it depends on."""
    if len(data) < 4 or data[0] != 0xFF or data[1] != 0xD8:
        return None, 0
    at, end, ordinary = 2, len(data), True
    while at + 4 <= end:
        if data[at] != 0xFF:
            return None, 0
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _STANDALONE:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if marker in _SOF:
            if len(body) < 6:
                return None, 0
            height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            plain = ordinary and marker in _COMMON and body[0] == 8 and body[5] in (1, 3) and width > 0 and height > 0
            return JpegHeader(width, height, plain), at + 10
        if (marker == 0xEE and bytes(body[:5]) == b"Adobe" and len(body) >= 12 and body[11] != 1) or (
            marker == 0xE1 and bytes(body[:6]) == b"Exif\0\0" and _turned(bytes(body[6:]))
        ):
            ordinary = False
        at += 2 + length
    return None, 0


def _turned(tiff: bytes) -> bool:
    """Whether the first Exif directory asks for another orientation than the pixels have (tag 0x0112, Exif 2.3)."""
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    first = number(4, 4)
    for entry in range(first + 2, first + 2 + 12 * min(number(first, 2), 256), 12):
        if number(entry, 2) == 0x0112:
            return number(entry + 8, 2) not in (0, 1)
    return False
