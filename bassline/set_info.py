"""`bassline shards info, head, sheet`: look at a shard set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from bassline import console, places
from bassline.set_options import ViewPath

if TYPE_CHECKING:
    from shards.shard_set import ShardSet

__all__ = ["describe", "head", "info", "sheet"]


def describe(opened: ShardSet) -> dict[str, Any]:
    """What `info` says, as JSON."""
    import numpy as np

    sides = np.maximum(opened.widths, opened.heights)
    sizes = opened.sizes
    groups, members = np.unique(opened.groups, return_counts=True) if len(opened) else (np.empty(0), np.empty(0))

    def spread(values: Any) -> dict[str, int] | None:
        if not len(values):
            return None
        low, middle, high = (int(value) for value in np.percentile(values, (0, 50, 100)))
        return {"least": low, "median": middle, "most": high}

    return {
        "samples": len(opened),
        "labels": opened.counts,
        "split": opened.manifest.split,
        "shards": len(opened.manifest.shards),
        "bytes": sum(info.bytes for info in opened.manifest.shards),
        "formats": dict(Counter(opened.ext(index) for index in range(len(opened))).most_common()),
        "image_bytes": spread(sizes),
        "longer_side": spread(sides),
        "groups": len(groups),
        "in_groups_of_several": int(members[members > 1].sum()),
        "digest": opened.digest,
        "source": opened.manifest.source,
    }


@console.command
def info(shards: ViewPath, json: console.JsonFlag = False) -> None:
    """Say what a shard set holds: counts by label, sizes, formats, near-duplicates.

    Example: bassline shards info demo/set
    """
    from shards.shard_set import ShardSet

    with ShardSet.open(shards) as opened:
        told = describe(opened)
    if json:
        console.emit(told)
        return
    made = console.table(places.shown(shards), "label", "samples", "share", right=("samples", "share"))
    for label, count in told["labels"].items():
        made.add_row(label, f"{count:,}", f"{count / max(told['samples'], 1):.1%}")
    made.add_row("[bold]all[/]", f"[bold]{told['samples']:,}[/]", "")
    console.out.print(made)
    size, side = told["image_bytes"], told["longer_side"]
    console.out.print()
    console.out.print(f"[dim]shards[/]      {told['shards']}, {told['bytes'] / 1e6:,.1f} MB")
    console.out.print(
        f"[dim]formats[/]     {', '.join(f'{count:,} {name}' for name, count in told['formats'].items())}"
    )
    if size and side:
        console.out.print(f"[dim]image size[/]  {size['least']:,} to {size['most']:,} bytes, median {size['median']:,}")
        console.out.print(f"[dim]longer side[/] {side['least']} to {side['most']} pixels, median {side['median']}")
    console.out.print(
        f"[dim]groups[/]      {told['groups']:,}; {told['in_groups_of_several']:,} samples have near-duplicates"
    )
    console.out.print(f"[dim]digest[/]      {told['digest'][:16]}", soft_wrap=True)


@console.command
def head(
    shards: ViewPath,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many samples.")] = 10,
    json: console.JsonFlag = False,
) -> None:
    """Show the first samples: where each lies, its label, size and provenance.

    Example: bassline shards head demo/set -n 5
    """
    from shards.shard_set import ShardSet

    with ShardSet.open(shards) as opened:
        rows: list[dict[str, Any]] = [
            {
                "key": opened.key(index),
                "label": opened.labels[int(opened.label_ids[index])],
                "ext": opened.ext(index),
                "width": int(opened.widths[index]),
                "height": int(opened.heights[index]),
                "bytes": int(opened.sizes[index]),
                "where": str(opened.where(index)).rpartition(" ")[0],
                "meta": opened.meta(index),
            }
            for index in range(min(count, len(opened)))
        ]
    if json:
        console.emit({"samples": rows})
        return
    made = console.table(places.shown(shards), "key", "label", "image", "where", "title", right=("image",))
    for row in rows:
        title = str(row["meta"].get("title") or row["meta"].get("image_url") or "")
        image = f"{row['width']}x{row['height']} {row['ext']}, {row['bytes']:,} B"
        made.add_row(row["key"], row["label"], image, row["where"], escape(title))
    console.out.print(made)


@console.command
def sheet(
    shards: ViewPath,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("sheet.png"),
    per_label: Annotated[int, typer.Option(min=1, help="Pictures a label.")] = 24,
    cell: Annotated[int, typer.Option(min=16, max=512, help="Pixels a picture.")] = 96,
    seed: Annotated[int, typer.Option(min=0, help="Decides which are shown.")] = 0,
    json: console.JsonFlag = False,
) -> None:
    """Draw a contact sheet: random samples of every label, to be looked at.

    Example: bassline shards sheet demo/set --out sheet.png
    """
    from shards.shard_set import ShardSet
    from shards.sheet import sheet as draw_sheet

    with ShardSet.open(shards) as opened:
        page = draw_sheet(opened, out, per_label=per_label, cell=cell, seed=seed)
    if json:
        console.emit({"page": str(page)})
    else:
        console.out.print(f"sheet: {page}", soft_wrap=True)
