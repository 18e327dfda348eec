"""What the bench commands share."""

from __future__ import annotations

import tempfile
from pathlib import Path

from shards.errors import ConfigError

__all__ = ["check_out", "verdict_told"]

_COLOURS = {"reached": "green", "missed": "red"}


def check_out(**targets: Path | None) -> None:
    """Looks at the files a command is to write before minutes of measuring, not after.

    Args:
        targets: each by the name of its option ("out" is `--out`); None: not asked for.

    Raises:
        ConfigError: one is a folder, its folder does not exist or cannot be written to, or two are the same file.
    """
    seen: dict[Path, str] = {}
    for name, path in targets.items():
        if path is None:
            continue
        option = f"--{name}"
        if path.is_dir() or not path.parent.is_dir():
            raise ConfigError(option, "", f"{path}: expected a file in a folder that exists")
        try:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            problem = f"{path} cannot be written ({error.strerror}); name another place"
            raise ConfigError(option, "", problem) from None
        if (other := seen.setdefault(path.resolve(), option)) != option:
            raise ConfigError(option, "", f"{path} is what {other} is to write; name another file")


def verdict_told(verdict: str) -> str:
    """A target's verdict (`bench.targets`) with its colour."""
    return f"[{_COLOURS.get(verdict, 'yellow')}]{verdict}[/]"
