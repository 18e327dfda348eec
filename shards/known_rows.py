"""Index rows that whoever writes a sample knows without looking: a tar just written need not be walked to be indexed.

They are kept as packed bytes, beside what else the writer keeps of a sample, and hold only as long as the tar has the
sample where it was written: `shards.index.known_rows` makes sure of that.
"""

from __future__ import annotations

import struct
import zlib

from shards.sample import EXTENSIONS, Sample
from shards.tar import BLOCK, padding

__all__ = ["PACKED", "packed_row"]

PACKED = struct.Struct("<QQQIIIiIqIIBBI")
"""Like `shards.index.ROW`: offset, image, json, size, json_size, crc, label, shard, group, width, height, ext,
told, rest."""

_SIZE_BEFORE, _SIZE_DIGITS = BLOCK - 124, 11  # of a member, in its header: bytes before the content, octal digits
_CLS = zlib.crc32(b"cls\0")


def packed_row(sample: Sample, after: bytes, width: int, height: int) -> bytes:
    """The index row of a sample whose JSON does not contradict its label, as if it began its tar.

    Args:
        sample: without other members than image, label and JSON.
        after: what `shards.writer.encode` has made of it, after the image.
        width, height: of the image in pixels.
    """
    label_at = len(padding(len(sample.image))) + BLOCK
    json_at = label_at + 2 * BLOCK
    json_size = int(after[json_at - _SIZE_BEFORE : json_at - _SIZE_BEFORE + _SIZE_DIGITS], 8)
    rest = zlib.crc32(b"json\0", zlib.crc32(str(sample.label).encode(), _CLS))
    return PACKED.pack(
        0,
        BLOCK,
        BLOCK + len(sample.image) + json_at,
        len(sample.image),
        json_size,
        zlib.crc32(sample.image),
        sample.label,
        0,
        -1,
        width,
        height,
        EXTENSIONS.index(sample.ext),
        1,
        zlib.crc32(after[json_at : json_at + json_size], rest),
    )
