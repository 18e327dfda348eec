"""What a crawl says of itself: while it runs, and in the end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from crawler.traffic import Problem

__all__ = ["COSTS", "DROPS_NAME", "DROPS_PAGE_NAME", "CrawlReport", "CrawlStats", "HostStats"]

COSTS = ("pages", "requests", "bytes", "seconds")  # of a crawl, in its set's manifest too
DROPS_NAME = "drops.jsonl"
DROPS_PAGE_NAME = "drops.html"


@dataclass(frozen=True, slots=True)
class HostStats:
    """One host (host[:port]) now: counts of this run, and its budget.

    Attributes:
        requests, bytes, retries: ended requests, body bytes, second attempts.
        in_flight, window: requests in flight, and how many there may be now.
        parked_s: for how long it still wants to be left alone, or is let alone because it keeps failing.
        failing: requests that failed in a row, once the host is let alone for it; else 0.
        given_up: the reason, once nothing more is asked of it; else "".
        interval_s: at least so long between two starts; 0 is no limit.
        pending: images in the ledger not answered for yet.
        fetch_s, buckets: seconds in requests, and requests by `crawler.traffic.FETCH_BUCKETS_S`.
    """

    host: str
    requests: int
    bytes: int
    retries: int
    in_flight: int
    window: int
    parked_s: float
    interval_s: float
    pending: int
    fetch_s: float
    buckets: tuple[int, ...]
    failing: int = 0
    given_up: str = ""


@dataclass(slots=True)
class CrawlStats:
    """How far a crawl is; one object, updated in place and given to `on_progress` several times a second.

    `images` are thumbnail addresses known so far, `images_done` those answered for; `dropped` counts addresses by
    reason as they come in, and may change when the crawl is settled. Of a refresh, `unchanged` are the images that were
    asked for and have not changed, `refresh` is what it found, from settling on. `requests`, `bytes`, `seconds`
    are of this run. Rates are of the last five seconds; `eta_s` is None while it cannot be known. `hosts` has the
    busiest first. Queues: `listings_left` categories being or to be walked, `to_examine` images fetched, `to_ledger`
    results examined.
    """

    stage: str = "explore"  # explore (of a list: load), collect, settle, done
    step: str = ""  # what settling is at
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
    pages_per_s: float = 0.0
    images_per_s: float = 0.0
    bytes_per_s: float = 0.0
    eta_s: float | None = None
    listings_left: int = 0
    to_examine: int = 0
    to_ledger: int = 0
    hosts: tuple[HostStats, ...] = ()
    problems: dict[str, Problem] = field(default_factory=dict)
    unchanged: int = 0
    refresh: dict[str, int] | None = None


@dataclass(slots=True)
class Overlap:
    """Where labels met.

    Attributes:
        kind: "rules": several labels' rules fit the same category or product, and the first rule decided; "places":
            products are listed under several labels, and [labels] conflict decided.
        label: the label that was given; None if the products were left out.
        others: those that were not.
        places: categories, or products where titles decide or the kind is "places".
        products: how many products it concerns.
        example: the first of them: a path, a title or an address.
    """

    kind: str
    label: str | None
    others: tuple[str, ...]
    places: int
    products: int
    example: str

    def __str__(self) -> str:
        others, count = " and ".join(self.others), f"{self.products:,} product{'s' if self.products != 1 else ''}"
        if self.kind == "rules":
            where = f"{count}, such as {self.example!r}"
            return f"label rules of {self.label} and of {others} fit {where}: the first decided, {self.label}"
        fate = f"became {self.label} ([labels] conflict)" if self.label else "left out ([labels] conflict)"
        labels = " and ".join(filter(None, (self.label, *self.others)))
        return f"{count} listed under {labels}, such as {self.example}: {fate}"


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
        problems: category pages that could not be read, rows of a list that are none, with the reason.
        failed_pages: those of them that the network or the server kept from us: the next run asks again.
        label_conflicts: where labels met, and what decided.
        problem_classes: what was refused to this run, page or image, by reason: how often, and where first.
        unchanged: images of which this run was told that they are what they were (304).
        refresh: of the last refresh: products new, changed, unchanged, vanished; None of a first crawl.
        by_host: requests, bytes, retries and seconds in requests of this run by host, the busiest first.
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
    label_conflicts: list[Overlap] = field(default_factory=list)
    problem_classes: dict[str, Problem] = field(default_factory=dict)
    by_host: dict[str, dict[str, float]] = field(default_factory=dict)
    unchanged: int = 0
    refresh: dict[str, int] | None = None
    failed_pages: int = 0

    @property
    def bytes_per_s(self) -> float | None:
        """Body bytes a second of exploring and collecting; None if this run fetched nothing."""
        seconds = self.time_s.get("explore", 0.0) + self.time_s.get("collect", 0.0)
        return sum(host["bytes"] for host in self.by_host.values()) / seconds if seconds and self.by_host else None

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
        data["bytes_per_s"] = self.bytes_per_s
        return data
