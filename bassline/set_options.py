"""What the `bassline shards` commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["SPLIT_SHARD_SAMPLES", "SetPath"]

# Loaders that give each worker whole shards need several a part; a thousand thumbnails of 5 KB make one of 6 MB.
SPLIT_SHARD_SAMPLES = 1000

SetPath = Annotated[Path, typer.Argument(metavar="SET", help="Folder of the shard set.")]
