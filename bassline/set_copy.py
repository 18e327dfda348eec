"""`bassline shards copy`: a set or a split to another place."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from bassline import console
from shards.address import scrub

__all__ = ["copy"]


@console.command
def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A set or a split: a folder or an address.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="Where it goes: a folder or an address.")],
    workers: Annotated[int, typer.Option(min=1, max=64, help="Shards carried at a time.")] = 4,
    json: console.JsonFlag = False,
) -> None:
    """Carry a set or a split to or from a store (s3://, or what else fsspec knows); run again, it goes on.

    Every tar is checked against the manifest's digest, a broken transfer is tried again, and the manifest goes last:
    what is not whole is no set. Credentials are taken from the usual environment. A crawl's ledger stays where it is.

    Example: bassline shards copy demo/set s3://bucket/set
    """
    from shards.copy import copy as copy_set
    from shards.store import Transfer

    with console.stage("copy") as stage:
        done = copy_set(
            source,
            target,
            transfer=Transfer(workers=workers),
            on_progress=lambda at: stage.update(at.done, at.total, f"{at.done / 1e6:,.0f} MB, {at.shards:,} shards"),
        )
        stage.summary = f"{done.samples:,} samples, {done.bytes / 1e6:,.1f} MB sent"
        if done.there:
            stage.summary += f", {done.there:,} shards were there"
    if json:
        console.emit({**asdict(done), "target": scrub(target)})
    else:
        console.out.print(f"shard set: {scrub(target)}", soft_wrap=True, markup=False)
