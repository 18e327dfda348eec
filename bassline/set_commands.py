"""`bassline shards ...`: look at a shard set, check it, split it, make one from label folders.

The room is imported by the command that needs it: `--help` and a wrong option answer without NumPy and Pillow.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from bassline import console
from shards.errors import ConfigError

if TYPE_CHECKING:
    from shards.shard_set import ShardSet

__all__ = ["app", "run_split"]

# Loaders that give each worker whole shards need several a part; a thousand thumbnails of 5 KB make one of 6 MB.
SPLIT_SHARD_SAMPLES = 1000

_PARTS = 3  # train, val, test

app = typer.Typer(help="Look at shard sets, check, split and make them.", no_args_is_help=True)

SetPath = Annotated[Path, typer.Argument(metavar="SET", help="Folder of the shard set.")]


def _describe(opened: ShardSet) -> dict[str, Any]:
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


@app.command()
@console.command
def info(shards: SetPath, json: console.JsonFlag = False) -> None:
    """Say what a shard set holds: counts by label, sizes, formats, near-duplicates.

    Example: bassline shards info demo/set
    """
    from shards.shard_set import ShardSet

    with ShardSet.open(shards) as opened:
        told = _describe(opened)
    if json:
        console.emit(told)
        return
    made = console.table(str(shards), "label", "samples", "share", right=("samples", "share"))
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


@app.command()
@console.command
def head(
    shards: SetPath,
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
    made = console.table(str(shards), "key", "label", "image", "where", "title", right=("image",))
    for row in rows:
        title = str(row["meta"].get("title") or row["meta"].get("image_url") or "")
        image = f"{row['width']}x{row['height']} {row['ext']}, {row['bytes']:,} B"
        made.add_row(row["key"], row["label"], image, row["where"], escape(title))
    console.out.print(made)


def _numbers(option: str, text: str, kind: type[int] | type[float]) -> tuple[Any, ...]:
    """Three comma-separated numbers."""
    try:
        found = tuple(kind(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != _PARTS or any(number < 0 for number in found):
        example = "4500,1500,2000" if kind is int else "0.6,0.2,0.2"
        raise ConfigError(option, "", f"{text!r}: expected three numbers for train, val and test, such as {example}")
    return found


def _label_numbers(texts: list[str]) -> dict[str, tuple[int, ...]]:
    wanted = {}
    for text in texts:
        label, equals, numbers = text.rpartition("=")
        if not equals or not label:
            raise ConfigError("--label-counts", "", f"{text!r}: expected LABEL=N,N,N, such as guitar=3880,1311,1733")
        wanted[label] = _numbers(f"--label-counts {label}", numbers, int)
    return wanted


def run_split(
    source: Path,
    out: Path,
    *,
    seed: int,
    counts: tuple[int, ...] | None = None,
    fractions: tuple[float, ...] | None = None,
    label_counts: dict[str, tuple[int, ...]] | None = None,
) -> dict[str, Any]:
    """Splits with a progress line; returns what split.json says."""
    from shards.split import split as split_set

    words = {"hash": "hashing", "group": "grouping near-duplicates", "write": "writing"}
    with console.stage("split") as stage:
        made = split_set(
            source,
            out,
            counts=counts,
            fractions=fractions,
            label_counts=label_counts,
            seed=seed,
            shard_samples=SPLIT_SHARD_SAMPLES,
            on_progress=lambda at: stage.update(at.done, at.total, words[at.stage]),
        )
        recipe = made.recipe
        for part in made.parts.values():
            part.close()
        sizes = ", ".join(f"{name} {part['samples']:,}" for name, part in recipe["parts"].items())
        leaked = sum(recipe["naive"]["leaked"].values())
        stage.summary = f"{sizes}; {recipe['groups']['groups']:,} groups"
        if leaked:
            stage.summary += f" [dim](cut without them, {leaked:,} samples would have a near-duplicate elsewhere)[/]"
    return recipe


@app.command()
@console.command
def split(
    shards: SetPath,
    out: Annotated[Path, typer.Option(help="Folder of the split; must not exist, or be empty.")],
    counts: Annotated[
        str | None, typer.Option(metavar="N,N,N", help="Samples of train, val and test, in proportion for each label.")
    ] = None,
    fractions: Annotated[str | None, typer.Option(metavar="F,F,F", help="Shares of train, val and test.")] = None,
    label_counts: Annotated[
        list[str] | None, typer.Option(metavar="LABEL=N,N,N", help="Exact counts of one label; repeat for each.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides who goes where, and the order.")] = 0,
    json: console.JsonFlag = False,
) -> None:
    """Cut a shard set into train, val and test: stratified, exact, near-duplicates never on two sides.

    Example: bassline shards split demo/set --out parts --fractions 0.6,0.2,0.2 --seed 0
    """
    if sum(bool(value) for value in (counts, fractions, label_counts)) != 1:
        raise ConfigError("shards split", "", "give one of --counts, --fractions and --label-counts")
    recipe = run_split(
        shards,
        out,
        seed=seed,
        counts=_numbers("--counts", counts, int) if counts else None,
        fractions=_numbers("--fractions", fractions, float) if fractions else None,
        label_counts=_label_numbers(label_counts) if label_counts else None,
    )
    if json:
        console.emit(recipe)
        return
    made = console.table(str(out), "label", *recipe["parts"], right=tuple(recipe["parts"]))
    for label in recipe["source"]["counts"]:
        made.add_row(label, *(f"{part['counts'][label]:,}" for part in recipe["parts"].values()))
    made.add_row("[bold]all[/]", *(f"[bold]{part['samples']:,}[/]" for part in recipe["parts"].values()))
    console.out.print(made)


@app.command()
@console.command
def verify(
    shards: SetPath,
    decode: Annotated[bool, typer.Option(help="Decode every image too.")] = True,
    json: console.JsonFlag = False,
) -> None:
    """Check every byte of a shard set; says file and offset of what is wrong, and then ends with 1.

    Example: bassline shards verify demo/set
    """
    if not shards.is_dir():
        raise ConfigError("SET", "", f"{shards} is no folder; give the folder of a shard set")
    from shards.verify import verify as verify_set

    with console.stage("verify") as stage:
        findings = verify_set(
            shards,
            decode=decode,
            on_progress=lambda at: stage.update(at.samples, at.total or None, f"{at.findings:,} findings"),
        )
        stage.summary = f"{len(findings):,} findings" if findings else "nothing is wrong"
    if json:
        console.emit({"findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            console.out.print(escape(str(finding)), soft_wrap=True)
    if findings:
        raise typer.Exit(1)


@app.command()
@console.command
def index(
    shards: SetPath,
    labels: Annotated[
        list[str] | None, typer.Option("--label", help="Label names by number, over tars without a manifest; repeat.")
    ] = None,
    json: console.JsonFlag = False,
) -> None:
    """Make manifest and indexes anew from the tars, your own or other people's.

    Example: bassline shards index tars/ --label bass --label guitar
    """
    if not any(shards.glob("*.tar")):
        raise ConfigError("SET", "", f"{shards} holds no *.tar; give the folder of a shard set")
    from shards.shard_set import rebuild

    with console.stage("index") as stage, rebuild(shards, labels) as made:
        stage.summary = f"{len(made):,} samples in {len(made.manifest.shards)} shards"
        told = _describe(made)
    if json:
        console.emit(told)


@app.command()
@console.command
def sheet(
    shards: SetPath,
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


@app.command()
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
