"""The results table: one row a run, the columns of the original's table, and beside each number what it means."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from bassline import console
from bassline.run_folder import Run

__all__ = ["HEADINGS", "cells", "net_summary", "terminal_table", "warnings"]

HEADINGS = (
    "run", "batch", "lr", "momentum", "net", "min loss", "best epoch", "test acc %", "95 % interval", "majority %",
    "bal. acc %", "macro F1", "to best", "total", "images/s",
)  # fmt: skip

_WIDE = 134
_NARROW = ("run", "net", "best epoch", "test acc %", "95 % interval", "majority %", "to best", "total")


def net_summary(net: dict[str, Any]) -> str:
    """A conv stack in the original's terms: "5x5/10 bn" is kernel, maps and batch norm; "+" joins layers."""
    layers = net.get("layers")
    if not layers:
        return str(net.get("name") or net.get("kind", "?"))
    made = []
    for layer in layers:
        text = f"{layer['kernel']}x{layer['kernel']}/{layer['maps']}"
        if layer.get("batch_norm"):
            text += " bn"
        if layer.get("dropout"):
            text += f" do{layer['dropout']:g}"
        made.append(text)
    return " + ".join(made)


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def cells(run: Run) -> list[str]:
    """One row of the table as text, in the order of HEADINGS."""
    result, config = run.result, run.config
    test = result["test"]
    low, high = test["ci95"]
    best, rate = result["time_to_best_s"], result.get("images_per_s")
    return [
        run.name,
        str(config["train"]["batch"]),
        f"{config['optim']['lr']:g}",
        f"{config['optim'].get('momentum', 0):g}",
        net_summary(config["net"]),
        f"{result['min_loss']:.4f}",
        str(result["best_epoch"]),
        _percent(test["accuracy"]),
        f"{_percent(low)} to {_percent(high)}",
        _percent(test["majority_rate"]),
        _percent(test["balanced_accuracy"]),
        f"{test['macro_f1']:.3f}",
        console.seconds(best) if best is not None else "-",
        console.seconds(result["total_s"]),
        f"{rate:,.0f}" if rate is not None else "-",
    ]


def terminal_table(runs: list[Run], title: str = "Results") -> Table:
    """The table for a terminal; one run is shown as a list of name and value, which fits any width."""
    if len(runs) == 1:
        made = console.table(title, "", "")
        made.show_header = False
        for heading, cell in zip(HEADINGS, cells(runs[0]), strict=True):
            made.add_row(f"[dim]{heading}[/]", f"[bold]{cell}[/]" if heading == "test acc %" else cell)
        return made
    # All fifteen columns take some 130 characters; a narrower terminal gets the ones a reader decides by.
    shown = [index for index, heading in enumerate(HEADINGS) if console.out.width >= _WIDE or heading in _NARROW]
    made = console.table(title, *(HEADINGS[index] for index in shown), right=HEADINGS[5:])
    for column in made.columns:
        column.overflow = "fold"  # a net cut short is another net
    for run in runs:
        row = cells(run)
        made.add_row(*(row[index] for index in shown))
    return made


def warnings(runs: list[Run]) -> list[str]:
    """What a reader of the table must not miss, a sentence each."""
    said = []
    for run in runs:
        test = run.result["test"]
        if run.single_class:
            said.append(
                f"{run.name} learned only to say {run.single_class!r}: "
                f"{_percent(test['accuracy'])} % is the share of that label, not skill"
            )
        elif test["ci95"][0] <= test["majority_rate"]:
            said.append(
                f"{run.name} is not shown to beat the majority rate ({_percent(test['majority_rate'])} %): "
                f"its interval starts at {_percent(test['ci95'][0])} %"
            )
        if run.result.get("bad_samples"):
            count = len(run.result["bad_samples"])
            plural = "s" * (count > 1)
            said.append(f"{run.name}: {count} image{plural} could not be decoded and took no part; see result.json")
    return said
