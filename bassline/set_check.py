"""`bassline shards verify, index`: is a set whole, make it whole again, make its manifest and indexes anew."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bassline import console, places
from bassline.set_options import LocalSetPath, RawSetPath, part_folders
from shards.errors import ConfigError

if TYPE_CHECKING:
    from shards.examine import Finding

__all__ = ["index", "verify"]

_SHOWN = 40  # findings on a terminal; the rest is counted, and in --json


def _check(folder: Path, name: str, decode: bool, mend: bool, out: Path | None, apart: bool) -> dict[str, Any]:
    """Verifies one set, and mends it if asked; returns what `verify --json` says of it."""
    from shards.verify import verify as verify_set

    told: dict[str, Any] = {"set": places.shown(folder), "findings": [], "repaired": None, "quarantined": None}
    with console.stage(name) as stage:

        def on_progress(at: Any) -> None:
            stage.update(at.samples, at.total or None, f"{at.findings:,} findings")

        findings: list[Finding]
        if mend:
            from shards.repair import repair

            done = repair(folder, out, decode=decode, on_progress=on_progress)
            findings = list(done.findings)
            left = verify_set(done.folder, decode=False) if findings else []
            aside = places.shown(done.aside) if done.aside else None
            if done.aside and places.is_elsewhere(done.folder):  # only a set's own files are sent
                (done.aside / "lost.jsonl").replace(done.folder / "lost.jsonl")
                aside = places.shown(done.folder)
            told["repaired"] = {
                "set": places.shown(done.folder),
                "kept": done.kept,
                "lost": [asdict(item) for item in done.lost],
                "rewritten": list(done.rewritten),
                "aside": aside,
                "left": [asdict(finding) for finding in left],
            }
        else:
            findings = verify_set(folder, decode=decode, on_progress=on_progress)
        stage.summary = f"{len(findings):,} findings" if findings else "nothing is wrong"
        if mend and findings:
            stage.summary += f"; {done.kept:,} samples kept, {len(done.lost):,} lost"
        if apart:
            from shards.verify import quarantine

            told["quarantined"] = quarantine(folder, findings)
            stage.summary += f"; {told['quarantined']:,} samples in quarantine"
    told["findings"] = [asdict(finding) for finding in findings]
    return told


def _show(told: dict[str, Any]) -> None:
    from shards.examine import Finding

    for finding in told["findings"][:_SHOWN]:
        console.out.print(console.literal(str(Finding(**finding))), soft_wrap=True)
    if len(told["findings"]) > _SHOWN:
        console.out.print(f"... and {len(told['findings']) - _SHOWN:,} more; --json has them all")
    done = told["repaired"]
    if not done or not told["findings"]:
        return
    for item in done["lost"][:_SHOWN]:
        place = item["file"] if item["offset"] is None else f"{item['file']}@{item['offset']}"
        console.out.print(console.literal(f"lost: {item['key']} ({place}): {item['reason']}"), soft_wrap=True)
    if len(done["lost"]) > _SHOWN:
        console.out.print(f"... and {len(done['lost']) - _SHOWN:,} more; {done['aside']}/lost.jsonl has them all")
    for finding in done["left"][:_SHOWN]:
        console.out.print(console.literal(f"still there: {Finding(**finding)}"), soft_wrap=True)
    what = "put aside" if done["aside"] != done["set"] else "lost.jsonl"
    aside = f"; {what}: {done['aside']}" if done["aside"] else ""
    console.out.print(f"repaired: {done['set']}{aside}", soft_wrap=True, markup=False)


@console.short_command
def verify(
    shards: RawSetPath,
    decode: Annotated[bool, typer.Option(help="Decode every image too.")] = True,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Keep every intact sample, put damaged tars aside, make manifest and indexes right."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=places.target,
            metavar="DIR",
            help="With --repair: write the whole set here, and leave SET as it is.",
        ),
    ] = None,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Leave the tars alone, and have readers pass over the bad samples.")
    ] = False,
    json: console.JsonFlag = False,
) -> None:
    """Check every byte of a shard set or split; says file and offset of what is wrong, and then ends with 1.

    Other people's tars are held to what they have: no manifest, index, labels or JSON is asked of them. After --repair
    it ends with 0 if nothing is wrong any more; a second --repair does nothing.

    Example: bassline shards verify demo/set
    """
    if not shards.is_dir():
        raise ConfigError("SET", "", f"{shards} is no folder; give the folder of a shard set")
    if out is not None and not repair:
        raise ConfigError("--out", "", "is where --repair writes; give both")
    if places.is_elsewhere(shards) and (quarantine or (repair and out is None)):
        remedy = "give --repair --out NEW, or `bassline shards copy` it here first"
        raise ConfigError(places.shown(shards), "", f"a set in a store is not changed in place: {remedy}")
    if quarantine and repair:
        raise ConfigError(
            "--quarantine", "", "keeps bad samples in the set, --repair leaves them out; give one of them"
        )
    parts = part_folders(shards)
    if out is not None and len(parts) > 1:
        raise ConfigError("--out", "", f"{shards} is a split of {len(parts)} sets; repair them in place, or one by one")
    told = {name: _check(folder, name or "verify", decode, repair, out, quarantine) for name, folder in parts.items()}
    if json:
        console.emit(told.get("", {"parts": told}))
    else:
        for one in told.values():
            _show(one)
    left = [one["repaired"]["left"] if repair else one["findings"] for one in told.values()]
    if any(left):
        raise typer.Exit(1)


@console.short_command
def index(
    shards: LocalSetPath,
    labels: Annotated[
        list[str] | None, typer.Option("--label", help="Label names by number, over tars without a manifest; repeat.")
    ] = None,
    json: console.JsonFlag = False,
) -> None:
    """Make manifest and indexes anew from the tars, your own or other people's.

    Example: bassline shards index tars/ --label bass --label guitar
    """
    if not any(shards.glob("*.tar")):
        raise ConfigError("SET", "", f"{shards} holds no *.tar; give the folder of a shard set")
    from shards.describe import describe
    from shards.shard_set import rebuild

    with console.stage("index") as stage, rebuild(shards, labels) as made:
        stage.summary = f"{len(made):,} samples in {len(made.manifest.shards)} shards"
        told = describe(made)
    if json:
        console.emit(told)
