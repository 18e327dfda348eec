"""`bassline train`: one run file on one split into one run folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bassline import STARTED, console, places
from shards.errors import ConfigError

if TYPE_CHECKING:
    from trainer.fit import Progress

__all__ = ["position", "run_training", "summary", "train"]


def run_training(run_file: Path, data: Path, out: Path, overrides: list[str], *, started: float) -> dict[str, Any]:
    """Trains with a progress line; returns result.json's object. `started`: the `time.monotonic()` times count from."""
    from trainer.config import load_run

    config = load_run(run_file, overrides)  # before torch is imported: a typo should answer at once
    with console.stage("train") as stage:
        stage.update(0, None, "loading torch")
        from trainer.fit import fit

        def show(progress: Progress) -> None:
            stage.update(*position(progress))

        result: dict[str, Any] = fit(config, data, out, started=started, on_progress=show)
        stage.summary = summary(result)
    return result


def _show(run_file: Path, data: Path, sheet: Path, overrides: list[str]) -> dict[str, Any]:
    """Draws the sheet of the run file's augmentation; gives what `--json` prints."""
    from trainer.config import load_run

    config = load_run(run_file, overrides)
    with console.stage("show") as stage:
        stage.update(0, None, "loading torch")
        from trainer.preview import draw

        columns = draw(config, data, sheet)
        stage.summary = f"{sheet}: {', '.join(dict.fromkeys(columns))}"
    if len(columns) == 1:
        console.note(
            f"[yellow]![/] {run_file.name} asks for no augmentation; [augment] or --set augment.flip=true does"
        )
    return {"sheet": str(sheet), "columns": columns}


def position(progress: Progress) -> tuple[float, float, str]:
    """Where the bar stands, of how much, and what to say beside it."""
    if progress.stage not in ("train", "validate"):
        said = {"decode": "decoding", "compile": "compiling the step", "test": "testing the best model"}[progress.stage]
        return progress.done, progress.total, f"{said} {progress.done:,} of {progress.total:,}"
    # The bar runs over all epochs; validation stands at the end of its epoch.
    share = progress.done / progress.total if progress.stage == "train" else 1.0
    text = f"epoch {progress.epoch} of {progress.epochs}"
    if progress.val_loss is not None and progress.val_accuracy is not None:
        text += f", validation loss {progress.val_loss:.4f}, {progress.val_accuracy:.1%} right"
    if progress.images_per_s is not None:
        text += f", {progress.images_per_s:,.0f} images/s"
    return max(progress.epoch - 1, 0) + share, progress.epochs, text


def summary(result: dict[str, Any]) -> str:
    """One line on how a run ended."""
    test = result["test"]
    return (
        f"best epoch {result['best_epoch']}, validation loss {result['min_loss']:.4f}; test {test['accuracy']:.2%} "
        f"[dim](majority {test['majority_rate']:.2%})[/]"
    )


def train(
    run_file: Annotated[Path, typer.Argument(metavar="RUN.toml", help="The run file.")],
    data: Annotated[
        Path,
        typer.Option(
            parser=places.whole, metavar="PARTS", help="The split: a folder, or an address such as s3://bucket/parts."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="The run folder; an interrupted run in it goes on.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the run file.")
    ] = None,
    show: Annotated[
        Path | None,
        typer.Option(
            metavar="SHEET.png", help="Only draw what the run's augmentation does to its images; no training."
        ),
    ] = None,
    json: console.JsonFlag = False,
) -> None:
    """Train a run file's net on a split, keep the best model, test it once.

    Example: bassline train battery/T5.toml --data demo/split --out runs/T5 --set train.epochs=20
    Example: bassline train battery/residual.toml --data demo/split --show aug.png
    """
    if show is not None:
        shown = _show(run_file, data, show, overrides or [])
        if json:
            console.emit(shown)
        return
    if out is None:
        raise ConfigError(
            "bassline train", "--out", "a run folder was expected, such as --out runs/T5 (or --show aug.png)"
        )
    result = run_training(run_file, data, out, overrides or [], started=STARTED)
    if int(os.environ.get("RANK", "0")):
        return  # torchrun: the first process says it for all
    from bassline import report, results
    from bassline.run_folder import read_run

    run = read_run(out)
    page = report.write_page(
        [run], out / "report.html", title=f"Bassline: {run.name}", lead=f"Trained on {data.name}.", data=data
    )
    if json:
        console.emit(result)
        return
    console.out.print(results.terminal_table([run]))
    for line in results.warnings([run]):
        console.note(f"[yellow]![/] {line}")
    console.out.print(f"\nreport: {page}", soft_wrap=True)
