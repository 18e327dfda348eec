"""What can go wrong in a bench."""

from __future__ import annotations

from shards.errors import BasslineError

__all__ = ["BenchError", "ContenderFailed"]


class BenchError(BasslineError):
    """A measurement could not be made."""


class ContenderFailed(BenchError):
    """A contender's process ended without a measurement; carries the last line it wrote."""

    def __init__(self, name: str, last_line: str) -> None:
        self.name = name
        super().__init__(f"contender {name}: {last_line or 'ended without a word'}; measure the others with --only")
