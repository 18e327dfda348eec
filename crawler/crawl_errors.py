"""What can stop a crawl, in one tree; what can only cost one address is a `Refused` and ends in the drop report.

CrawlError
├── OtherSite      the folder belongs to a crawl by another site file
├── NotACrawl      the folder holds something that is no crawl
├── FolderUnusable the folder cannot be made or opened (no such place, read-only, a file, too long a name)
├── OtherLedger    the folder's ledger was written by another version
├── CrawlBusy      another process is crawling into the folder
├── NothingFound   the site file's selectors or label rules find nothing on the site
└── LedgerFailed   the ledger or the shard could not be written (a full disk)

Refused            one address will not be had: carries the reason for the drop report
"""

from __future__ import annotations

from pathlib import Path

from shards.errors import BasslineError

__all__ = [
    "CrawlBusy",
    "CrawlError",
    "FolderUnusable",
    "LedgerFailed",
    "NotACrawl",
    "NothingFound",
    "OtherLedger",
    "OtherSite",
    "Refused",
]


class CrawlError(BasslineError):
    """Base of everything that stops a crawl."""


class OtherSite(CrawlError):
    """The folder's crawl was begun with another site file."""

    def __init__(self, folder: Path, differs: str) -> None:
        self.folder, self.differs = folder, differs
        super().__init__(
            f"{folder}: begun with another site file ({differs} differs); "
            "go on with the one it was begun with, or name a new folder"
        )


class NotACrawl(CrawlError):
    """The folder is not empty and has no ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(f"{folder}: not empty, and not a crawl's folder; name a new folder or remove it first")


class FolderUnusable(CrawlError):
    """The folder cannot be made, or not be written in."""

    def __init__(self, folder: Path, problem: str) -> None:
        self.folder, self.problem = folder, problem
        super().__init__(f"{folder}: no folder for a crawl ({problem}); put that right or name another one")


class OtherLedger(CrawlError):
    """The ledger has the tables of another version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(f"{folder}: its ledger was written by another version of Bassline; crawl into a new folder")


class CrawlBusy(CrawlError):
    """Another process holds the ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(f"{folder}: another crawl is writing here; wait for it or stop it")


class NothingFound(CrawlError):
    """The crawl came to an end without what it was for."""

    def __init__(self, site: str, problem: str) -> None:
        self.site, self.problem = site, problem
        super().__init__(f"site {site!r}: {problem}")


class LedgerFailed(CrawlError):
    """The ledger or the shard cannot be written; what was committed is safe."""

    def __init__(self, folder: Path, problem: str) -> None:
        self.folder, self.problem = folder, problem
        full = "full" in problem or "No space" in problem or "quota" in problem
        remedy = "make room" if full else "put that right"
        super().__init__(f"{folder}: cannot be written ({problem}); {remedy} and run the same command again")


class Refused(Exception):
    """One address will not be had.

    Args:
        reason: the word that the drop report counts by, such as "robots" or "http-404".
        detail: the evidence.
        again: whether another attempt may go better.
        failed: whether it is a failure to count as such (network, server), not a decision of ours or the content's.
    """

    def __init__(self, reason: str, detail: str = "", *, again: bool = False, failed: bool = False) -> None:
        if not detail.isprintable():  # it may be a server's own words: one line, and nothing a terminal would obey
            detail = "".join(letter if letter.isprintable() else " " for letter in detail)
            detail = " ".join(detail.split())
        self.reason, self.detail, self.again, self.failed = reason, detail, again, failed
        super().__init__(f"{reason}: {detail}" if detail else reason)
