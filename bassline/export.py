"""`bassline export`: a trained model as ONNX or torch.export, its answers checked, and a card that says what it is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from bassline import console, places
from bassline.run_folder import Run, read_run
from shards.errors import ConfigError

if TYPE_CHECKING:
    from trainer.parity import Parity
    from trainer.predict import Model

__all__ = ["export"]

ONNX_NAME, TORCH_NAME, CARD_NAME = "model.onnx", "model.pt2", "MODEL_CARD.md"


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    data: Annotated[
        Path,
        typer.Option(
            parser=places.whole, metavar="PARTS", help="The run's split: every image of its test part is asked."
        ),
    ],
    onnx: Annotated[bool, typer.Option("--onnx", help=f"Write {ONNX_NAME}, for onnxruntime and others.")] = False,
    torch: Annotated[bool, typer.Option("--torch", help=f"Write {TORCH_NAME}, for torch.export.load.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to write.", show_default="RUN/export")] = None,
    json: console.JsonFlag = False,
) -> None:
    """Write a run's model for others to run: uint8 RGB images in, probabilities out, all preprocessing inside.

    It takes images (N, height, width, 3) of any size. Its labels are compared with the run's own for the whole test
    part; where one differs nothing is written and the exit code is 1. Beside it lies a model card.

    Example: bassline export runs/T5 --onnx --torch --data demo/split
    """
    if not (onnx or torch):
        raise ConfigError("bassline export", "", "give --onnx, --torch or both")
    found = read_run(run)
    if not (data / "test").is_dir():
        raise ConfigError("--data", "", f"{data} holds no test/ shard set; give the split the run was trained on")
    target = out or run / "export"
    if target.exists() and not target.is_dir():
        raise ConfigError("--out", "", f"{target} is not a folder")
    told = _export(found, data, target, onnx=onnx, torch=torch)
    if json:
        console.emit(told)
        return
    for name, size in told["files"].items():
        console.out.print(f"{target / name}  {console.amount(size)}", soft_wrap=True)


def _export(run: Run, data: Path, target: Path, *, onnx: bool, torch: bool) -> dict[str, Any]:
    beside = target.with_name(f".{target.name}.part")
    shutil.rmtree(beside, ignore_errors=True)  # of an attempt that was killed
    try:
        with console.stage("export") as stage:
            stage.update(0, None, "loading torch")
            from trainer import export as exporting
            from trainer.predict import load

            model = load(run.folder)
            beside.mkdir(parents=True)
            stage.update(0, None, "tracing the net")
            program = exporting.export_program(model)
            if onnx:
                exporting.save_onnx(program, model.card, beside / ONNX_NAME)
            if torch:
                exporting.save_torch(program, model.card, beside / TORCH_NAME)
            files = [name for name in (ONNX_NAME, TORCH_NAME) if (beside / name).is_file()]
            stage.summary = ", ".join(files)
        checked = _checked(run, model, data, beside, files)
        from bassline.model_card import write_card

        write_card(beside / CARD_NAME, run, model.card, data, checked)
        sizes = {name: (beside / name).stat().st_size for name in [*files, CARD_NAME]}
        target.mkdir(exist_ok=True)
        for name in [*files, CARD_NAME]:
            (beside / name).replace(target / name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    parity = {name: each.to_json() for name, each in checked.items()}
    return {"run": run.name, "out": str(target), "files": sizes, "parity": parity}


def _checked(run: Run, model: Model, data: Path, folder: Path, files: list[str]) -> dict[str, Parity]:
    """Holds the written files against the run and says what came of it.

    Raises:
        ParityLost: a label differs.
    """
    from shards.shard_set import ShardSet
    from trainer import export as exporting
    from trainer.errors import ParityLost
    from trainer.parity import check

    openers = {ONNX_NAME: exporting.open_onnx, TORCH_NAME: exporting.open_torch}
    recorded = {str(answer["key"]): str(answer["predicted"]) for answer in run.answers}
    with console.stage("parity") as stage, ShardSet.open(data / "test") as test:
        if test.labels != model.labels:
            raise ConfigError(
                "--data", "", f"{data} has the labels {', '.join(test.labels)}, the run {', '.join(model.labels)}"
            )
        runners = {name: openers[name](folder / name) for name in files}
        found = check(
            model, runners, test, recorded,
            lambda done, total: stage.update(done, total, f"{done:,} of {total:,} test images"),
        )  # fmt: skip
        stage.summary = f"{len(test):,} test images, each at its own size"
    for name, each in found.items():
        if each.apart:
            raise ParityLost(name, len(each.apart), each.samples, each.apart)
        console.note(
            f"[green]✓[/] {name}: the same label for {each.same:,} of {each.samples:,} test images; "
            f"largest difference of a probability {each.largest:.1e}"
        )
        if each.recorded_same < each.recorded:
            console.note(
                f"[yellow]![/] {each.recorded - each.recorded_same:,} of {each.recorded:,} labels differ from "
                f"test.jsonl, written in {run.result['precision']} on {escape(str(run.result['device']))}"
            )
        elif each.recorded < each.samples:
            strange = each.samples - each.recorded
            console.note(f"[yellow]![/] {strange:,} of these images are not in the run's own test part")
    return found
