"""`bassline shards drop|merge|diff`: sets made of sets, and what lies between two."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bassline import console, places
from bassline.set_options import SPLIT_SHARD_SAMPLES, OutPath, SetPath
from shards.errors import ConfigError

if TYPE_CHECKING:
    from shards.diff import Entry, Pair

__all__ = ["diff", "drop", "merge"]

NewSet = OutPath


@console.short_command
def drop(
    shards: SetPath,
    out: NewSet,
    reason: Annotated[str, typer.Option(help="Why, in your words; kept in the new set.")],
    keys: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Keys, one a line, as `shards suspects` lets you save them; repeat."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE", help="What to drop: 'width < 100', 'label = bass', 'title ~ /case|bag/i'; repeat."
        ),
    ] = None,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Keep the largest of each group of near-duplicates only.")
    ] = False,
    forget_empty_labels: Annotated[
        bool, typer.Option("--forget-empty-labels", help="Leave out labels that have no samples left.")
    ] = False,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Pass over keys the set has not.")] = False,
    json: console.JsonFlag = False,
) -> None:
    """Write a set without some of its samples; drops.jsonl in the new set says which and why.

    A rule compares label, key, ext, width, height, shorter, longer, pixels, aspect, bytes, group_size, title, url,
    product_url, listing_url, label_path, maker, site or json.NAME, by = != < <= > >= with a number or word, or by ~ !~
    with a /pattern/i; "and", "or", "not" and parentheses join. What any rule or list means is dropped.

    Example: bassline shards drop set --out new --where "width < 100 or title ~ /case|bag/i" --reason "no instrument"
    """
    if not (keys or where or near_duplicates):
        raise ConfigError("shards drop", "", "give --keys, --where or --near-duplicates: which samples to drop")
    from shards.drop import drop as drop_from
    from shards.drop import read_keys
    from shards.rules import parse
    from shards.shard_set import ShardSet

    rules = [parse(text) for text in where or []]
    notes: dict[str, str] = {}
    for path in keys or []:
        notes |= {key: note or path.name for key, note in read_keys(path).items()}
    words = {"read": "reading", "hash": "hashing", "write": "writing"}
    with console.stage("drop") as stage, ShardSet.open(shards) as opened:
        done = drop_from(
            opened,
            out,
            reason=reason,
            keys=notes,
            keys_from=", ".join(map(str, keys or [])) or "keys",
            rules=rules,
            near_duplicates=near_duplicates,
            allow_missing=allow_missing,
            forget_empty_labels=forget_empty_labels,
            shard_samples=SPLIT_SHARD_SAMPLES,
            on_progress=lambda at: stage.update(at.done, at.total, words[at.stage]),
        )
        with done.made as made:
            told = {
                "samples": len(made),
                "labels": made.counts,
                "digest": made.digest,
                "dropped": len(done.dropped),
                "dropped_by_label": dict(Counter(one.label for one in done.dropped)),
                "torn_groups": done.torn,
                "keys": [one.key for one in done.dropped],
            }
        stage.summary = f"{len(done.dropped):,} of {len(opened):,} samples dropped, {told['samples']:,} kept"
    if json:
        console.emit(told)
        return
    details = Counter(_kind(one.detail) for one in done.dropped)
    table = console.table(places.shown(out), "dropped by", "samples", right=("samples",))
    for detail, count in details.most_common(20):
        table.add_row(console.literal(detail), f"{count:,}")
    if details:
        console.out.print(table)
    if done.torn:
        console.note(f"[yellow]![/] {done.torn:,} groups of near-duplicates have several labels; one of each was kept")
    if any(not count for count in told["labels"].values()):  # type: ignore[attr-defined]
        console.note("[yellow]![/] a label has no samples left; --forget-empty-labels leaves it out")
    console.out.print(f"shard set: {places.shown(out)}", soft_wrap=True)


def _kind(detail: str) -> str:
    """Details that name another sample are counted as one."""
    return "near-duplicate of a sample that is kept" if detail.startswith("near-duplicate of ") else detail


@console.short_command
def merge(
    shards: Annotated[
        list[Path], typer.Argument(metavar="SET...", parser=places.whole, help="Folders of the shard sets.")
    ],
    out: NewSet,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="OLD=NEW", help="A label's new name in every set; OLD= leaves it out; repeat."),
    ] = None,
    map_file: Annotated[
        Path | None,
        typer.Option(metavar="TOML", help="\\[labels] for every set, \\[sets.NAME] for one: old name = new name."),
    ] = None,
    json: console.JsonFlag = False,
) -> None:
    """Make one set of several, with labels mapped: the same bytes become one sample that names all its origins.

    Example: bassline shards merge shop-a shop-b --out both --map "electric bass=bass" --map "e-bass=bass"
    """
    from shards.merge import MergeFile, names_of
    from shards.merge import merge as merge_sets
    from shards.shard_set import ShardSet
    from shards.toml_file import read_toml, validate

    told_file = validate(MergeFile, read_toml(map_file), str(map_file)) if map_file else MergeFile()
    mapping = dict(told_file.labels)
    for text in map_ or []:
        old, equals, new = text.partition("=")
        if not equals or not old.strip():
            raise ConfigError("--map", "", f"{text!r}: expected OLD=NEW, such as 'electric bass=bass'")
        mapping[old.strip()] = new.strip()
    words = {"hash": "hashing", "write": "writing"}
    with console.stage("merge") as stage, ExitStack() as opened:
        sources = [opened.enter_context(ShardSet.open(path)) for path in shards]
        done = merge_sets(
            sources,
            out,
            mapping=mapping,
            by_set=told_file.sets,
            names=names_of([places.shown(path) if places.is_elsewhere(path) else path for path in shards]),
            shard_samples=SPLIT_SHARD_SAMPLES,
            on_progress=lambda at: stage.update(at.done, at.total, words[at.stage]),
        )
        with done.made as made:
            told: dict[str, Any] = {
                "samples": len(made),
                "labels": made.counts,
                "digest": made.digest,
                "same_bytes": done.same_bytes,
                "near_duplicate_groups_across_sets": done.near_across,
                "label_conflicts": done.conflicts,
                "left_out": done.unmapped,
                "renamed": [{"set": name, "key": old, "new": new} for (name, old), new in done.renamed.items()],
            }
        stage.summary = f"{told['samples']:,} samples of {sum(map(len, sources)):,} in {len(sources)} sets"
    if json:
        console.emit(told)
        return
    table = console.table(places.shown(out), "label", "samples", right=("samples",))
    for label, count in told["labels"].items():
        table.add_row(console.literal(label), f"{count:,}")
    console.out.print(table)
    said = (
        (done.same_bytes, "samples were there already, byte for byte; their origins are kept"),
        (done.near_across, "groups of near-duplicates reach across the sets"),
        (done.conflicts, "images had several labels and were left out; drops.jsonl names them"),
        (done.unmapped, "samples have a label that is mapped to nothing"),
        (len(done.renamed), "keys stood for several images; each but one got a suffix"),
    )
    for count, words_of in said:
        if count:
            console.out.print(f"{count:>8,}  {words_of}")
    console.out.print(f"shard set: {places.shown(out)}", soft_wrap=True)


@console.short_command
def diff(
    before: Annotated[Path, typer.Argument(metavar="A", parser=places.whole, help="Folder of the older shard set.")],
    after: Annotated[Path, typer.Argument(metavar="B", parser=places.whole, help="Folder of the newer one.")],
    limit: Annotated[int, typer.Option(min=0, help="Lines a list on the terminal; --json has all.")] = 20,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 1 if the sets differ.")] = False,
    json: console.JsonFlag = False,
) -> None:
    """Say what lies between two sets: samples added, removed, changed in bytes or label, by key, bytes and address.

    Example: bassline shards diff set-november set-december
    """
    from shards.diff import diff as compare
    from shards.shard_set import ShardSet

    with console.stage("diff") as stage, ShardSet.open(before) as old, ShardSet.open(after) as new:
        found = compare(old, new, lambda done, total: stage.update(done, total))
        counts = found.counts()
        stage.summary = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count or name == "same")
    if json:
        console.emit(found.to_json())
    else:
        _list("added", "green", found.added, limit)
        _list("removed", "red", found.removed, limit)
        _list("changed", "yellow", found.changed, limit)
        _list("relabelled", "magenta", found.relabelled, limit)
        for name, labels in (("label added", found.labels_added), ("label removed", found.labels_removed)):
            for label in labels:
                console.out.print(f"{name}: {console.literal(label)}", soft_wrap=True)
        if not found:
            console.out.print(f"the same {counts['same']:,} samples")
    if exit_code and found:
        raise typer.Exit(1)


def _list(name: str, style: str, found: tuple[Entry, ...] | tuple[Pair, ...], limit: int) -> None:
    if not found:
        return
    console.out.print(f"[bold]{name}[/] {len(found):,}")
    for one in found[:limit]:
        console.out.print(f"  [{style}]{console.literal(_line(one))}[/]", soft_wrap=True)
    if len(found) > limit:
        console.out.print(f"  [dim]and {len(found) - limit:,} more[/]")


def _line(one: Entry | Pair) -> str:
    from shards.diff import Entry

    if isinstance(one, Entry):
        return "  ".join(filter(None, (one.key, one.label, one.title or one.product_url or one.url)))
    before, after = one.before, one.after
    label = before.label if before.label == after.label else f"{before.label} -> {after.label}"
    key = before.key if before.key == after.key else f"{before.key} -> {after.key}"
    return "  ".join(filter(None, (key, label, after.title or after.product_url or after.url, f"(by {one.by})")))
