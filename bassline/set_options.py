"""What the `bassline shards` commands have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from shards.errors import ConfigError

__all__ = ["SPLIT_SHARD_SAMPLES", "SetPath", "part_folders"]

# Loaders that give each worker whole shards need several a part; a thousand thumbnails of 5 KB make one of 6 MB.
SPLIT_SHARD_SAMPLES = 1000

SetPath = Annotated[Path, typer.Argument(metavar="SET", help="Folder of the shard set.")]


def part_folders(folder: Path) -> dict[str, Path]:
    """The sets in a folder: of a split its parts by name, of a set itself under "".

    Raises:
        ConfigError: there is a split.json that names no parts.
    """
    recipe = folder / "split.json"
    if not recipe.is_file():
        return {"": folder}
    try:
        return {str(name): folder / str(name) for name in json.loads(recipe.read_bytes())["recipe"]["names"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(str(recipe), "recipe.names", f"cannot be read ({error!r}); name one part's folder") from None
