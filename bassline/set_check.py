"""`bassline shards verify, index`: is a set whole, and make its manifest and indexes anew."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from bassline import console
from bassline.set_info import describe
from bassline.set_options import SetPath
from shards.errors import ConfigError

__all__ = ["index", "verify"]


@console.command
def verify(
    shards: SetPath,
    decode: Annotated[bool, typer.Option(help="Decode every image too.")] = True,
    json: console.JsonFlag = False,
) -> None:
    """Check every byte of a shard set; says file and offset of what is wrong, and then ends with 1.

    Example: bassline shards verify demo/set
    """
    if not shards.is_dir():
        raise ConfigError("SET", "", f"{shards} is no folder; give the folder of a shard set")
    from shards.verify import verify as verify_set

    with console.stage("verify") as stage:
        findings = verify_set(
            shards,
            decode=decode,
            on_progress=lambda at: stage.update(at.samples, at.total or None, f"{at.findings:,} findings"),
        )
        stage.summary = f"{len(findings):,} findings" if findings else "nothing is wrong"
    if json:
        console.emit({"findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            console.out.print(escape(str(finding)), soft_wrap=True)
    if findings:
        raise typer.Exit(1)


@console.command
def index(
    shards: SetPath,
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
    from shards.shard_set import rebuild

    with console.stage("index") as stage, rebuild(shards, labels) as made:
        stage.summary = f"{len(made):,} samples in {len(made.manifest.shards)} shards"
        told = describe(made)
    if json:
        console.emit(told)
