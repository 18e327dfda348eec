"""What a crawl says of itself: while it runs, and in the end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["DROPS_NAME", "CrawlReport", "CrawlStats"]

DROPS_NAME = "drops.jsonl"


@dataclass(slots=True)
class CrawlStats:
    """How far a crawl is; one object, updated in place and given to `on_progress` several times a second.

    `images` are thumbnail addresses known so far, `images_done` those answered for; `dropped` counts addresses by
    reason as they come in, and may change when the crawl is settled. `requests`, `bytes`, `seconds` are of this run.
    """

    stage: str = "explore"  # explore, collect, settle, done
    seconds: float = 0.0
    categories: int = 0
    pages: int = 0
    products: int = 0
    images: int = 0
    images_done: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    bytes: int = 0
    in_flight: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class CrawlReport:
    """How a crawl ended. Every product seen is in exactly one outcome: kept + dropped + failed = products.

    Attributes:
        folder: the shard set.
        site: name of the site file.
        finished: False if it was interrupted; run it again to go on.
        already_finished: it was finished before, and nothing was done.
        products: seen in listings that have a label.
        kept: samples in the set.
        dropped: products by reason: what the site file, robots, the content or another product decided.
        failed: products by reason: what the network or the server kept from us.
        labels: samples by label.
        groups: of near-duplicates; a sample alone is a group too.
        categories, pages: category pages explored, result pages read.
        images: thumbnail addresses.
        answered: those answered for by this run.
        requests, bytes, seconds: over all runs that ended by themselves.
        time_s: seconds by stage, of this run.
        problems: category pages that could not be read, with the reason.
    """

    folder: Path
    site: str
    finished: bool
    already_finished: bool
    products: int
    kept: int
    dropped: dict[str, int]
    failed: dict[str, int]
    labels: dict[str, int]
    groups: int
    categories: int
    pages: int
    images: int
    answered: int
    requests: int
    bytes: int
    seconds: float
    time_s: dict[str, float]
    problems: dict[str, str]

    @property
    def images_per_s(self) -> float | None:
        """Thumbnail addresses answered for a second of the collecting stage; None if this run had none."""
        seconds = self.time_s.get("collect")
        return self.answered / seconds if seconds and not self.already_finished else None

    def to_json(self) -> dict[str, Any]:
        """The object that `bassline crawl --json` prints."""
        data = asdict(self)
        data["folder"] = str(self.folder)
        data["outcomes"] = {"kept": self.kept, "dropped": data.pop("dropped"), "failed": data.pop("failed")}
        data["images_per_s"] = self.images_per_s
        return data
