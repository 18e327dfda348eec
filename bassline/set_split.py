"""`bassline shards split`: train, val and test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bassline import console, places
from bassline.set_options import SPLIT_SHARD_SAMPLES, OutPath, SetPath
from shards.errors import ConfigError

__all__ = ["run_split", "split"]

_PARTS = 3  # train, val, test


def _numbers(option: str, text: str, kind: type[int] | type[float]) -> tuple[Any, ...]:
    """Three comma-separated numbers."""
    try:
        found = tuple(kind(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != _PARTS or any(number < 0 for number in found):
        example = "4500,1500,2000" if kind is int else "0.6,0.2,0.2"
        raise ConfigError(option, "", f"{text!r}: expected three numbers for train, val and test, such as {example}")
    return found


def _label_numbers(texts: list[str]) -> dict[str, tuple[int, ...]]:
    wanted = {}
    for text in texts:
        label, equals, numbers = text.rpartition("=")
        if not equals or not label:
            raise ConfigError("--label-counts", "", f"{text!r}: expected LABEL=N,N,N, such as guitar=3880,1311,1733")
        wanted[label] = _numbers(f"--label-counts {label}", numbers, int)
    return wanted


def run_split(
    source: Path,
    out: Path,
    *,
    seed: int,
    counts: tuple[int, ...] | None = None,
    fractions: tuple[float, ...] | None = None,
    label_counts: dict[str, tuple[int, ...]] | None = None,
) -> dict[str, Any]:
    """Splits with a progress line; returns what split.json says."""
    from shards.split import split as split_set

    words = {"hash": "hashing", "group": "grouping near-duplicates", "write": "writing"}
    with console.stage("split") as stage:
        made = split_set(
            source,
            out,
            counts=counts,
            fractions=fractions,
            label_counts=label_counts,
            seed=seed,
            shard_samples=SPLIT_SHARD_SAMPLES,
            on_progress=lambda at: stage.update(at.done, at.total, words[at.stage]),
        )
        recipe = made.recipe
        for part in made.parts.values():
            part.close()
        sizes = ", ".join(f"{name} {part['samples']:,}" for name, part in recipe["parts"].items())
        leaked = sum(recipe["naive"]["leaked"].values())
        stage.summary = f"{sizes}; {recipe['groups']['groups']:,} groups"
        if leaked:
            stage.summary += f" [dim](cut without them, {leaked:,} samples would have a near-duplicate elsewhere)[/]"
    return recipe


@console.command
def split(
    shards: SetPath,
    out: OutPath,
    counts: Annotated[
        str | None, typer.Option(metavar="N,N,N", help="Samples of train, val and test, in proportion for each label.")
    ] = None,
    fractions: Annotated[str | None, typer.Option(metavar="F,F,F", help="Shares of train, val and test.")] = None,
    label_counts: Annotated[
        list[str] | None, typer.Option(metavar="LABEL=N,N,N", help="Exact counts of one label; repeat for each.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides who goes where, and the order.")] = 0,
    json: console.JsonFlag = False,
) -> None:
    """Cut a shard set into train, val and test: stratified, exact, near-duplicates never on two sides.

    Example: bassline shards split demo/set --out parts --fractions 0.6,0.2,0.2 --seed 0
    """
    if sum(bool(value) for value in (counts, fractions, label_counts)) != 1:
        raise ConfigError("shards split", "", "give one of --counts, --fractions and --label-counts")
    recipe = run_split(
        shards,
        out,
        seed=seed,
        counts=_numbers("--counts", counts, int) if counts else None,
        fractions=_numbers("--fractions", fractions, float) if fractions else None,
        label_counts=_label_numbers(label_counts) if label_counts else None,
    )
    if json:
        console.emit(recipe)
        return
    made = console.table(places.shown(out), "label", *recipe["parts"], right=tuple(recipe["parts"]))
    for label in recipe["source"]["counts"]:
        made.add_row(label, *(f"{part['counts'][label]:,}" for part in recipe["parts"].values()))
    made.add_row("[bold]all[/]", *(f"[bold]{part['samples']:,}[/]" for part in recipe["parts"].values()))
    console.out.print(made)
