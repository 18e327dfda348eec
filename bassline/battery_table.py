"""The battery's one table: typed rows, and the same rows as text, CSV, Markdown and for a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bassline import console
from bassline.results import net_summary

if TYPE_CHECKING:
    from trainer.battery import Battery, Outcome

__all__ = ["Column", "columns_of", "in_order", "note_of", "to_csv", "to_markdown", "to_text", "value_at"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Args:
        key: its name in the CSV.
        heading: its heading elsewhere.
        value: its value of an outcome: number, text or None.
        show: how a value is shown.
        timed: differs from one time to the next.
        group: what stands above it: "" or "original".
        brief: stays where room is scarce.
    """

    key: str
    heading: str
    value: Callable[[Outcome], Any]
    show: Callable[[Any], str] = str
    timed: bool = False
    group: str = ""
    brief: bool = False

    def cell(self, outcome: Outcome) -> str:
        """As shown; "" for what is not known."""
        value = self.value(outcome)
        return "" if value is None else self.show(value)


def value_at(tree: Any, dotted: str) -> Any:
    """The value a dotted key leads to in tables and lists; None where it leads nowhere."""
    for part in dotted.split("."):
        if isinstance(tree, dict):
            tree = tree.get(part)
        elif isinstance(tree, list) and part.isdecimal() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return None
    return tree


def _config(dotted: str) -> Callable[[Outcome], Any]:
    return lambda each: value_at(each.entry.config.model_dump(mode="json"), dotted)


def _result(dotted: str) -> Callable[[Outcome], Any]:
    return lambda each: value_at(each.result, dotted)


def _original(name: str, factor: float = 1) -> Callable[[Outcome], Any]:
    def value(each: Outcome) -> Any:
        found = getattr(each.entry.original, name, None)
        return None if found is None else found * factor

    return value


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _general(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _interval(each: Outcome) -> str | None:
    ends = value_at(each.result, "test.ci95")
    return f"{_percent(ends[0])} to {_percent(ends[1])}" if ends else None


def note_of(outcome: Outcome) -> str:
    """What a reader of the row must not miss."""
    end, result = outcome.end, outcome.result
    if end.state == "stopped":
        return f"stopped at epoch {end.epoch}, not tested: {end.reason}"
    if end.state != "done" or result is None:
        return f"{end.state}: {end.reason}"
    said = []
    if result["single_class"]:
        said.append(f'only ever says "{result["single_class"]}"')
    elif result["test"]["ci95"][0] <= result["test"]["majority_rate"]:
        said.append("not shown to beat the majority rate")
    if result.get("stopped") == "collapsed":
        said.append(f"stopped at epoch {end.epoch}: collapsed to one label")
    elif result.get("stopped") == "patience":
        said.append(f"stopped at epoch {end.epoch}: no better one came")
    return "; ".join(said)


_KNOWN = {"train.batch", "optim.lr", "optim.momentum", "train.lr", "train.momentum"}


def columns_of(battery: Battery, outcomes: Sequence[Outcome]) -> list[Column]:
    """The columns for these runs: the original's where there is one, searched and drawn keys where there are some."""
    keys = list(battery.search.keys) if battery.search else []
    keys = [key for key in [battery.against, *keys] if key and key not in _KNOWN]
    made = [
        Column("run", "run", lambda each: each.entry.name, brief=True),
        Column("state", "state", lambda each: each.end.state),
        Column("note", "note", lambda each: note_of(each) or None, brief=True),
        Column("batch", "batch", _config("train.batch")),
        Column("lr", "lr", _config("optim.lr"), _general, brief=bool(battery.search)),
        Column("momentum", "momentum", _config("optim.momentum"), _general),
        *(Column(key, key.rpartition(".")[2], _config(key), _general, brief=True) for key in keys),
        Column("net", "net", lambda each: net_summary(each.entry.config.net.model_dump(mode="json"))),
        Column("parameters", "parameters", _result("parameters"), lambda value: f"{value:,}"),
        Column("epochs", "epochs", lambda each: each.end.epoch or None),
        Column("min_loss", "min loss", _result("min_loss"), lambda value: f"{value:.4f}", brief=True),
        Column("best_epoch", "best epoch", _result("best_epoch"), brief=True),
        Column("test_accuracy", "test acc %", _result("test.accuracy"), _percent, brief=True),
        Column("ci95", "95 % interval", _interval, brief=True),
        Column("balanced_accuracy", "bal. acc %", _result("test.balanced_accuracy"), _percent, brief=True),
        Column("time_to_best_s", "to best", _result("time_to_best_s"), console.seconds, True),
        Column("total_s", "total", _result("total_s"), console.seconds, True, brief=True),
    ]
    if any(outcome.entry.original for outcome in outcomes):
        group = "original"
        made += [
            Column("original_min_loss", "min loss", _original("min_loss"), lambda value: f"{value:.2f}", group=group),
            Column("original_best_epoch", "best epoch", _original("best_epoch"), group=group),
            Column(
                "original_accuracy", "acc %", _original("accuracy", 0.01), _percent, group=group, brief=True
            ),
            Column("original_to_best_s", "to best", _original("to_best_min", 60), console.seconds, group=group),
            Column("original_total_s", "total", _original("total_min", 60), console.seconds, group=group, brief=True),
        ]  # fmt: skip
    made += [  # after the original's, whose figures are to be seen beside ours
        Column("majority_rate", "majority %", _result("test.majority_rate"), _percent),
        Column("macro_f1", "macro F1", _result("test.macro_f1"), lambda value: f"{value:.3f}"),
        Column("auroc", "AUROC", _result("test.auroc"), lambda value: f"{value:.4f}"),
        Column("calibration_error", "ECE", _result("test.calibration_error"), lambda value: f"{value:.3f}"),
        Column("brier", "Brier", _result("test.brier"), lambda value: f"{value:.3f}"),
        Column("images_per_s", "images/s", _result("images_per_s"), lambda value: f"{value:,.0f}", True),
    ]
    shown = {"run", "min_loss", "test_accuracy"}
    return [each for each in made if each.key in shown or any(each.value(outcome) is not None for outcome in outcomes)]


def in_order(battery: Battery, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The rows as the battery wants them sorted, best first; runs without a result come last, in the file's order."""
    if battery.sort == "file":
        return list(outcomes)
    key, sign = {
        "val_loss": ("min_loss", 1), "val_accuracy": ("val.accuracy", -1), "test_accuracy": ("test.accuracy", -1),
        "time_to_best": ("time_to_best_s", 1),
    }[battery.sort]  # fmt: skip
    done = [each for each in outcomes if each.result is not None]
    return sorted(done, key=lambda each: sign * value_at(each.result, key)) + [
        each for each in outcomes if each.result is None
    ]


def to_csv(columns: Sequence[Column], outcomes: Sequence[Outcome]) -> str:
    """Plain numbers, full precision; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.key for column in columns])
    for outcome in outcomes:
        writer.writerow(["" if (value := column.value(outcome)) is None else value for column in columns])
    return text.getvalue()


def to_markdown(columns: Sequence[Column], outcomes: Sequence[Outcome]) -> str:
    """A pipe table; numbers to the right."""
    rows = [[_heading(column) for column in columns], [_rule(column) for column in columns]]
    rows += [[console.plain(column.cell(each)).replace("|", "\\|") for column in columns] for each in outcomes]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def to_text(columns: Sequence[Column], outcomes: Sequence[Outcome]) -> str:
    """Aligned columns for an editor or a terminal that is wide enough."""
    rows = [[_heading(column) for column in columns]]
    rows += [[console.plain(column.cell(outcome)) for column in columns] for outcome in outcomes]
    widths = [max(len(row[number]) for row in rows) for number in range(len(columns))]
    rows.insert(1, ["-" * width for width in widths])
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if _left(column) else cell.rjust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def _heading(column: Column) -> str:
    return f"{column.group} {column.heading}".strip()


def _left(column: Column) -> bool:
    return column.key in ("run", "state", "net", "note")


def _rule(column: Column) -> str:
    return "---" if _left(column) else "---:"
