"""A tar held against rows of an index in columns, instead of sample by sample: 6 us a sample.

It finds nothing wrong by itself: whatever is not just as this writer writes it and as the rows have it is for others to
look at and to name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from shards import tar
from shards.files import forget
from shards.sample import EXTENSIONS
from shards.shard_errors import TarDamaged

__all__ = ["TOGETHER", "Untouched", "as_told"]

TOGETHER = 1024  # samples that are looked at together: their headers are 1.5 MiB and stay in a core's cache
_NAME = 100  # bytes of a name in a header
_SUFFIX = 5  # bytes of the longest
_DIGITS = 9  # of a label, at most
_HEAD = 12  # bytes that say an image's type

_SUFFIXES = np.array([f".{ext}".encode() for ext in (*EXTENSIONS, "cls", "json")], f"S{_SUFFIX}")
_CLS, _JSON = len(EXTENSIONS), len(EXTENSIONS) + 1
_HEADS: tuple[tuple[bytes, bytes], ...] = (  # by number in EXTENSIONS: what stands there, and which bytes count
    (b"\xff\xd8\xff" + bytes(9), b"\xff" * 3 + bytes(9)),
    (b"\x89PNG\r\n\x1a\n" + bytes(4), b"\xff" * 8 + bytes(4)),
    (b"RIFF\0\0\0\0WEBP", b"\xff" * 4 + bytes(4) + b"\xff" * 4),
)
_MAGIC, _COUNTS = (np.frombuffer(b"".join(part), np.uint8).reshape(-1, _HEAD) for part in zip(*_HEADS, strict=True))


@dataclass(frozen=True, slots=True)
class Untouched:
    """A tar in which everything is as it was indexed.

    Args:
        samples: (key, offset) of each, in order.
        dali_index: what belongs into its .idx; None for a tar without samples.
    """

    samples: list[tuple[str, int]]
    dali_index: bytes | None


def as_told(
    data: memoryview, path: Path, parts: Iterable[tuple[NDArray[Any], NDArray[np.bytes_]]], labels: int
) -> Untouched | None:
    """What a tar holds, if that is just what rows of an index say; None if it is not, or cannot be told in this way.

    Every sample is an image, a label and mostly a JSON, in this order and one after the other, and nothing follows the
    last one; headers are plain, their checksums right, names and sizes those of the rows; labels are the rows' and the
    set's; images begin as their extension says; every JSON was read when it was indexed.

    Args:
        data: the whole tar, mapped; what was looked at is let go of.
        path: its name, for errors.
        parts: the rows and keys, in the tar's order, `TOGETHER` at a time.
        labels: how many the set has.
    """
    samples: list[tuple[str, int]] = []
    pieces: list[bytes] = []
    at = 0
    for rows, keys in parts:
        found = _labels(data, at, rows, keys, labels)
        if found is None:
            return None
        cls, cls_size, end = found
        forget(data, at, end)
        at = end
        raw = keys.tolist()
        offsets, images, sizes, jsons, json_sizes, exts = (
            rows[name].tolist() for name in ("offset", "image", "size", "json", "json_size", "ext")
        )
        texts = [key.decode("utf-8", "surrogateescape") for key in raw]
        samples += zip(texts, offsets, strict=True)
        columns = zip(raw, exts, images, sizes, cls.tolist(), cls_size.tolist(), jsons, json_sizes, strict=True)
        pieces += [_LINES[ext, json > 0](key, *places, json, size) for key, ext, *places, json, size in columns]
    try:
        if next(tar.walk(data, path, at), None) is not None:
            return None
    except TarDamaged:
        return None
    return Untouched(samples, b"v1.2 %d%b\n" % (len(samples), b"".join(pieces)) if samples else None)


def _line(ext: str, has_json: bool) -> Callable[..., bytes]:
    """A function that writes a sample's line of DALI's index: (key, image, size, cls, size, json, size)."""
    raw = ext.encode()
    if has_json:
        form = b"\n%b %%d %%d %%b.%b cls %%d %%d %%b.cls json %%d %%d %%b.json" % (raw, raw)
        return lambda key, image, size, cls, cls_size, json, json_size: (
            form % (image, size, key, cls, cls_size, key, json, json_size, key)
        )
    short = b"\n%b %%d %%d %%b.%b cls %%d %%d %%b.cls" % (raw, raw)
    return lambda key, image, size, cls, cls_size, *_: short % (image, size, key, cls, cls_size, key)


_LINES = {
    (number, has_json): _line(ext, has_json) for number, ext in enumerate(EXTENSIONS) for has_json in (True, False)
}


def _labels(
    data: memoryview, at: int, rows: NDArray[Any], keys: NDArray[np.bytes_], labels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int] | None:
    """Offset and size of each sample's .cls, and where the last sample ends; None if anything is not as it should."""
    offset, image, size, meta, meta_size, label, ext = (
        rows[name].astype(np.int64) for name in ("offset", "image", "size", "json", "json_size", "label", "ext")
    )
    has_json = meta > 0
    cls = _after(image, size) + tar.BLOCK
    ended = np.where(has_json, _after(meta, meta_size), cls + tar.BLOCK)  # a label has a block at most
    starts = np.concatenate([[at], ended[:-1]])
    text = keys.view(np.uint8).reshape(len(keys), -1)
    if (
        ended[-1] + tar.BLOCK > len(data)
        or (offset != starts).any()
        or (image != offset + tar.BLOCK).any()
        or (has_json & (meta != cls + 2 * tar.BLOCK)).any()
        or (size < _HEAD).any()
        or (label < 0).any()
        or (label >= labels).any()
        or (ext >= len(EXTENSIONS)).any()
        or (has_json & (rows["told"] == 0)).any()
        or text.shape[1] + _SUFFIX > _NAME
        or ((text == ord(".")) | (text == ord("/"))).any()
        or not text[:, 0].all()
    ):
        return None
    whole = np.frombuffer(data, np.uint8)
    if ((sliding_window_view(whole, _HEAD)[image] & _COUNTS[ext]) != _MAGIC[ext]).any():
        return None
    for begin, some, which, expected in (
        (image, text, ext, size),
        (meta[has_json], text[has_json], np.full(int(has_json.sum()), _JSON), meta_size[has_json]),
    ):
        found = _sizes(whole, begin - tar.BLOCK, some, which)
        if found is None or (found != expected).any():
            return None
    cls_size = _sizes(whole, cls - tar.BLOCK, text, np.full(len(rows), _CLS))
    if cls_size is None or (cls_size < 1).any() or (cls_size > _DIGITS).any():
        return None
    return (cls, cls_size, int(ended[-1])) if _numbers(whole, cls, cls_size, label) else None


def _numbers(
    whole: NDArray[np.uint8], at: NDArray[np.int64], size: NDArray[np.int64], expected: NDArray[np.int64]
) -> bool:
    """Whether the digits at `at` are these numbers."""
    digits = sliding_window_view(whole, _DIGITS)[at].astype(np.int64) - ord("0")
    values = np.zeros(len(at), np.int64)
    for place in range(int(size.max())):
        more, digit = size > place, digits[:, place]
        if ((digit < 0) | (digit > 9))[more].any():
            return False
        values[more] = 10 * values[more] + digit[more]
    return bool((values == expected).all())


def _after(begin: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the last block of a member ends."""
    return begin + (size + tar.BLOCK - 1) // tar.BLOCK * tar.BLOCK


def _sizes(
    whole: NDArray[np.uint8], at: NDArray[np.int64], text: NDArray[np.uint8], suffix: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """The sizes in the headers at `at`, if each is a plain one of a regular file of that key and suffix."""
    blocks = sliding_window_view(whole, tar.BLOCK)[at]
    name = np.zeros((len(at), _NAME), np.uint8)
    name[:, : text.shape[1]] = text
    ends = _SUFFIXES.view(np.uint8).reshape(-1, _SUFFIX)[suffix]
    name[np.arange(len(at))[:, None], np.count_nonzero(text, axis=1)[:, None] + np.arange(_SUFFIX)] = ends
    if (blocks[:, :_NAME] != name).any():
        return None
    return tar.plain_sizes(blocks)
