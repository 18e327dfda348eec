"""What the `bassline shards` commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bassline import places

__all__ = ["SPLIT_SHARD_SAMPLES", "LocalSetPath", "OutPath", "RawSetPath", "SetPath", "ViewPath", "part_folders"]

# Loaders that give each worker whole shards need several a part; a thousand thumbnails of 5 KB make one of 6 MB.
SPLIT_SHARD_SAMPLES = 1000

_HELP = "Folder of the shard set, or an address such as s3://bucket/set."

SetPath = Annotated[Path, typer.Argument(metavar="SET", parser=places.whole, help=_HELP)]

LocalSetPath = Annotated[Path, typer.Argument(metavar="SET", help="Folder of the shard set.")]

# Only looked at: of a set in a store its tars are fetched as they are read.
ViewPath = Annotated[Path, typer.Argument(metavar="SET", parser=places.lazy, help=_HELP)]

# To be checked: of a set in a store everything is fetched as it is, damage and all.
RawSetPath = Annotated[Path, typer.Argument(metavar="SET", parser=places.raw, help=_HELP)]

OutPath = Annotated[
    Path,
    typer.Option(
        metavar="DIR", parser=places.target, help="Folder or address to write to; must not exist, or be empty."
    ),
]


def part_folders(folder: Path) -> dict[str, Path]:
    """The sets in a folder: of a split its parts by name, of a set itself under "".

    Raises:
        ConfigError: there is a split.json that names no parts.
    """
    recipe = folder / "split.json"
    if not recipe.is_file():
        return {"": folder}
    from shards.recipe import part_names

    return {name: folder / name for name in part_names(recipe.read_bytes(), str(recipe))}
