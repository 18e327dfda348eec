"""`bassline shards ...`: one file a kind of work, gathered here.

The room is imported by the command that needs it: `--help` and a wrong option answer without NumPy and Pillow.
"""

from __future__ import annotations

import typer

from bassline import set_check, set_convert, set_copy, set_curate, set_info, set_split, set_suspects

__all__ = ["app"]

app = typer.Typer(help="Look at shard sets, check, split and make them.", no_args_is_help=True)

app.command()(set_info.info)
app.command()(set_info.head)
app.command()(set_info.sheet)
app.command()(set_check.verify)
app.command()(set_check.index)
app.command()(set_split.split)
app.command()(set_split.shuffle)
app.command()(set_convert.convert)
app.command()(set_curate.drop)
app.command()(set_suspects.suspects)
app.command()(set_curate.merge)
app.command()(set_curate.diff)
app.command()(set_copy.copy)
