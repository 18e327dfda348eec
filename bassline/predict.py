"""`bassline predict`: a trained model on images, from the model file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from bassline import console
from shards.errors import BasslineError, ConfigError

__all__ = ["predict"]


class NothingPredicted(BasslineError):
    """Not one of the images could be read."""


def _files(paths: list[Path]) -> list[Path]:
    """The images named, and those in the folders named, in order of name."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ConfigError("IMAGE", "", f"{path}: no such file or folder")
        if path.is_dir():
            found += sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        else:
            found.append(path)
    if not found:
        raise ConfigError("IMAGE", "", f"{', '.join(map(str, paths))}: no files there")
    return found


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or its best.safetensors.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE|DIR...", help="Images, or folders of images.")],
    json: console.JsonFlag = False,
) -> None:
    """Say what a trained model sees in images; what cannot be read gets a line and does not stop the rest.

    Example: bassline predict demo/run photo.jpg more-photos/
    """
    files = _files(images)
    from trainer.predict import load  # imports torch: after the arguments are known to be right

    model = load(run)
    answers = model.predict(files)
    rows: list[dict[str, Any]] = [
        {"image": str(file), "error": answer.error}
        if answer.error
        else {
            "image": str(file),
            "label": answer.label,
            "probability": answer.probability,
            "probabilities": answer.probabilities,
        }
        for file, answer in zip(files, answers, strict=True)
    ]
    unread = [row for row in rows if "error" in row]
    if json:
        console.emit({"predictions": rows})
    else:
        table = console.table(
            f"{len(rows) - len(unread):,} images", "image", "label", "probability", right=("probability",)
        )
        for row in rows:
            if "label" in row:
                table.add_row(escape(row["image"]), row["label"], f"{row['probability']:.1%}")
        console.out.print(table)
    for row in unread:
        console.note(f"[yellow]![/] {escape(row['image'])}: {escape(row['error'])}")
    if len(unread) == len(rows):
        raise NothingPredicted(f"none of {len(rows)} images could be read; give JPEG, PNG or WebP files")
