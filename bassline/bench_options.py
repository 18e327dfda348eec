"""What the bench commands share."""

from __future__ import annotations

from pathlib import Path

from shards.errors import ConfigError

__all__ = ["check_out", "verdict_told"]

_COLOURS = {"reached": "green", "missed": "red"}


def check_out(out: Path | None) -> None:
    """Before minutes of measuring, not after.

    Raises:
        ConfigError: `--out` is a folder, or its folder does not exist.
    """
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise ConfigError("--out", "", f"{out}: expected a file in a folder that exists")


def verdict_told(verdict: str) -> str:
    """A target's verdict (`bench.targets`) with its colour."""
    return f"[{_COLOURS.get(verdict, 'yellow')}]{verdict}[/]"
