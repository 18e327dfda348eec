"""What a shard set says of itself: dataset.json. Read without numpy, so that a crawl's start need not wait for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.shard_errors import ManifestDamaged, ManifestMissing
from shards.writer import ShardInfo

__all__ = ["FORMAT", "MANIFEST_NAME", "VERSION", "Manifest", "digest_of", "parse_manifest", "read_manifest"]

MANIFEST_NAME = "dataset.json"
FORMAT, VERSION = "bassline shard set", 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """What dataset.json says.

    Args:
        labels: the names that labels count in.
        counts: samples per label, every label named.
        shards: name, samples, bytes and sha256 of each tar, in order.
        split: name of the part, if the set is one.
        source: where it came from.
        digest: sha256 over the shards' sha256 in order: the same for the same samples, wherever they lie.
    """

    labels: tuple[str, ...]
    counts: dict[str, int]
    shards: tuple[ShardInfo, ...]
    split: str | None
    source: dict[str, Any]
    digest: str

    @property
    def samples(self) -> int:
        """Number of samples."""
        return sum(info.samples for info in self.shards)


def digest_of(shards: Sequence[ShardInfo]) -> str:
    """sha256 in hex over the shards' sha256 in order."""
    return hashlib.sha256("".join(info.sha256 for info in shards).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Reads dataset.json.

    Raises:
        ManifestMissing, ManifestDamaged
    """
    path = folder / MANIFEST_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ManifestMissing(folder) from None
    return parse_manifest(text, path)


def parse_manifest(text: bytes, path: Path) -> Manifest:
    """The manifest that `text` is; `path` is named where it is none.

    Raises:
        ManifestDamaged
    """
    try:
        told = json.loads(text)
        if told["format"] != FORMAT or told["version"] != VERSION:
            raise ManifestDamaged(path, f"not a {FORMAT} of version {VERSION}")
        manifest = Manifest(
            labels=tuple(told["labels"]),
            counts=dict(told["counts"]),
            shards=tuple(ShardInfo(**info) for info in told["shards"]),
            split=told["split"],
            source=told["source"],
            digest=told["digest"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestDamaged(path, f"cannot be read ({error!r})") from None
    if digest_of(manifest.shards) != manifest.digest:
        raise ManifestDamaged(path, "its digest is not that of its shards")
    return manifest
