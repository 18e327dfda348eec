"""What a sample says of where it came from, and the sample as it lies in a shard.

Made where the image is examined, beside the event loop: JSON and headers of a sample cost as much of the interpreter as
the ledger's rows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from shards.known_rows import packed_row
from shards.sample import Sample
from shards.writer import encode

if TYPE_CHECKING:
    from crawler.thumbnails import Thumbnail

__all__ = ["Told", "packed"]


class Told(NamedTuple):
    """What is known of an image beside its bytes.

    Attributes:
        number: of the label.
        label_path: names of the categories, from the top down.
        row: JSON of what a list says of it.
    """

    number: int
    label: str
    label_path: tuple[str, ...]
    image_url: str
    final_url: str
    listing_url: str
    product_url: str
    maker: str
    title: str
    row: str | None
    fetched_at: str
    etag: str | None
    last_modified: str | None
    site: str
    site_version: str


def packed(image: Thumbnail, told: Told, content_type: str | None) -> tuple[bytes, bytes, bytes]:
    """The sample's bytes in a tar before and after those of its image, and its row in an index.

    Args:
        content_type: where the header names another image type than the content's.

    Raises:
        BadSample: it may not be written.
    """
    meta: dict[str, Any] = {
        "label": told.label,
        "label_path": told.label_path,
        "sha256": image.sha256.hex(),
        "dhash": image.dhash.hex(),
        "width": image.width,
        "height": image.height,
        "image_url": told.image_url,
        "final_url": told.final_url,
        "listing_url": told.listing_url,
        "product_url": told.product_url,
        "maker": told.maker,
        "title": told.title,
        "fetched_at": told.fetched_at,
        "etag": told.etag,
        "last_modified": told.last_modified,
        "robots": "allowed",
        "site": told.site,
        "site_version": told.site_version,
    }
    if content_type:
        meta["content_type"] = content_type
    if told.row:
        meta["row"] = json.loads(told.row)
    sample = Sample(image.key, image.body, image.ext, told.number, meta)
    before, after = encode(sample)
    return before, after, packed_row(sample, after, image.width, image.height)
