"""`bassline shards suspects`: a page on which a person decides which doubted samples to drop."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bassline import console, places
from bassline.set_options import SetPath

if TYPE_CHECKING:
    from shards.shard_set import ShardSet
    from shards.suspects import Suspect, Suspects

__all__ = ["suspects", "write_suspects"]

_MIME = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
_PROVENANCE = ("title", "maker", "label_path", "site", "file", "fetched_at")
_LINKS = ("product_url", "image_url", "listing_url")


@console.short_command
def suspects(
    shards: SetPath,
    out: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("suspects.html"),
    limit: Annotated[int, typer.Option(min=1, help="Suspects on the page; each costs its image's bytes.")] = 300,
    folds: Annotated[int, typer.Option(min=2, max=50, help="Of the cross-validation.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Decides the folds.")] = 0,
    json: console.JsonFlag = False,
) -> None:
    """Find the samples whose label is doubted most (confident learning), for a person to look at and tick.

    A small model judges every sample without having seen it or a near-duplicate. The page shows each suspect
    large; tick what is wrong with a key or the mouse, save the list, and give it to `shards drop --keys`.

    Example: bassline shards suspects set --out suspects.html
    """
    from shards.shard_set import ShardSet
    from shards.suspects import suspects as find_suspects

    words = {"hash": "hashing", "look": "looking at images", "doubt": "asking the folds"}
    with ShardSet.open(shards) as opened:
        with console.stage("suspects") as stage:
            found = find_suspects(
                opened,
                fold_count=folds,
                seed=seed,
                on_progress=lambda at: stage.update(at.done, at.total, words[at.stage]),
            )
            stage.summary = f"{len(found.found):,} of {len(opened):,} labels are doubted"
        write_suspects(out, opened, found, places.shown(shards), limit)
    confused = _confused(found)
    if json:
        console.emit(
            {
                "page": str(out),
                "samples": int(found.joint.sum()),
                "suspects": [
                    {
                        "rank": one.rank,
                        "key": one.key,
                        "label": one.label,
                        "suspected": one.suspected,
                        "p_label": one.p_label,
                        "p_suspected": one.p_suspected,
                    }
                    for one in found.found
                ],
                "joint": found.joint.tolist(),
                "labels": list(found.labels),
                "accuracy": found.accuracy,
                "majority": found.majority,
                "unreadable": len(found.unreadable),
            }
        )
        return
    table = console.table("doubted most", "given", "looks like", "samples", right=("samples",))
    for given, like, count in confused[:10]:
        table.add_row(console.literal(given), console.literal(like), f"{count:,}")
    if confused:
        console.out.print(table)
    console.out.print(
        f"the model gives {found.accuracy:.1%} the label they have (the commonest label: {found.majority:.1%}); "
        "what it doubts is for a person to look at"
    )
    if found.unreadable:
        console.note(f"[yellow]![/] {len(found.unreadable):,} images cannot be read and were not judged")
    console.out.print(f"page: {out}", soft_wrap=True)


def _confused(found: Suspects) -> list[tuple[str, str, int]]:
    """Pairs of given and suspected label with their counts, the commonest first."""
    pairs = [
        (given, like, int(found.joint[row, column]))
        for row, given in enumerate(found.labels)
        for column, like in enumerate(found.labels)
        if row != column and found.joint[row, column]
    ]
    return sorted(pairs, key=lambda pair: -pair[2])


def write_suspects(out: Path, source: ShardSet, found: Suspects, name: str, limit: int) -> None:
    """Writes the page: self-contained, images inlined, nothing is fetched from anywhere."""
    import jinja2

    from shards.files import write_atomic

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bassline"), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    shown = [_card(source, one) for one in found.found[:limit]]
    pairs: dict[tuple[str, str], int] = {}
    for card in shown:
        pair = (card["label"], card["suspected"])
        pairs[pair] = pairs.get(pair, 0) + 1
    html = environment.get_template("suspects.html.j2").render(
        name=name,
        digest=source.digest,
        cards=shown,
        pairs=sorted(pairs.items(), key=lambda item: -item[1]),
        total=len(source),
        suspects=len(found.found),
        accuracy=f"{found.accuracy:.1%}",
        majority=f"{found.majority:.1%}",
        folds=found.folds,
    )
    write_atomic(out, [html.encode()])


def _card(source: ShardSet, one: Suspect) -> dict[str, Any]:
    meta = source.meta(one.index)
    facts = [(name, _said(meta[name])) for name in _PROVENANCE if meta.get(name)]
    links = [
        (name, str(meta[name]))
        for name in _LINKS
        if str(meta.get(name, "")).startswith(("http://", "https://"))  # never javascript:
    ]
    data = base64.b64encode(bytes(source.image(one.index))).decode()
    return {
        "key": one.key,
        "rank": one.rank,
        "label": one.label,
        "suspected": one.suspected,
        "p_label": f"{one.p_label:.0%}",
        "p_suspected": f"{one.p_suspected:.0%}",
        "size": f"{source.widths[one.index]} x {source.heights[one.index]} {source.ext(one.index)}",
        "where": str(source.where(one.index)).rpartition(" ")[0],
        "facts": facts,
        "links": links,
        "uri": f"data:{_MIME[source.ext(one.index)]};base64,{data}",
    }


def _said(value: Any) -> str:
    return " > ".join(map(str, value)) if isinstance(value, list) else str(value)
