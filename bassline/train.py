"""`bassline train`: one run file on one split into one run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bassline import console

if TYPE_CHECKING:
    from trainer.fit import Progress

__all__ = ["run_training", "train"]


def run_training(run_file: Path, data: Path, out: Path, overrides: list[str]) -> dict[str, Any]:
    """Trains with a progress line, and writes the run's own report page. Returns result.json's object."""
    from bassline.__main__ import STARTED
    from trainer.config import load_run

    config = load_run(run_file, overrides)  # before torch is imported: a typo should answer at once
    with console.stage("train") as stage:
        stage.update(0, None, "loading torch")
        from trainer.fit import fit

        def show(progress: Progress) -> None:
            stage.update(progress.done, progress.total, progress.text)

        result: dict[str, Any] = fit(config, data, out, started=STARTED, on_progress=show)
        stage.summary = summary(result)
    return result


def summary(result: dict[str, Any]) -> str:
    """One line on how a run ended."""
    test = result["test"]
    return (
        f"best epoch {result['best_epoch']}, validation loss {result['min_loss']:.4f}; test {test['accuracy']:.2%} "
        f"[dim](majority {test['majority_rate']:.2%})[/]"
    )


def train(
    run_file: Annotated[Path, typer.Argument(metavar="RUN.toml", help="The run file.")],
    data: Annotated[Path, typer.Option(help="The split, as `bassline shards split` made it.")],
    out: Annotated[Path, typer.Option(help="The run folder; an interrupted run in it goes on.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the run file.")
    ] = None,
    json: console.JsonFlag = False,
) -> None:
    """Train a run file's net on a split, keep the best model, test it once.

    Example: bassline train battery/T5.toml --data demo/split --out runs/T5 --set train.epochs=20
    """
    result = run_training(run_file, data, out, overrides or [])
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
