"""`bassline shards convert`: a shard set of something else."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from bassline import console
from bassline.set_options import SPLIT_SHARD_SAMPLES
from shards.errors import ConfigError

__all__ = ["convert"]


@console.command
def convert(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that holds a folder of images per label.")],
    out: Annotated[Path, typer.Option(help="Folder of the new shard set; must not exist, or be empty.")],
    json: console.JsonFlag = False,
) -> None:
    """Make a shard set of label folders; what is no image, broken or there twice is named and left out.

    Example: bassline shards convert photos/ --out set
    """
    if not source.is_dir():
        raise ConfigError("DIR", "", f"{source} is no folder; give one that holds a folder of images per label")
    from shards.convert import from_folders

    with console.stage("convert") as stage:
        done = from_folders(
            source,
            out,
            shard_samples=SPLIT_SHARD_SAMPLES,
            on_progress=lambda at: stage.update(at.done, at.total, f"{at.dropped:,} dropped"),
        )
        with done.made as made:
            stage.summary = f"{len(made):,} samples in {len(made.labels)} labels, {len(done.dropped):,} files left out"
            told = {"samples": len(made), "labels": made.counts, "dropped": [asdict(item) for item in done.dropped]}
    if json:
        console.emit(told)
        return
    for item in done.dropped:
        console.note(f"[yellow]![/] {escape(item.path)}: {escape(item.reason)}")
    console.out.print(f"shard set: {out}", soft_wrap=True)
