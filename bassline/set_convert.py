"""`bassline shards convert`: a shard set of something else, something else of a set, or the same set made anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bassline import console, places
from bassline.set_options import SPLIT_SHARD_SAMPLES, OutPath
from shards.address import is_address, local_path
from shards.errors import ConfigError

if TYPE_CHECKING:
    from shards.conversion import Conversion, ConvertProgress, Dropped
    from shards.recode import Recode

__all__ = ["convert"]

_SHOWN = 40  # files left out on a terminal; the rest is counted, and in --json


class To(StrEnum):
    """What is made."""

    SET = "set"
    FOLDERS = "folders"
    NPY = "npy"


class Fit(StrEnum):
    """How a picture is made square."""

    PAD = "pad"
    CROP = "crop"
    STRETCH = "stretch"


class Format(StrEnum):
    """What pictures are encoded as."""

    SAME = "same"
    JPG = "jpg"
    PNG = "png"
    WEBP = "webp"


def _source(text: str) -> Any:
    """A set or split in a store is fetched; tars in one are fetched one by one; all else stays as it was written."""
    if not is_address(text) or ".tar" in text.rpartition("/")[2]:
        return text
    place = local_path(text)
    return str(place) if place is not None else places.whole(text)


@console.short_command
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            parser=_source,
            help="Label folders; data.npy (or its folder); tars made by others: a folder, a file, a pattern "
            "('{000..012}.tar', quoted), an address; a shard set or a split.",
        ),
    ],
    out: OutPath,
    to: Annotated[To, typer.Option(help="Make a shard set, label folders, or data.npy and labels.npy.")] = To.SET,
    size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Resize to this many pixels square (Pillow, Lanczos).")
    ] = None,
    fit: Annotated[Fit, typer.Option(help="With --size: pad with white, crop the middle, or stretch.")] = Fit.PAD,
    quality: Annotated[
        int | None, typer.Option(metavar="1-100", help="Of JPEG and WebP made anew [90]; PNG stays lossless.")
    ] = None,
    image_format: Annotated[
        Format, typer.Option("--format", help="Encode as this; of arrays 'same' is PNG.")
    ] = Format.SAME,
    label_from: Annotated[
        str,
        typer.Option(
            metavar="WHERE",
            help="Of others' tars, where the label is: auto, cls, txt, json:KEY, folder (of the key), tar (its name), "
            "const:NAME, or a component's extension.",
        ),
    ] = "auto",
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME", help="Names of the labels by number; repeat.")
    ] = None,
    label_file: Annotated[
        Path | None,
        typer.Option(
            "--labels", metavar="FILE", help="Of arrays: the labels.", show_default="labels.npy beside the data"
        ),
    ] = None,
    keep_duplicates: Annotated[bool, typer.Option(help="Keep images with equal bytes, too.")] = False,
    json: console.JsonFlag = False,
) -> None:
    """Make a shard set of label folders, arrays or others' tars; of a set folders or arrays; or a set anew, smaller.

    What is no image, broken or there twice is named and left out. Provenance goes along in samples.jsonl, so that a set
    that went out comes back the same; pictures deleted or moved to another label's folder meanwhile stay so.

    Example: bassline shards convert photos/ --out set
    Example: bassline shards convert set --out small --size 64 --quality 90
    Example: bassline shards convert set --to folders --out photos
    Example: bassline shards convert 'laion/{00000..00012}.tar' --label-from json:instrument --out set
    """
    text = str(source)  # a fetched set is a Path
    from shards.convert import Recode, kind_of

    recode = Recode(size, fit.value, quality, image_format.value)
    kind = kind_of(text)
    if to is not To.SET and kind != "set":
        raise ConfigError(
            "--to", "", f"{to.value} is made of a shard set; {text} is not one: convert it to a set first"
        )
    if to is not To.SET and places.is_elsewhere(out):
        raise ConfigError(
            "--out", "", f"only sets and splits are written to stores; give a local folder for {to.value}"
        )
    with console.stage("convert") as stage:

        def show(at: ConvertProgress) -> None:
            if at.done % 16 == 0 or at.done == at.total:
                stage.update(at.done, at.total or None, f"{at.dropped:,} dropped" if at.dropped else "")

        if kind == "set" and to is not To.SET:
            told, notes, dropped = _exported(Path(text), out, to, recode, show)
        elif kind == "split":
            told, notes, dropped = _split(Path(text), out, recode, show)
        else:
            done = _made(kind, text, out, recode, label_from, labels, label_file, keep_duplicates, show)
            notes, dropped = done.notes, done.dropped
            with done.made as made:
                told = {"samples": len(made), "labels": made.counts, "digest": made.digest}
        stage.summary = f"{told['samples']:,} samples"
        if "labels" in told:
            stage.summary += f" in {len(told['labels'])} labels"
        stage.summary += f", {len(dropped):,} files left out"
    told |= {"out": places.shown(out), "notes": list(notes), "dropped": [asdict(item) for item in dropped]}
    if json:
        console.emit(told)
        return
    for item in dropped[:_SHOWN]:
        console.note(f"[yellow]![/] {console.literal(item.path)}: {console.literal(item.reason)}")
    if len(dropped) > _SHOWN:
        console.note(f"[yellow]![/] and {len(dropped) - _SHOWN:,} more; --json has them all")
    for line in notes:
        console.note(f"[dim]·[/] {console.literal(line)}")
    what = {To.SET: "split" if kind == "split" else "shard set", To.FOLDERS: "label folders", To.NPY: "arrays"}[to]
    console.out.print(f"{what}: {places.shown(out)}", soft_wrap=True, markup=False)


Told = tuple[dict[str, Any], "tuple[str, ...]", "tuple[Dropped, ...]"]


def _exported(source: Path, out: Path, to: To, recode: Recode, show: Callable[[ConvertProgress], None]) -> Told:
    from shards.convert import to_arrays, to_folders
    from shards.shard_set import ShardSet

    with ShardSet.open(source) as opened:
        done = (to_folders if to is To.FOLDERS else to_arrays)(opened, out, recode=recode, on_progress=show)
        return {"samples": done.samples, "labels": opened.counts}, done.notes, ()


def _split(source: Path, out: Path, recode: Recode, show: Callable[[ConvertProgress], None]) -> Told:
    from shards.convert import from_split

    if not recode.changes:
        raise ConfigError("SOURCE", "", f"{source} is a split: give --size, --quality or --format to make it anew")
    count, dropped = from_split(source, out, recode=recode, shard_samples=SPLIT_SHARD_SAMPLES, on_progress=show)
    return {"samples": count}, (), dropped


def _made(
    kind: str,
    source: str,
    out: Path,
    recode: Recode,
    label_from: str,
    labels: list[str] | None,
    label_file: Path | None,
    keep_duplicates: bool,
    show: Callable[[ConvertProgress], None],
) -> Conversion:
    from shards import convert
    from shards.arrays import DATA_NAME, LABELS_NAME

    common: dict[str, Any] = {"recode": recode, "shard_samples": SPLIT_SHARD_SAMPLES, "on_progress": show}
    if kind == "folders":
        return convert.from_folders(Path(source), out, keep_duplicates=keep_duplicates, **common)
    if kind == "arrays":
        data = Path(source) if source.endswith(".npy") else Path(source) / DATA_NAME
        return convert.from_arrays(data, label_file or data.with_name(LABELS_NAME), out, names=labels, **common)
    if kind == "tars":
        return convert.from_tars(
            [source], out, label_from=label_from, labels=labels, keep_duplicates=keep_duplicates, **common
        )
    from shards.shard_set import ShardSet

    with ShardSet.open(Path(source)) as opened:
        return convert.from_set(opened, out, **common)
