"""`bassline explain`: what a net looks at, and whether its maps mean anything."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from bassline import console
from bassline.predict import choose_part, count, image_files, passed_over
from shards.errors import BasslineError, ConfigError

if TYPE_CHECKING:
    from trainer.predict import Model
    from trainer.survey import Subjects, Survey

__all__ = ["explain", "of_set"]

PAGE_NAME = "explain.html"
MOST = 2_000
"""Images of a set that are looked at."""


class NothingToExplain(BasslineError):
    """Not one of the images could be read."""


def explain(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or its best.safetensors.")],
    things: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...|SET", help="Images, folders of images, or one set or split.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Page and pictures.", show_default="RUN/explain")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Images shown.")] = 24,
    layer: Annotated[str, typer.Option(metavar="NAME", help="The module Grad-CAM looks at.")] = "",
    baseline: Annotated[str, typer.Option(help="The blank image: white, black or mean.")] = "white",
    steps: Annotated[int, typer.Option(min=2, help="Points of the integrated gradients.")] = 32,
    occlusion: Annotated[
        bool | None, typer.Option("--occlusion/--no-occlusion", help="By default for small nets only.")
    ] = None,
    json: console.JsonFlag = False,
) -> None:
    """Draw what in an image moved the answer, and say whether such a map means anything for this net.

    Of a set also: the mean map of each label, the most and least certain images, where it looks when it errs. One page
    and PNG files. Needs captum: the extra `explain`.

    Example: bassline explain runs/T5 demo/split

    Example: bassline explain runs/T5 bass.jpg guitar.jpg --out maps
    """
    if baseline not in ("white", "black", "mean"):
        raise ConfigError("--baseline", baseline, "white, black or mean was expected")
    for path in things:
        if not path.exists():
            raise ConfigError("IMAGE", "", f"{path}: no such file, folder or set")
    chosen, passed = _chosen(things)
    target = out or (run if run.is_dir() else run.parent) / "explain"
    if target.exists() and not (target / PAGE_NAME).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError("--out", "", f"{target} holds something else; give another folder")
    with console.stage("explain") as stage:
        stage.update(0, None, "loading torch and captum")
        from trainer.explain import Explainer, need_captum
        from trainer.predict import load
        from trainer.survey import survey

        need_captum()
        model = load(run)
        explainer = Explainer(
            model, baseline=baseline, layer=layer, steps=steps, occlude=occlusion, images=images,  # type: ignore[arg-type]
        )  # fmt: skip
        stage.update(0, None, "reading the images")
        subjects, unread = of_set(model, chosen) if isinstance(chosen, Path) else _of_files(model, chosen)
        found = survey(explainer, subjects, images=images, on_progress=stage.update)
        stage.summary = f"{count(sum(len(group.images) for group in found.groups))} of {len(subjects.names):,}"
        from bassline.explain_page import write

        beside = target.with_name(f".{target.name}.part")
        shutil.rmtree(beside, ignore_errors=True)
        try:
            beside.mkdir(parents=True)
            files = write(beside, PAGE_NAME, explainer, found)
            shutil.rmtree(target, ignore_errors=True)
            beside.replace(target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    for name, why in unread:
        console.note(f"[yellow]![/] {escape(name)}: {escape(why)}")
    for line in passed:
        console.note(f"[dim]{console.literal(line)}[/]")
    if json:
        console.emit(_told(found, explainer.left_out, target, files, unread))
        return
    _say(found, explainer.left_out, target)


def _say(found: Survey, left_out: list[str], target: Path) -> None:
    from trainer.explain import METHODS

    if found.single_class:
        console.note(
            f"[yellow]![/] it says {found.single_class!r} to every one of these images: its maps show what moves its "
            "certainty, not what it tells labels apart by"
        )
    for each in found.sanity:
        mark = {"learned": "[green]✓[/]", "partly": "[yellow]![/]"}.get(each.verdict, "[red]✗[/]")
        console.out.print(f"{mark} [bold]{METHODS[each.method]}[/]: {each.said}", soft_wrap=True)
    for line in left_out:
        console.note(f"[dim]left out: {line}[/]")
    console.out.print(f"\npage: {target / PAGE_NAME}", soft_wrap=True)


def _told(
    found: Survey, left_out: list[str], target: Path, files: list[str], unread: list[tuple[str, str]]
) -> dict[str, Any]:
    subjects = found.subjects
    return {
        "page": str(target / PAGE_NAME),
        "files": files,
        "images": len(subjects.names),
        "shown": {group.title: [subjects.names[each.number] for each in group.images] for group in found.groups},
        "sanity": [each.to_json() for each in found.sanity],
        "single_class": found.single_class,
        "completeness_gap": found.gap,
        "left_out": left_out,
        "unreadable": [{"image": name, "error": why} for name, why in unread],
    }


def _chosen(things: list[Path]) -> tuple[Path | list[Path], list[str]]:
    """The one set named, or the images; and what was passed over in folders.

    Raises:
        ConfigError: a set among other things, a split without a test part, a folder without images.
    """
    files: list[Path] = []
    passed: list[str] = []
    for path in things:
        set_there = [folder for folder in (path, path / "test") if (folder / "dataset.json").is_file()]
        if set_there or (path / "split.json").is_file():
            if len(things) > 1:
                raise ConfigError("SET", "", f"{path} is a set: give it alone, or images and folders of images")
            return (set_there[0] if set_there else choose_part(path, "test")), []
        inner, others = image_files(path) if path.is_dir() else ([path], [])
        if not inner:
            raise ConfigError("IMAGE", "", f"{path}: no images in this folder")
        if others:
            passed.append(passed_over(path, others))
        files += inner
    return files, passed


def _of_files(model: Model, files: list[Path]) -> tuple[Subjects, list[tuple[str, str]]]:
    return _gather(model, [str(each) for each in files], files, None)


def of_set(model: Model, folder: Path, most: int = MOST) -> tuple[Subjects, list[tuple[str, str]]]:
    """Images of a set, evenly taken where they are more than `most`, and those that cannot be read.

    Raises:
        ConfigError: its labels are not the model's.
        NothingToExplain: none can be read.
    """
    import numpy as np

    from shards.shard_set import ShardSet

    with ShardSet.open(folder) as opened:
        if opened.labels != model.labels:
            raise ConfigError(
                "SET", "", f"{folder} has the labels {', '.join(opened.labels)}, the model {', '.join(model.labels)}"
            )
        numbers = np.linspace(0, len(opened) - 1, min(most, len(opened))).astype(int).tolist()
        return _gather(
            model, [opened.key(i) for i in numbers], [opened.image(i) for i in numbers],
            [int(opened.label_ids[i]) for i in numbers],
        )  # fmt: skip


def _gather(
    model: Model, names: list[str], images: list[Any], truth: list[int] | None
) -> tuple[Subjects, list[tuple[str, str]]]:
    import numpy as np
    import torch

    from trainer.survey import Subjects

    squares, probabilities, kept, unread = [], [], [], []
    for start in range(0, len(images), 256):
        made, errors = model.squares(images[start : start + 256])
        good = [row for row in range(len(made)) if row not in errors]
        unread += [(names[start + row], why) for row, why in sorted(errors.items())]
        if good:
            squares.append(made[good])
            probabilities.append(model.probabilities(made[good]).numpy())
            kept += [start + row for row in good]
    if not kept:
        raise NothingToExplain(f"none of {count(len(names))} could be read; give JPEG, PNG or WebP files, or a set")
    known = None if truth is None else np.array([truth[i] for i in kept], np.int64)
    return Subjects(tuple(names[i] for i in kept), torch.cat(squares), known, np.concatenate(probabilities)), unread
