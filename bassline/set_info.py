"""`bassline shards info, head, sheet`: look at a shard set."""

from __future__ import annotations

import io
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from bassline import console, places
from bassline.set_options import ViewPath, part_folders
from shards.errors import ConfigError

if TYPE_CHECKING:
    from shards.shard_set import ShardSet

__all__ = ["head", "info", "sheet"]

_NOT_LOOKED = "by what the set says; `split` and `drop --near-duplicates` look themselves"
_BAR = 32  # characters of the longest bar
_PICTURE = 20  # columns, and half as many lines, of a picture in the terminal


def _open_parts(folder: Path, stack: ExitStack) -> dict[str, ShardSet]:
    from shards.shard_set import ShardSet

    return {name: stack.enter_context(ShardSet.open(part)) for name, part in part_folders(folder).items()}


@console.short_command
def info(shards: ViewPath, json: console.JsonFlag = False) -> None:
    """Say what a shard set or a split holds: counts by label, sizes, formats, dimensions, duplicates.

    Example: bassline shards info demo/set
    """
    from shards.describe import describe
    from shards.recipe import contradiction

    with ExitStack() as stack:
        told = {
            name: describe(opened) | {"split_problem": contradiction(opened.folder)}
            for name, opened in _open_parts(shards, stack).items()
        }
    if json:
        console.emit(told.get("", {"parts": told}))
        return
    columns = [name or "samples" for name in told] + (["all"] if len(told) > 1 else [])
    made = console.table(places.shown(shards), "label", *columns, "share", right=(*columns, "share"))
    labels = list(dict.fromkeys(label for part in told.values() for label in part["labels"]))
    total = sum(part["samples"] for part in told.values())
    for label in labels:
        counts = [part["labels"].get(label, 0) for part in told.values()]
        row = [*counts, sum(counts)] if len(told) > 1 else counts
        made.add_row(console.literal(label), *(f"{count:,}" for count in row), f"{sum(counts) / max(total, 1):.1%}")
    sums = [part["samples"] for part in told.values()] + ([total] if len(told) > 1 else [])
    made.add_row("[bold]all[/]", *(f"[bold]{count:,}[/]" for count in sums), "")
    console.out.print(made)
    for name, part in told.items():
        console.out.print()
        if name:
            console.out.print(f"[bold]{console.literal(name)}[/]")
        _print_part(part)


def _print_part(told: dict[str, Any]) -> None:
    def line(name: str, text: str) -> None:
        console.out.print(f"[dim]{name:<13}[/]{text}", soft_wrap=True)

    line("shards", f"{told['shards']:,}, {told['bytes'] / 1e6:,.1f} MB")
    line("formats", ", ".join(f"{count:,} {name}" for name, count in told["formats"].items()) or "none")
    for name, key, unit in (
        ("image size", "image_bytes", " bytes"),
        ("longer side", "longer_side", " pixels"),
        ("aspect", "aspect", ""),
    ):
        if (spread := told[key]) is not None:
            low, p05, middle, p95, high = (f"{spread[at]:,}" for at in ("least", "p05", "median", "p95", "most"))
            line(name, f"{low} to {high}{unit}, median {middle}, 90 % from {p05} to {p95}")
    bins = told["longer_side_histogram"]
    if len(bins) > 1:
        largest = max(item["samples"] for item in bins)
        for item in bins:
            bar = "█" * round(_BAR * item["samples"] / largest) or ("▏" if item["samples"] else "")
            line("", f"{item['from']:>6} to {item['to'] - 1:>6} [cyan]{bar}[/] {item['samples']:,}")
    shapes = ", ".join(f"{count:,} of {shape}" for shape, count in told["dimensions"].items())
    more = told["distinct_dimensions"] - len(told["dimensions"])
    line("dimensions", f"{shapes}{f'; {more:,} more' if more > 0 else ''}")
    twins = (
        f"{told['in_groups_of_several']:,} samples have near-duplicates, {told['exact_duplicates']:,} are exact ones"
    )
    mixed = told["groups_with_several_labels"]
    if told["groups"] == told["samples"] and not told["split"]:
        twins += f" ({_NOT_LOOKED})"
    line("groups", f"{told['groups']:,}; {twins}" + (f"; {mixed:,} groups have several labels" if mixed else ""))
    if told["quarantined"]:
        line("quarantine", f"{told['quarantined']:,} samples are passed over, and counted nowhere above")
    line("digest", told["digest"][:16])
    if told["split_problem"]:
        console.note(f"[yellow]![/] {console.literal(told['split_problem'])}")


@console.short_command
def head(
    shards: ViewPath,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many samples.")] = 10,
    label: Annotated[str | None, typer.Option(help="Only samples of this label.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="Only the sample with this key; repeat for more.")] = None,
    pictures: Annotated[bool, typer.Option("--pictures", help="Draw each picture, in half blocks of colour.")] = False,
    json: console.JsonFlag = False,
) -> None:
    """Show the first samples: where each lies, its label, size, title and address.

    Example: bassline shards head demo/set -n 5 --pictures
    """
    from shards.shard_set import ShardSet

    with ShardSet.open(shards) as opened:
        chosen = _chosen(opened, label, key or [], count)
        rows = [_row(opened, i) for i in chosen]
        drawn = [_blocks(opened.image(i)) if pictures and not json else None for i in chosen]
    if json:
        console.emit({"samples": rows})
        return
    made = Table.grid(padding=(0, 2, 1, 0))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for row, picture in zip(rows, drawn, strict=True):
        meta = row["meta"]
        said = f"[bold]{console.literal(row['key'])}[/]  [cyan]{console.literal(row['label'])}[/]"
        said += f"  {row['width']}x{row['height']} {row['ext']}, {row['bytes']:,} B"
        said += f"  [dim]{console.literal(row['where'])}[/]"
        lines = [said, *(console.literal(str(meta[name])) for name in ("title", "file") if meta.get(name))]
        lines += [
            f"[dim]{console.literal(str(meta[name]))}[/]" for name in ("product_url", "image_url") if meta.get(name)
        ]
        text = Text.from_markup("\n".join(lines))
        if picture is None:
            made.add_row(text)
        else:
            made.add_row(picture, text)
    console.out.print(made, soft_wrap=not pictures)


def _chosen(opened: ShardSet, label: str | None, keys: list[str], count: int) -> list[int]:
    if keys:
        found = []
        for key in keys:
            if (number := opened.find(key)) is None:
                raise ConfigError("--key", "", f"{key!r}: no such sample in {opened.folder}")
            found.append(number)
        return found
    if label is None:
        return list(range(min(count, len(opened))))
    if label not in opened.labels:
        raise ConfigError("--label", "", f"{label!r}: no such label; the set has {', '.join(opened.labels)}")
    wanted: list[int] = (opened.label_ids == opened.labels.index(label)).nonzero()[0][:count].tolist()
    return wanted


def _row(opened: ShardSet, i: int) -> dict[str, Any]:
    return {
        "key": opened.key(i),
        "label": opened.labels[int(opened.label_ids[i])],
        "ext": opened.ext(i),
        "width": int(opened.widths[i]),
        "height": int(opened.heights[i]),
        "bytes": int(opened.sizes[i]),
        "group": int(opened.groups[i]),
        "where": str(opened.where(i)).rpartition(" ")[0],
        "meta": opened.meta(i),
    }


def _blocks(data: memoryview) -> Text:
    """The picture in colour: two pixels a character, one above the other."""
    from PIL import Image

    made = Text()
    try:
        with Image.open(io.BytesIO(data)) as image:
            plain = image.convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return Text("cannot be\ndecoded", style="red")
    flat = Image.new("RGB", plain.size, "white")
    flat.paste(plain, mask=plain.getchannel("A"))
    height = max(2, min(_PICTURE, round(_PICTURE * flat.height / flat.width)) // 2 * 2)
    width = max(1, min(_PICTURE, round(height * flat.width / flat.height)))
    flat = flat.resize((width, height), Image.Resampling.BOX)
    pixels = flat.tobytes()
    for y in range(0, height, 2):
        for x in range(width):
            above, below = (pixels[3 * (line * width + x) :][:3] for line in (y, y + 1))
            made.append("▀", style=f"#{above.hex()} on #{below.hex()}")
        made.append("\n" if y + 2 < height else "")
    return made


class _By(StrEnum):
    LABEL = "label"
    GROUP = "group"
    SPLIT = "split"


@console.short_command
def sheet(
    shards: ViewPath,
    out: Annotated[Path, typer.Option(help="The .png or .html to write.")] = Path("sheet.png"),
    by: Annotated[_By, typer.Option(help="A section for each: label, group of near-duplicates, part.")] = _By.LABEL,
    largest: Annotated[bool, typer.Option("--largest", help="The largest pictures of each section.")] = False,
    smallest: Annotated[bool, typer.Option("--smallest", help="The smallest.")] = False,
    oddest: Annotated[
        bool,
        typer.Option("--oddest", help="Those least like their label in aspect, size, bytes a pixel or looks, and why."),
    ] = False,
    per_label: Annotated[int, typer.Option("--each", "--per-label", min=1, help="Pictures a section.")] = 24,
    most: Annotated[int, typer.Option(min=1, help="Sections.")] = 60,
    cell: Annotated[int, typer.Option(min=16, max=512, help="Pixels a picture.")] = 96,
    seed: Annotated[int, typer.Option(min=0, help="Decides which are shown.")] = 0,
    json: console.JsonFlag = False,
) -> None:
    """Draw a contact sheet of a set or split, to be looked at: a PNG, or a page with each picture's story on hover.

    Example: bassline shards sheet demo/set --out sheet.html --oddest
    """
    if largest + smallest + oddest > 1:
        raise ConfigError("shards sheet", "", "give one of --largest, --smallest and --oddest, or none for random ones")
    if out.suffix not in (".png", ".html"):
        raise ConfigError("--out", "", f"{out}: expected a name that ends in .png or .html")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise ConfigError("--out", "", f"{out}: expected a file in a folder that exists")
    from shards.sheet import sections
    from shards.sheet import sheet as draw_sheet

    order: Any = "largest" if largest else "smallest" if smallest else "oddest" if oddest else "random"
    with ExitStack() as stack:
        parts = _open_parts(shards, stack)
        made = sections(parts, by=by.value, order=order, each=per_label, most=most, seed=seed)
        if out.suffix == ".html":
            from bassline.sheet_page import write_page

            note = f"{sum(map(len, parts.values())):,} samples, {order} of each {by.value}. Hover or tab to a picture."
            name = places.shown(shards.absolute()).rstrip("/").rpartition("/")[2]
            write_page(made, out, title=f"{name}: contact sheet", note=note, cell=cell)
        else:
            draw_sheet(made, out, cell=cell)
        told: dict[str, Any] = {
            "page": str(out),
            "bytes": out.stat().st_size,
            "sections": [
                {
                    "title": section.title,
                    "samples": section.samples,
                    "shown": [
                        {"key": one.source.key(one.number), "part": one.part, "reason": one.reason}
                        for one in section.pictures
                    ],
                }
                for section in made
            ],
        }
    if json:
        console.emit(told)
    else:
        console.out.print(f"sheet: {out} ({told['bytes'] / 1e6:.1f} MB)", soft_wrap=True)
        if by.value == "group" and not made:
            console.note(f"[yellow]![/] no group of several: {_NOT_LOOKED}")
