"""`bassline bench`: measurements that become records; one file a command, gathered here."""

from __future__ import annotations

import typer

from bassline import bench_compare, bench_crawl, bench_loaders, bench_planted, bench_shards, bench_stalls, bench_train

__all__ = ["app"]

app = typer.Typer(
    help="Measure loaders and training against their ceilings and against what people use.", no_args_is_help=True
)


@app.callback()
def _group() -> None:
    """Measure loaders and training against their ceilings and against what people use."""


app.command()(bench_loaders.loaders)
app.command()(bench_stalls.stalls)
app.command()(bench_train.train)
app.command()(bench_compare.compare)
app.command()(bench_planted.planted)
app.command()(bench_shards.shards)
app.command()(bench_crawl.crawl)
