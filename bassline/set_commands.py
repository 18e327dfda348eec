"""`bassline shards ...`: one file a kind of work, gathered here.

The room is imported by the command that needs it: `--help` and a wrong option answer without NumPy and Pillow.
"""

from __future__ import annotations

import typer

from bassline import set_check, set_convert, set_info, set_split

__all__ = ["app"]

app = typer.Typer(help="Look at shard sets, check, split and make them.", no_args_is_help=True)

app.command()(set_info.info)
app.command()(set_info.head)
app.command()(set_info.sheet)
app.command()(set_check.verify)
app.command()(set_check.index)
app.command()(set_split.split)
app.command()(set_convert.convert)
