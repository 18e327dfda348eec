"""What a sample is: one image's own bytes, its label, and where it came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shards.shard_errors import BadSample

__all__ = ["EXTENSIONS", "KEY", "Sample", "check", "may_stand_beside", "sniff"]

EXTENSIONS = ("jpg", "png", "webp")

# No dot (WebDataset groups by what stands before the first one) and no path. A ustar name has 100 bytes and the longest
# suffix (.json, .webp) takes five.
KEY = re.compile(r"[A-Za-z0-9_-]{1,95}")
_NAME = 100
_OTHER = re.compile(r"[!-.0-@\[-~]+")


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image.

    Args:
        key: its name, unique in its set.
        image: the encoded image, untouched.
        ext: "jpg", "png" or "webp", by content.
        label: number of the label in the set's list.
        meta: provenance; anything JSON can say.
        others: its members beside these (txt, seg.png, npy) by extension: other people's, carried along unread.
    """

    key: str
    image: bytes
    ext: str
    label: int
    meta: dict[str, Any] = field(default_factory=dict)
    others: Mapping[str, bytes] = field(default_factory=dict)


def check(sample: Sample) -> None:
    """Says whether a sample may be written.

    Raises:
        BadSample: its key, extension, label or image breaks a rule of the format.
    """
    if not KEY.fullmatch(sample.key):
        raise BadSample(sample.key, f"a key is {KEY.pattern}: no dots, no path")
    if sample.ext not in EXTENSIONS:
        raise BadSample(sample.key, f"extension {sample.ext!r}; expected one of {', '.join(EXTENSIONS)}, by content")
    if sample.label < 0:
        raise BadSample(sample.key, f"label {sample.label}; labels are numbered from 0")
    if not sample.image:
        raise BadSample(sample.key, "the image has no bytes")
    for ext in sample.others:
        if ext in (sample.ext, "cls", "json") or not may_stand_beside(sample.key, ext):
            raise BadSample(sample.key, f"a member {ext[:60]!r} beside the image; expected a short ASCII extension")


def may_stand_beside(key: str, ext: str) -> bool:
    """Whether a member fits a ustar header under this key: printable ASCII, lower case, 100 bytes with the key."""
    return _OTHER.fullmatch(ext) is not None and len(key) + 1 + len(ext) <= _NAME


# type, offset, bytes that stand there (the WHATWG MIME sniffing standard, and each format's own specification)
_MAGIC: tuple[tuple[str, int, bytes], ...] = (
    ("jpg", 0, b"\xff\xd8\xff"),
    ("png", 0, b"\x89PNG\r\n\x1a\n"),
    ("webp", 8, b"WEBP"),
    ("gif", 0, b"GIF87a"),
    ("gif", 0, b"GIF89a"),
    ("bmp", 0, b"BM"),
    ("tiff", 0, b"II*\x00"),
    ("tiff", 0, b"MM\x00*"),
    ("avif", 4, b"ftypavif"),
    ("avif", 4, b"ftypavis"),
    ("heic", 4, b"ftypheic"),
    ("heic", 4, b"ftypmif1"),
    ("jxl", 0, b"\xff\x0a"),
    ("jxl", 4, b"JXL \r\n\x87\n"),
    ("ico", 0, b"\x00\x00\x01\x00"),
)


def sniff(head: bytes) -> str | None:
    """The image type by content, never by name.

    Args:
        head: the first bytes; 512 are enough.

    Returns:
        "jpg", "png", "webp", "gif", "bmp", "tiff", "avif", "heic", "jxl", "ico" or "svg"; None for anything else.
    """
    for kind, offset, magic in _MAGIC:
        if head[offset : offset + len(magic)] == magic and (kind != "webp" or head[:4] == b"RIFF"):
            return kind
    text = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in text):
        return "svg"
    return None
