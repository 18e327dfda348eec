"""Where the files that travel with the program are: beside the rooms in a checkout, inside this package in a wheel."""

from __future__ import annotations

from pathlib import Path

from shards.errors import ConfigError

__all__ = ["battery"]

_HERE = Path(__file__).resolve().parent


def battery(name: str) -> Path:
    """The path of a shipped run file or battery, such as "demo.toml".

    Raises:
        ConfigError: there is none of that name.
    """
    for folder in (_HERE / "battery", _HERE.parent / "battery"):
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(name, "", "no such shipped run file")
