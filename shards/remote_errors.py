"""What can go wrong between here and a store. Each error names the address, without what is secret in it, and a remedy.

RemoteError
├── StoreUnusable      no package for it, no credentials, no permission, or it cannot be written
├── NotThere           no such bucket or object
├── TransferFailed     it broke again and again
├── TransferDamaged    what arrived are not the bytes the manifest tells of
├── PlaceTaken         a set would be written over something else
└── CacheTooSmall      the local cache cannot hold what must be here at once
"""

from __future__ import annotations

from pathlib import Path

from shards.address import scrub
from shards.shard_errors import ShardError

__all__ = [
    "CacheTooSmall",
    "NotThere",
    "PlaceTaken",
    "RemoteError",
    "StoreUnusable",
    "TransferDamaged",
    "TransferFailed",
]


class RemoteError(ShardError):
    """Base of what goes wrong with sets that are not on this machine."""

    def __init__(self, address: str, problem: str) -> None:
        self.address, self.problem = scrub(address), problem
        super().__init__(f"{self.address}: {problem}")


class StoreUnusable(RemoteError):
    """The store cannot be used from here as things are."""


class NotThere(RemoteError):
    """There is nothing at the address."""


class TransferFailed(RemoteError):
    """A transfer broke as often as it was tried; nothing of it was kept."""

    def __init__(self, address: str, attempts: int, last: str) -> None:
        self.attempts = attempts
        super().__init__(address, f"the transfer broke {attempts} times ({last}); nothing half was kept: try again")


class TransferDamaged(RemoteError):
    """The object's bytes are not those the manifest names."""

    def __init__(self, address: str, expected: str, found: str) -> None:
        self.expected, self.found = expected, found
        super().__init__(
            address,
            f"its bytes have sha256 {found[:12]}..., the manifest says {expected[:12]}...: it was changed or damaged "
            "there, and was not kept; `bassline shards verify` says what is wrong, a new copy mends it",
        )


class PlaceTaken(RemoteError):
    """Something else is there already."""

    def __init__(self, address: str, found: str) -> None:
        super().__init__(address, f"holds something already ({found}); name a new place or remove it first")


class CacheTooSmall(ShardError):
    """What must be on this machine at once is larger than the cache may grow."""

    def __init__(self, folder: Path, needed: int, bound: int, held: int = 0) -> None:
        self.folder, self.needed, self.bound = folder, needed, bound
        busy = f", of which {held / 1e9:,.2f} GB are in use by running commands" if held else ""
        super().__init__(
            f"{folder}: {needed / 1e9:,.2f} GB must be here at once, the cache may hold {bound / 1e9:,.2f} GB{busy}; "
            "raise BASSLINE_CACHE_SIZE (or `bassline --cache-size`), or `bassline shards copy` the set to a local disk"
        )
