"""The command line: one word a job, the same exit codes everywhere, no traceback unless asked for."""

from __future__ import annotations

import atexit
import gc
import io
import os
import signal
import sys
from typing import Annotated

# Half a second of imports follows: Ctrl-C within it ends the process as later on, and not with their traceback.
_EARLY = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if _EARLY:
    try:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    except ValueError:  # imported by another thread than the main one
        _EARLY = False

import typer  # noqa: E402

from bassline import (  # noqa: E402
    __version__,
    battery,
    bench,
    console,
    crawl,
    demo,
    explain,
    export,
    play,
    predict,
    report,
    set_commands,
    shop,
    train,
)

__all__ = ["app", "main"]

app = typer.Typer(
    name="bassline",
    help="From a web shop to a trained image classifier, with the account of where the time went.",
    epilog="Add --debug anywhere to see the traceback of an unexpected error. Exit codes: 0 done, 1 failed, "
    "2 wrong usage or configuration, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        console.out.print(f"bassline {__version__}")
        raise typer.Exit


@app.callback()
def _front(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    cache: Annotated[
        str, typer.Option("--cache", metavar="DIR", help="Where what is read from stores is kept [BASSLINE_CACHE].")
    ] = "",
    cache_size: Annotated[
        str, typer.Option("--cache-size", metavar="SIZE", help="How large it may grow [BASSLINE_CACHE_SIZE; 20GB].")
    ] = "",
) -> None:
    for name, value in (("BASSLINE_CACHE", cache), ("BASSLINE_CACHE_SIZE", cache_size)):
        if value:
            os.environ[name] = value  # worker processes are to know it too


# DEMO
app.command()(console.command(demo.demo))
app.command()(console.command(shop.shop))
app.command()(console.command(crawl.crawl))
app.add_typer(set_commands.app, name="shards")
app.command()(console.command(train.train))
app.command()(console.command(battery.battery))
app.command()(console.short_command(report.report))
app.command()(console.short_command(predict.predict))
app.command()(console.command(play.play))
app.command()(console.short_command(explain.explain))
app.command()(console.short_command(export.export))
app.add_typer(bench.app, name="bench")


def main() -> None:
    """The console script."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be what the terminal's encoding is not
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
        console.DEBUG = True
    _wait_briefly()
    atexit.register(gc.freeze)  # or Python searches all there is for cycles, twice, before it lets go of it
    try:
        app()
    except KeyboardInterrupt:  # before a command began
        console.err.print(console.INTERRUPTED)
        sys.exit(130)


def _wait_briefly() -> None:
    """Has OpenMP's threads spin for microseconds, not milliseconds, while they wait for each other.

    Where another process holds a core, a thread that spins keeps the very thread it waits for from running. It lessens
    what other work costs, and does not end it. Read when torch comes.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "10000"


if _EARLY:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if __name__ == "__main__":
    main()
