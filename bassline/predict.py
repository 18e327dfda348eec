"""`bassline predict`: a trained model on images, folders, sets and addresses, from the model file alone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bassline import console, places
from bassline.set_options import part_folders
from shards.errors import BasslineError, ConfigError

if TYPE_CHECKING:
    from shards.shard_set import ShardSet
    from trainer.predict import Model, Prediction

__all__ = ["Part", "count", "image_files", "passed_over", "predict"]

_BATCH = 256
_ADDRESSES = 64  # bodies of up to 10 MB each are held together
_SHOWN = 3  # labels of an image in the table
_IMAGES = {
    "jpg",
    "jpeg",
    "jpe",
    "jfif",
    "png",
    "webp",
    "gif",
    "bmp",
    "tif",
    "tiff",
    "ppm",
    "tga",
    "avif",
    "heic",
    "jp2",
}

Part = Annotated[str, typer.Option("--part", metavar="NAME", help="Of a split: which of its parts.")]


class NotAllRead(BasslineError):
    """Some of the images could not be read; the others were labelled."""


@dataclass(frozen=True, slots=True)
class Address:
    """An image's address on the web."""

    url: str


@dataclass(frozen=True, slots=True)
class _Item:
    """One image to come: its name to a person, where it is, and the label it has in its set (None: no set)."""

    name: str
    source: Path | Address | tuple[ShardSet, int]
    truth: str | None = None


def thing(text: str) -> Any:
    """What is to be labelled: an Address, or a Path or Source as of any command that looks at sets."""
    return Address(text) if re.match(r"(?i)https?:", text) else places.lazy(text)


def _items(things: list[Any], part: str) -> tuple[list[tuple[int, Iterator[_Item]]], list[str]]:
    """The images in the things named, each with their number; and what was passed over in folders.

    Raises:
        ConfigError: a thing is not there, or has no images.
    """
    found: list[tuple[int, Iterator[_Item]]] = []
    passed: list[str] = []
    for named in things:
        if isinstance(named, Address):
            found.append((1, iter([_Item(named.url, named)])))
        elif not named.exists():
            raise ConfigError("IMAGE", "", f"{named}: no such file or folder")
        elif (named / "dataset.json").is_file() or (named / "split.json").is_file() or places.is_elsewhere(named):
            found.append(_of_set(named, part))
        elif named.is_dir():
            files, others = image_files(named)
            if not files:
                raise ConfigError("IMAGE", "", f"{named}: no images in this folder")
            found.append((len(files), (_Item(str(file), file) for file in files)))
            if others:
                passed.append(passed_over(named, others))
        else:
            found.append((1, iter([_Item(str(named), named)])))
    return found, passed


def _of_set(folder: Path, part: str) -> tuple[int, Iterator[_Item]]:
    from shards.shard_set import ShardSet

    chosen = choose_part(folder, part)
    source = ShardSet.open(chosen)
    name = chosen.name if chosen != folder else places.shown(folder).rstrip("/").rpartition("/")[2]
    labels = [source.labels[number] for number in source.label_ids.tolist()]
    return len(source), (_Item(f"{name}/{source.key(i)}", (source, i), labels[i]) for i in range(len(source)))


def choose_part(folder: Path, part: str) -> Path:
    """The set itself, or of a split the part that is meant.

    Raises:
        ConfigError: the split has no such part.
    """
    parts = part_folders(folder)
    if list(parts) == [""]:
        return folder
    if part not in parts:
        raise ConfigError("--part", part, f"{places.shown(folder)} has the parts {', '.join(parts)}")
    return parts[part]


def image_files(folder: Path) -> tuple[list[Path], list[str]]:
    """Files that by their names or their first bytes are images, in order of name; and the others' names."""
    from shards.sample import sniff

    files, others = [], []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        if path.suffix[1:].lower() in _IMAGES or _begins_as_image(path, sniff):
            files.append(path)
        else:
            others.append(path.name)
    return files, others


def passed_over(folder: Path, others: list[str]) -> str:
    """A line on the files of a folder that are no images."""
    return f"{folder}: {len(others):,} of its files are no images and were passed over, {others[0]} the first"


def _begins_as_image(path: Path, sniff: Any) -> bool:
    try:
        with path.open("rb") as file:
            return sniff(file.read(512)) not in (None, "svg")
    except OSError:
        return True  # it gets its line when it is read


def _answers(model: Model, items: list[_Item], allow_private: list[str]) -> list[Prediction]:
    """What the model says of some images, each from wherever it is."""
    from shards.shard_errors import ShardError
    from trainer.predict import Prediction

    images: list[Any] = []
    failed: dict[int, str] = {}
    for place, item in enumerate(items):
        if isinstance(item.source, tuple):
            source, number = item.source
            try:
                images.append(source.image(number))
            except ShardError as error:
                images.append(b"")
                failed[place] = str(error)
        else:
            images.append(item.source if isinstance(item.source, Path) else b"")
    wanted = [place for place, item in enumerate(items) if isinstance(item.source, Address)]
    if wanted:
        from crawler.crawl_errors import Refused
        from crawler.singles import fetch_images

        urls = [items[place].name for place in wanted]
        for place, got in zip(wanted, asyncio.run(fetch_images(urls, allow_private=allow_private)), strict=True):
            if isinstance(got, Refused):
                hint = "; --allow-private HOST takes it" if "not public" in got.detail else ""
                failed[place] = f"cannot be had: {got}{hint}"
            else:
                images[place] = got
    found = model.predict(images, batch=_BATCH)
    for place, why in failed.items():
        found[place] = Prediction("", 0.0, {}, why)
    return found


def _row(item: _Item, answer: Prediction) -> dict[str, Any]:
    row: dict[str, Any] = {"image": item.name}
    if item.truth is not None:
        row["truth"] = item.truth
    if answer.error is not None:
        return {**row, "error": answer.error}
    return {**row, "label": answer.label, "probability": answer.probability, "probabilities": answer.probabilities}


def _test(rows: list[dict[str, Any]], labels: tuple[str, ...]) -> dict[str, Any] | None:
    """How right the answers are on images of sets whose label the model knows; None where there are none."""
    known = [row for row in rows if "label" in row and row.get("truth") in labels]
    if not known:
        return None
    import numpy as np

    from trainer.metrics import measure

    number = {label: i for i, label in enumerate(labels)}
    truth, answer = (np.array([number[row[key]] for row in known], np.int64) for key in ("truth", "label"))
    shares = np.array([list(row["probabilities"].values()) for row in known], np.float32)
    return measure(truth, answer, labels, probabilities=shares).to_json()


def _table(rows: list[dict[str, Any]]) -> None:
    read = [row for row in rows if "label" in row]
    with_truth = any("truth" in row for row in read)
    columns = ["image", *(["truth"] if with_truth else []), "label", "probability", "then"]
    table = console.table(count(len(read)), *columns, right=("probability",))
    table.columns[0].overflow = "fold"
    for row in read:
        ranked = sorted(row["probabilities"].items(), key=lambda one: -one[1])
        then = ", ".join(f"{console.literal(label)} {share:.1%}" for label, share in ranked[1:_SHOWN])
        wrong = "truth" in row and row["truth"] != row["label"]
        label = console.literal(row["label"])
        cells = [console.literal(row["image"]), *([console.literal(row.get("truth", ""))] if with_truth else [])]
        table.add_row(*cells, f"[red]{label}[/]" if wrong else label, f"{row['probability']:.1%}", f"[dim]{then}[/]")
    console.out.print(table)


def _test_line(test: dict[str, Any]) -> str:
    low, high = test["ci95"]
    line = (
        f"{test['accuracy']:.2%} of {test['samples']:,} right (95 % interval {low:.2%} to {high:.2%}), "
        f"majority {test['majority_rate']:.2%}, balanced accuracy {test['balanced_accuracy']:.2%}"
    )
    return line + (f"; it only ever says {console.literal(test['single_class'])}" if test["single_class"] else "")


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or its best.safetensors alone.")],
    images: Annotated[
        list[Any],
        typer.Argument(
            metavar="IMAGE|DIR|SET|SPLIT|URL...",
            parser=thing,
            help="Images, folders of images, shard sets, splits (--part), http(s) addresses of images.",
        ),
    ],
    part: Part = "test",
    lines: Annotated[bool, typer.Option("--lines", help="A JSON line an image on stdout, as they are done.")] = False,
    allow_private: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Of addresses: a host that may be in a private network; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: the GPU where there is one.")] = "auto",
    json: console.JsonFlag = False,
) -> None:
    """Say what a trained model sees in images, by its own preprocessing; of a set, how often it is right too.

    An image that cannot be read gets a line on stderr and does not stop the rest; the exit code is 1 then.

    Example: bassline predict demo/run photo.jpg more-photos/ https://shop.example/bass.jpg

    Example: bassline predict demo/run demo/split --part test --lines > answers.jsonl
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError("--device", device, "expected cpu, cuda or auto")
    groups, passed = _items(images, part)
    model = _load(run, device)
    total = sum(size for size, _ in groups)
    rows: list[dict[str, Any]] = []
    unread = 0
    with console.stage("predict") as stage:
        stage.update(0, total)
        stream = (item for _, inner in groups for item in inner)
        step = _ADDRESSES if any(isinstance(named, Address) for named in images) else _BATCH
        while chunk := list(islice(stream, step)):
            for item, answer in zip(chunk, _answers(model, chunk, allow_private or []), strict=True):
                row = _row(item, answer)
                rows.append(row)
                if lines:
                    console.emit(row)
                if "error" in row:
                    unread += 1
                    console.note(f"[yellow]![/] {console.literal(item.name)}: {console.literal(row['error'])}")
            stage.update(len(rows), total, f"{len(rows):,} of {total:,} images")
        stage.summary = f"{count(len(rows) - unread)} by {console.literal(model.card.run)}"
    for line in passed:
        console.note(f"[dim]{console.literal(line)}[/]")
    test = _test(rows, model.labels)
    if not (lines or json) and unread < len(rows):
        _table(rows)
        if test:
            console.out.print(_test_line(test), soft_wrap=True)
    if json:
        told = {} if lines else {"predictions": rows}
        console.emit({**told, "read": len(rows) - unread, "unread": unread, "test": test})
    if unread:
        if unread < len(rows):
            raise NotAllRead(f"{unread:,} of {count(len(rows))} could not be read, named above")
        fetched = any(isinstance(named, Address) for named in images)
        raise NotAllRead(
            f"none of {count(len(rows))} could be read{', see above' if fetched else '; give JPEG, PNG or WebP files'}"
        )


def count(images: int) -> str:
    return "1 image" if images == 1 else f"{images:,} images"


def _load(run: Path, device: str) -> Model:
    from trainer.config import Train
    from trainer.device import choose_device
    from trainer.predict import load  # imports torch: after the arguments are known to be right

    there = choose_device(Train(device=device))  # type: ignore[arg-type]
    return load(run, device=str(there))
