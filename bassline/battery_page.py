"""What a battery leaves to be read: battery.txt, .csv, .md and one page with curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bassline import chart, console
from bassline.battery_table import Column, columns_of, in_order, note_of, to_csv, to_markdown, to_text, value_at
from shards.files import write_atomic

if TYPE_CHECKING:
    from trainer.battery import Battery, Outcome

__all__ = ["write_tables"]

CURVES = 40
"""Runs whose curves are drawn; the page says so where there are more."""
TOGETHER = 6
"""Curves in one chart: as many as there are tones."""


def write_tables(battery: Battery, outcomes: Sequence[Outcome], out: Path) -> None:
    """Writes the four files into `out`, each whole or not at all."""
    columns, rows = columns_of(battery, outcomes), in_order(battery, outcomes)
    for name, text in (
        ("battery.txt", to_text(columns, rows)),
        ("battery.csv", to_csv(columns, rows)),
        ("battery.md", to_markdown(columns, rows)),
        ("battery.html", _page(battery, columns, rows)),
    ):
        write_atomic(out / name, [text.encode()])


def _page(battery: Battery, columns: Sequence[Column], rows: Sequence[Outcome]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bassline"), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    done = [each for each in rows if each.result is not None]
    drawn = [each for each in rows if each.history][:CURVES]
    groups: list[tuple[str, int]] = []
    for column in columns:
        if groups and groups[-1][0] == column.group:
            groups[-1] = column.group, groups[-1][1] + 1
        else:
            groups.append((column.group, 1))
    return environment.get_template("battery.html.j2").render(
        title=f"Battery {battery.name}",
        lead=_lead(rows, done),
        collapsed=[(each.entry.name, each.result["single_class"], f"{each.result['test']['accuracy']:.2%}")
                   for each in done if each.result and each.result["single_class"]],
        groups=groups if any(name for name, _ in groups) else [],
        headings=[(column.heading, column.group, column.key in ("run", "state", "net", "note")) for column in columns],
        rows=[
            [
                (column.cell(each), column.group, column.key in ("run", "state", "net", "note"), column.key == "note")
                for column in columns
            ]
            for each in rows
        ],
        against=_against(battery, done),
        keys=_keys(battery, done),
        together=_together(done) if len(done) > 1 else "",
        runs=[_curves(each) for each in drawn],
        more=sum(bool(each.history) for each in rows) - len(drawn),
        environment=_environment(done),
    )  # fmt: skip


def _lead(rows: Sequence[Outcome], done: Sequence[Outcome]) -> str:
    counts = {state: sum(each.end.state == state for each in rows) for state in ("stopped", "diverged", "failed")}
    rest = "".join(f", {count} {state}" for state, count in counts.items() if count)
    spent = sum(each.result["total_s"] for each in done if each.result)
    return f"{len(done)} runs done{rest}; {console.seconds(spent)} of training altogether."


def _together(done: Sequence[Outcome]) -> Any:
    best = sorted(done, key=lambda each: each.result["min_loss"] if each.result else 0.0)[:TOGETHER]
    series = [
        chart.Series(each.entry.name, [line["val_loss"] for line in each.history], tone)
        for tone, each in enumerate(best, 1)
    ]
    of = f", the {TOGETHER} lowest of {len(done)}" if len(done) > TOGETHER else ""
    return chart.line_chart(f"Validation loss{of}", series, low=0.0)


def _curves(each: Outcome) -> dict[str, Any]:
    lines, result = each.history, each.result
    mark = (result["best_epoch"], f"best: epoch {result['best_epoch']}") if result else None
    majority = [result["val"]["majority_rate"]] * len(lines) if result else []
    return {
        "name": each.entry.name,
        "note": note_of(each),
        "loss": chart.line_chart(
            "Loss",
            [
                chart.Series("training", [line["train_loss"] for line in lines], 1),
                chart.Series("validation", [line["val_loss"] for line in lines], 2),
            ],
            mark=mark,
            low=0.0,
        ),
        "accuracy": chart.line_chart(
            "Accuracy",
            [
                chart.Series("training", [line["train_accuracy"] for line in lines], 1),
                chart.Series("validation", [line["val_accuracy"] for line in lines], 2),
                *([chart.Series("validation's majority rate", majority, 6, dashed=True)] if majority else []),
            ],
            mark=mark,
            percent=True,
            high=1.0,
        ),
    }


def _point(each: Outcome, key: str, value: float, low: float, high: float, said: str) -> chart.Point | None:
    at = value_at(each.entry.config.model_dump(mode="json"), key)
    if isinstance(at, bool) or not isinstance(at, int | float):
        return None
    return chart.Point(float(at), value, low, high, f"{each.entry.name}: {said}")


def _against(battery: Battery, done: Sequence[Outcome]) -> list[Any]:
    """Accuracy with its interval and time, each against the key the battery names."""
    key = battery.against
    if not key or not done:
        return []
    right, epoch, whole = [], [], []
    for each in done:
        assert each.result is not None
        test, seconds = each.result["test"], each.result["time_s"]
        low, high = test["ci95"]
        said = f"{test['accuracy']:.2%}, 95 % interval {low:.2%} to {high:.2%}"
        right.append(_point(each, key, test["accuracy"], low, high, said))
        spent = (seconds["train"] + seconds["validate"]) / max(each.result["epochs"], 1)
        epoch.append(_point(each, key, spent, spent, spent, f"{spent:.3g} s an epoch, validation included"))
        # The first run has the command's start on its clock, which says nothing of its size.
        total = each.result["time_to_best_s"] - each.result["time_to_best_parts_s"]["start"]
        whole.append(_point(each, key, total, total, total, f"{total:.3g} s to the best epoch"))
    majority = done[0].result["test"]["majority_rate"] if done[0].result else None
    name = key.rpartition(".")[2]
    pixels = " in pixels" if key == "data.size" else ""

    def known(points: list[chart.Point | None]) -> list[chart.Point]:
        return [point for point in points if point is not None]

    return [
        chart.point_chart(
            "Test accuracy, with its 95 % interval (Wilson)", known(right), f"{name}{pixels}", percent=True,
            line=(majority, "majority rate") if majority is not None else None,
        ),
        chart.point_chart("Seconds an epoch, validation included", known(epoch), f"{name}{pixels}", low=0.0, tone=2),
        chart.point_chart("Seconds to best, without the start", known(whole), f"{name}{pixels}", low=0.0, tone=4),
    ]  # fmt: skip


def _keys(battery: Battery, done: Sequence[Outcome]) -> list[Any]:
    """For each searched number what it did to the objective."""
    if battery.search is None:
        return []
    made = []
    name = battery.search.objective
    for key, values in battery.search.keys.items():
        points = []
        for each in done:
            if each.entry.trial is None or each.result is None:
                continue
            measured = float(each.result["val"][name.removeprefix("val_")])
            points.append(_point(each, key, measured, measured, measured, f"{name} {measured:.4f}"))
        shown = [point for point in points if point is not None]
        if shown:
            log = getattr(values, "log", False)
            made.append(chart.point_chart(f"{name} by {key}", shown, key, log=log, joined=False))
    return made


def _environment(done: Sequence[Outcome]) -> list[tuple[str, str]]:
    rows = []
    for name, key in (
        ("device", "device"),
        ("precision", "precision"),
        ("decoder", "decoder"),
        ("data", "data_digest"),
    ):
        found = dict.fromkeys(str(each.result[key]) for each in done if each.result)
        rows.append((name, ", ".join(found)))
    return rows
