"""`bassline report`: the table in the terminal and one self-contained HTML page."""

from __future__ import annotations

import base64
import io
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from markupsafe import Markup
from PIL import Image

from bassline import battery_table, chart, console, originals, places, results
from bassline.battery import terminal_table
from bassline.report_maps import maps_of_best
from bassline.run_folder import Run, find_runs
from shards.errors import BasslineError, ConfigError

if TYPE_CHECKING:
    from shards.shard_set import ShardSet
    from trainer.battery import Battery, Outcome

__all__ = ["data_uri", "report", "write_page"]

MISTAKES, MISTAKES_OF_MANY = 24, 12
"""Thumbnails of a run's mistakes; of each run where the page has more than `OPEN` of them."""
OPEN = 3
"""Runs of a page whose details are open; of more only the best one's."""
_SELECTED = {"val_loss": "lowest validation loss", "val_accuracy": "highest validation accuracy"}
_AS_IT_IS, _SIDE = 12 << 10, 240  # bytes up to which a thumbnail is embedded untouched; else its side in pixels
_MIME = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


def data_uri(source: ShardSet, index: int) -> str:
    """An image of a set as an address that holds it; what is larger than a thumbnail is made one."""
    content = bytes(source.image(index))
    if len(content) > _AS_IT_IS:
        from shards.sheet import small

        made = small(content, _SIDE)
        if made is not None:
            flat = Image.new("RGB", made.size, "white")
            flat.paste(made, mask=made.getchannel("A"))
            memory = io.BytesIO()
            flat.save(memory, "JPEG", quality=82)
            return f"data:image/jpeg;base64,{base64.b64encode(memory.getvalue()).decode()}"
    body = base64.b64encode(content).decode()
    return f"data:{_MIME.get(source.ext(index), 'image/jpeg')};base64,{body}"


def _mistakes(run: Run, data: Path | None, most: int) -> tuple[list[dict[str, str]], int]:
    """The surest wrong answers, with their thumbnails inlined where the test set can still be read."""
    wrong = [answer for answer in run.answers if answer["predicted"] != answer["label"]]
    wrong.sort(key=lambda answer: (-float(answer["probability"]), str(answer["key"])))
    if not wrong or data is None or not (data / "test").is_dir():
        return [], len(wrong)
    from shards.shard_set import ShardSet

    try:
        test = ShardSet.open(data / "test")
    except BasslineError:
        return [], len(wrong)
    with test:
        index_of = {test.key(index): index for index in range(len(test))}
        shown = []
        for answer in wrong[:most]:
            index = index_of.get(str(answer["key"]))
            if index is None:
                continue
            shown.append(
                {
                    "key": str(answer["key"]),
                    "truth": str(answer["label"]),
                    "said": str(answer["predicted"]),
                    "sure": f"{100 * float(answer['probability']):.1f} %",
                    "uri": data_uri(test, index),
                }
            )
    return shown, len(wrong)


def _matrix(run: Run) -> list[dict[str, Any]]:
    rows = []
    for true, (label, counts) in enumerate(zip(run.result["labels"], run.result["test"]["confusion"], strict=True)):
        total = sum(counts)
        shown = [
            {"count": count, "right": said == true, "shade": round(85 * (count / total) ** 0.5) if total else 0}
            for said, count in enumerate(counts)
        ]
        rows.append({"label": label, "cells": shown, "recall": f"{counts[true] / total:.1%}" if total else "-"})
    return rows


def _column(run: Run, key: str) -> list[float | None]:
    return [epoch.get(key) for epoch in run.history]


def time_parts(run: Run) -> list[tuple[str, float]]:
    """Where the run's seconds went, by part; what no part claims is named so."""
    parts = [(name, float(amount)) for name, amount in run.result["time_s"].items() if amount and amount >= 0.05]
    rest = float(run.result["total_s"]) - sum(amount for _, amount in parts)
    return [*parts, ("other", rest)] if rest > 0.05 else parts


def _run_view(run: Run, data: Path | None, most: int) -> dict[str, Any]:
    mistakes, count = _mistakes(run, data, most)
    majority = run.result["val"]["majority_rate"]
    epochs = len(run.history)
    mark = (int(run.result["best_epoch"]), f"best: epoch {run.result['best_epoch']}")
    return {
        "name": run.name,
        "single_class": run.single_class,
        "accuracy": f"{run.result['test']['accuracy']:.2%}",
        "total": console.seconds(run.result["total_s"]),
        "labels": run.result["labels"],
        "matrix": _matrix(run),
        "mistakes": mistakes,
        "mistake_count": count,
        "time_bar": chart.stacked_bar(time_parts(run)),
        "loss_chart": chart.line_chart(
            "Loss",
            [
                chart.Series("training", _column(run, "train_loss"), 1),
                chart.Series("validation", _column(run, "val_loss"), 2),
            ],
            mark=mark,
            low=0.0,
        ),
        "accuracy_chart": chart.line_chart(
            "Accuracy",
            [
                chart.Series("training", _column(run, "train_accuracy"), 1),
                chart.Series("validation", _column(run, "val_accuracy"), 2),
                chart.Series("validation's majority rate", [majority] * epochs, 6, dashed=True),
            ],
            mark=mark,
            percent=True,
            high=1.0,
        ),
    }


Table = dict[str, Any]
"""`groups` [(name, span)], `headings` [(text, class)], `rows` [[(text, class)]], and `note` below."""


def _plain_table(runs: Sequence[Run]) -> Table:
    rows = [[(cell, "") for cell in results.cells(run)] for run in runs]
    return {"groups": [], "headings": [(heading, "") for heading in results.HEADINGS], "rows": rows, "note": ""}


def _table_beside(plan: Battery, outcomes: Sequence[Outcome]) -> Table:
    """The battery's table: more columns, and the original's figures where they are known."""
    columns = [column for column in battery_table.columns_of(plan, outcomes) if column.key not in _ELSEWHERE]
    groups: list[tuple[str, int]] = []
    for column in columns:
        if groups and groups[-1][0] == column.group:
            groups[-1] = column.group, groups[-1][1] + 1
        else:
            groups.append((column.group, 1))
    known = any(name for name, _ in groups)
    return {
        "groups": groups if known else [],
        "headings": [(column.heading, _look(column)) for column in columns],
        "rows": [[(column.cell(each), _look(column)) for column in columns] for each in outcomes],
        "note": _ORIGINAL if known else "",
    }


def _look(column: battery_table.Column) -> str:
    return "theirs" if column.group else ""


_ELSEWHERE = {
    "state",
    "note",
    "parameters",
    "epochs",
    "macro_f1",
    "auroc",
    "calibration_error",
    "brier",
    "images_per_s",
}
"""Columns that are left to the battery's page, or said above: the original's are to be seen without scrolling."""

_ORIGINAL = (
    "original: what others measured for the run of that name, net, batch, rate and momentum, on their own images and "
    "machine, for as many epochs as they ran; its times are theirs."
)


def _best(runs: Sequence[Run]) -> str:
    """The run of lowest validation loss, of those that learned more than one label if there are any."""
    able = [run for run in runs if not run.single_class] or list(runs)
    return min(able, key=lambda run: float(run.result["min_loss"])).name


def _environment(runs: Sequence[Run]) -> list[tuple[str, str]]:
    rows = [("bassline", _version("bassline")), ("Python", platform.python_version())]
    rows += [(name, _version(name)) for name in ("torch", "torchvision", "nvidia-dali-cuda130", "numpy", "pillow")]
    rows += [("cores", str(len(os.sched_getaffinity(0)))), ("system", f"{platform.system()} {platform.release()}")]
    for run in runs:
        result = run.result
        rows.append((f"{run.name}: device", f"{result['device']}, {result['precision']}"))
        rows.append((f"{run.name}: configuration", str(result["config_hash"])))
        rows.append((f"{run.name}: data", str(result["data_digest"])))
    return rows


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def write_page(
    runs: Sequence[Run],
    page: Path,
    *,
    title: str,
    lead: str,
    data: Path | None = None,
    cards: Sequence[tuple[str, str]] = (),
    stages: Sequence[tuple[str, float]] = (),
    bench: dict[str, Any] | None = None,
    table: Table | None = None,
    maps: dict[str, Any] | None = None,
) -> Path:
    """Writes one self-contained HTML page over `runs`; whole or not at all.

    Args:
        runs: finished runs, in the order of the table.
        page: the file to write.
        title, lead: its heading and the sentence below.
        data: the split folder whose test set holds the thumbnails of the mistakes; None leaves them out.
        cards: headline figures, (value, what it is).
        stages: (stage, seconds) of a whole job.
        bench: `sentence`, `rates` [(name, per second)] and `note` of what holds the run back.
        table: what stands in place of the results table.
        maps: as `report_maps.maps_of_best` gives them.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bassline"), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    view = None
    if bench is not None:
        rows = [(name, rate, f"{rate:,.0f} images/s") for name, rate in bench["rates"]]
        view = {"sentence": bench["sentence"], "note": bench["note"], "bars": chart.bars(rows)}
    html = environment.get_template("report.html.j2").render(
        title=title,
        lead=lead,
        cards=cards,
        stages=chart.stacked_bar(stages) if stages else Markup(""),
        doubts=[line for run in runs if not run.single_class for line in results.warnings([run])],
        table=table or _plain_table(runs),
        selection=" or ".join(sorted({_SELECTED[run.config["select"]["metric"]] for run in runs})),
        runs=[_run_view(run, data, MISTAKES if len(runs) <= OPEN else MISTAKES_OF_MANY) for run in runs],
        best=_best(runs) if len(runs) > OPEN else None,
        maps=maps,
        bench=view,
        environment=_environment(runs),
    )
    part = page.with_name(page.name + ".part")
    part.write_text(html, encoding="utf-8")
    part.replace(page)
    return page


def _lead(runs: Sequence[Run]) -> str:
    spent = console.seconds(sum(float(run.result["total_s"]) for run in runs))
    test = runs[0].result["test"]
    same = {str(run.result["data_digest"]) for run in runs}
    tested = f", each tested once on {sum(map(sum, test['confusion'])):,} images" if len(same) == 1 else ""
    return f"{len(runs)} finished run{'s' * (len(runs) > 1)}{tested}; {spent} of training."


def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="DIR...", help="Run folders, or folders of run folders.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(parser=places.lazy, metavar="PARTS", help="The split, for the thumbnails of the mistakes."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The HTML page.", show_default="report.html in the first DIR")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Two run folders: McNemar's test, and the images where they differ."),
    ] = None,
    original: Annotated[
        Path | None,
        typer.Option(
            metavar="BATTERY.toml", help="Whose figures stand beside runs of the same name.", show_default="seed.toml"
        ),
    ] = None,
    maps: Annotated[
        bool, typer.Option("--maps/--no-maps", help="With --data: what the best run looks at; needs captum.")
    ] = True,
    json: console.JsonFlag = False,
) -> None:
    """Print the results table of finished runs and write one HTML page; or compare two on the same test images.

    Example: bassline report demo/run --data demo/split

    Example: bassline report runs/seed --data demo/split --out report.html

    Example: bassline report --compare runs/T5 runs/T7 --data demo/split
    """
    if bool(runs) == (compare is not None):
        raise ConfigError("report", "", "give run folders, or --compare A B")
    if data is not None and not (data / "test").is_dir():
        raise ConfigError(
            "--data", "", f"{data} holds no test/ shard set; give the folder `bassline shards split` made"
        )
    if compare is not None:
        from bassline.compare import compare_runs

        compare_runs(*compare, data, out, json=json)
        return
    assert runs is not None
    found = find_runs(runs)
    page = out or runs[0] / "report.html"
    if not page.parent.is_dir():
        raise ConfigError("--out", "", f"{page.parent} is not a folder; create it first")
    names = ", ".join(run.name for run in found)
    plan, outcomes = originals.beside(found, original)
    known = any(outcome.entry.original for outcome in outcomes)
    many = len(found) > 1 or known
    drawn, missing = maps_of_best(found, data) if data is not None and maps else (None, "")
    write_page(
        found,
        page,
        title=f"Bassline: {names}" if len(names) <= 60 else f"Bassline: {len(found)} runs",
        lead=_lead(found),
        data=data,
        table=_table_beside(plan, outcomes) if many else None,
        maps=drawn,
    )
    if missing:
        console.note(f"[dim]no explanation maps: {console.literal(missing)}[/]")
    if json:
        theirs = {
            outcome.entry.name: outcome.entry.original.model_dump() for outcome in outcomes if outcome.entry.original
        }
        console.emit({"runs": [run.result for run in found], "original": theirs, "page": str(page)})
        return
    console.out.print(terminal_table(plan, outcomes) if known else results.terminal_table(found))
    for line in results.warnings(found):
        console.note(f"[yellow]![/] {line}")
    console.out.print(f"\nreport: {page}", soft_wrap=True)
