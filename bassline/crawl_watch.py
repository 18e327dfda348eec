"""What `bassline crawl` offers to other programs while it runs: metrics over HTTP, and a log of everything."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from bassline import console
from shards.errors import ConfigError

if TYPE_CHECKING:
    from crawler.report import CrawlStats

__all__ = ["event_log", "metrics_at", "served_metrics"]


def metrics_at(where: str) -> tuple[str, int]:
    """Address and port of `--metrics`: a port alone is of this machine only.

    Raises:
        ConfigError: it is neither PORT nor ADDRESS:PORT.
    """
    address, colon, port = where.rpartition(":")
    address = address.removeprefix("[").removesuffix("]") if colon else "127.0.0.1"
    if not address or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError("--metrics", "", f"expected PORT or ADDRESS:PORT such as 9100 or 0.0.0.0:9100, got {where!r}")
    return address, int(port)


@contextmanager
def served_metrics(where: str | None, site: str) -> Iterator[Callable[[CrawlStats], None]]:
    """Serves a crawl's metrics at `where` (None: not at all); gives what to tell the progress to.

    Raises:
        ConfigError: nothing can be served there.
    """
    if where is None:
        yield lambda stats: None
        return
    from prometheus_client import start_http_server

    from crawler.metrics import CrawlMetrics

    address, port = metrics_at(where)
    metrics = CrawlMetrics(site)
    try:
        server, thread = start_http_server(port, address, metrics.registry)
    except OSError as error:
        problem = f"cannot serve at {where} ({error.strerror or error}); name another port, or 0 for any free one"
        raise ConfigError("--metrics", "", problem) from None
    try:
        shown = f"[{address}]" if ":" in address else address
        console.note(f"metrics: http://{console.literal(shown)}:{server.server_port}/metrics")
        yield metrics.update
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def event_log(path: Path | None) -> Iterator[Callable[[Mapping[str, Any]], None] | None]:
    """A file of JSON lines that events are appended to; None without a path.

    A log that cannot be written any more is given up with one line: the crawl goes on.

    Raises:
        ConfigError: the file cannot be opened.
    """
    if path is None:
        yield None
        return
    try:
        file = path.open("a", encoding="utf-8", buffering=1)  # by lines: it is read while it grows
    except OSError as error:
        raise ConfigError("--log", "", f"{path} cannot be written ({error.strerror}); name another file") from None
    lock = Lock()  # events come from the event loop and from the ledger's thread
    failed = False

    def write(event: Mapping[str, Any]) -> None:
        nonlocal failed
        line = json.dumps(event, ensure_ascii=True) + "\n"
        with lock:
            if failed:
                return
            try:
                file.write(line)
            except OSError as error:
                failed = True
                console.note(f"[yellow]![/] --log {console.literal(str(path))}: given up ({error.strerror})")

    try:
        yield write
    finally:
        with suppress(OSError):  # a full disk's
            file.close()
