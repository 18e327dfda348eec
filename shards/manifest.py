"""What a shard set says of itself: dataset.json. Read without numpy, so that a crawl's start need not wait for it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.errors import brief
from shards.shard_errors import ManifestDamaged, ManifestMissing
from shards.writer import ShardInfo

__all__ = ["FORMAT", "MANIFEST_NAME", "VERSION", "Manifest", "digest_of", "parse_manifest", "read_manifest"]

MANIFEST_NAME = "dataset.json"
_NAME = re.compile(r"[^/\0]+\.tar")
_DIGEST = re.compile(r"[0-9a-f]{64}")
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
        if not isinstance(told, dict):
            raise ManifestDamaged(path, "no JSON object")
        if told["format"] != FORMAT or told["version"] != VERSION:
            raise ManifestDamaged(path, f"not a {FORMAT} of version {VERSION}")
        if not isinstance(told["labels"], list) or not isinstance(told["counts"], dict):
            raise ManifestDamaged(path, "labels or counts: expected a list, and an object")
        if not isinstance(told["split"], str | None) or not isinstance(told["source"], dict):
            raise ManifestDamaged(path, "split or source: expected a name or null, and an object")
        manifest = Manifest(
            labels=tuple(told["labels"]),
            counts=dict(told["counts"]),
            shards=tuple(ShardInfo(**info) for info in told["shards"]),
            split=told["split"],
            source=told["source"],
            digest=told["digest"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestDamaged(path, f"cannot be read ({brief(error)})") from None
    if wrong := _wrong(manifest):
        raise ManifestDamaged(path, wrong)
    if digest_of(manifest.shards) != manifest.digest:
        raise ManifestDamaged(path, "its digest is not that of its shards")
    return manifest


def _wrong(manifest: Manifest) -> str | None:
    """The first value that is of another kind than what is written there; None if none is."""
    if not all(isinstance(label, str) for label in manifest.labels) or not _unique(manifest.labels):
        return "labels: expected names, each once"
    if not all(isinstance(label, str) and _is_count(count) for label, count in manifest.counts.items()):
        return "counts: expected a number of samples by label"
    for number, info in enumerate(manifest.shards):
        if not isinstance(info.name, str) or not _NAME.fullmatch(info.name):
            return f"shards[{number}].name: expected the name of a tar in the set's folder"
        if not _is_count(info.samples) or not _is_count(info.bytes):
            return f"shards[{number}]: expected numbers of samples and bytes"
        if not isinstance(info.sha256, str) or not _DIGEST.fullmatch(info.sha256):
            return f"shards[{number}].sha256: expected 64 hex digits"
    if not _unique([info.name for info in manifest.shards]):
        return "shards: a tar is named twice"
    return None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _unique(names: Sequence[str]) -> bool:
    return len(set(names)) == len(names)
