"""`bassline shards split, shuffle`: parts, folds, and another order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bassline import console, places
from bassline.set_options import SPLIT_SHARD_SAMPLES, OutPath, SetPath
from shards.errors import ConfigError

__all__ = ["run_split", "shuffle", "split"]

_PARTS = ("train", "val", "test")
_WORDS = {"hash": "hashing", "group": "grouping near-duplicates", "spill": "sorting into runs", "write": "writing"}


def _numbers(option: str, text: str, kind: type[int] | type[float], names: tuple[str, ...]) -> tuple[Any, ...]:
    """Comma-separated numbers, one a part."""
    try:
        found = tuple(kind(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != len(names) or not all(number >= 0 for number in found):
        example = ("4500,1500,2000" if kind is int else "0.6,0.2,0.2") if len(names) == len(_PARTS) else "1,2"
        count = "three numbers" if len(names) == len(_PARTS) else f"{len(names)} numbers"
        raise ConfigError(option, "", f"{text!r}: expected {count} for {', '.join(names)}, such as {example}")
    return found


def _label_numbers(texts: list[str], names: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    wanted = {}
    for text in texts:
        label, equals, numbers = text.rpartition("=")
        if not equals or not label:
            raise ConfigError("--label-counts", "", f"{text!r}: expected LABEL=N,N,N, such as guitar=3880,1311,1733")
        wanted[label] = _numbers(f"--label-counts {label}", numbers, int, names)
    return wanted


def run_split(
    source: Path,
    out: Path,
    *,
    seed: int,
    counts: tuple[int, ...] | None = None,
    fractions: tuple[float, ...] | None = None,
    label_counts: dict[str, tuple[int, ...]] | None = None,
    names: tuple[str, ...] = _PARTS,
) -> dict[str, Any]:
    """Splits with a progress line; returns what split.json says."""
    from shards.split import split as split_set

    with console.stage("split") as stage:
        made = split_set(
            source,
            out,
            counts=counts,
            fractions=fractions,
            label_counts=label_counts,
            names=names,
            seed=seed,
            shard_samples=SPLIT_SHARD_SAMPLES,
            on_progress=lambda at: stage.update(at.done, at.total, _WORDS[at.stage]),
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


@console.short_command
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
    parts: Annotated[str, typer.Option(metavar="NAME,...", help="Names of the parts, one for each number.")] = ",".join(
        _PARTS
    ),
    folds: Annotated[
        int | None,
        typer.Option(
            min=3, max=100, help="Cross-validation instead: OUT/fold-0 and so on, each a split of the whole set."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides who goes where, and the order.")] = 0,
    json: console.JsonFlag = False,
) -> None:
    """Cut a shard set into train, val and test: stratified, exact, near-duplicates never on two sides.

    Example: bassline shards split demo/set --out parts --fractions 0.6,0.2,0.2 --seed 0
    """
    if sum(bool(value) for value in (counts, fractions, label_counts, folds)) != 1:
        raise ConfigError("shards split", "", "give one of --counts, --fractions and --label-counts, or --folds")
    if folds:
        if places.is_elsewhere(out):
            remedy = "give a local folder, then `bassline shards copy` each of its folds"
            raise ConfigError("--out", "", f"folds are not written to stores: {remedy}")
        _folds(shards, out, folds, seed, json)
        return
    names = tuple(name.strip() for name in parts.split(","))
    recipe = run_split(
        shards,
        out,
        seed=seed,
        counts=_numbers("--counts", counts, int, names) if counts else None,
        fractions=_numbers("--fractions", fractions, float, names) if fractions else None,
        label_counts=_label_numbers(label_counts, names) if label_counts else None,
        names=names,
    )
    for part, labels in recipe["absent"].items():
        named = console.literal(", ".join(labels))
        console.note(f"[yellow]![/] {part} has no sample of {named}: too few of it, or none asked for")
    if json:
        console.emit(recipe)
        return
    made = console.table(places.shown(out), "label", *recipe["parts"], right=tuple(recipe["parts"]))
    for label in recipe["source"]["counts"]:
        made.add_row(console.literal(label), *(f"{part['counts'][label]:,}" for part in recipe["parts"].values()))
    made.add_row("[bold]all[/]", *(f"[bold]{part['samples']:,}[/]" for part in recipe["parts"].values()))
    console.out.print(made)


def _folds(shards: Path, out: Path, folds: int, seed: int, json: bool) -> None:
    from shards.shard_set import ShardSet
    from shards.split import split_folds

    with console.stage("split") as stage, ShardSet.open(shards) as opened:
        made = split_folds(
            opened,
            out,
            folds,
            seed=seed,
            shard_samples=SPLIT_SHARD_SAMPLES,
            on_progress=lambda at: stage.update(at.done, at.total, _WORDS[at.stage]),
        )
        stage.summary = f"{folds} folds of {len(opened):,} samples"
    if json:
        console.emit({"folds": [fold.recipe for fold in made]})
        return
    table = console.table(places.shown(out), "fold", *_PARTS, right=_PARTS)
    for fold in made:
        table.add_row(fold.folder.name, *(f"{fold.recipe['parts'][name]['samples']:,}" for name in _PARTS))
    console.out.print(table)


@console.short_command
def shuffle(
    shards: SetPath,
    out: OutPath,
    seed: Annotated[int, typer.Option(min=0, help="Decides the order.")] = 0,
    memory: Annotated[int, typer.Option(metavar="MB", min=1, help="Of samples held at a time.")] = 128,
    json: console.JsonFlag = False,
) -> None:
    """Write the same samples in another order, across all shards, in bounded memory: for readers that cannot shuffle.

    Example: bassline shards shuffle set --out shuffled --seed 1
    """
    from shards.shard_set import ShardSet
    from shards.shuffle import shuffle as shuffle_set

    with console.stage("shuffle") as stage, ShardSet.open(shards) as opened:
        with shuffle_set(
            opened,
            out,
            seed=seed,
            shard_samples=SPLIT_SHARD_SAMPLES,
            memory_bytes=memory << 20,
            on_progress=lambda at: stage.update(at.done, at.total, _WORDS[at.stage]),
        ) as made:
            told = {"samples": len(made), "shards": len(made.manifest.shards), "digest": made.digest, "seed": seed}
        stage.summary = f"{told['samples']:,} samples in {told['shards']} shards"
    if json:
        console.emit(told)
    else:
        console.out.print(f"shard set: {places.shown(out)}", soft_wrap=True)
