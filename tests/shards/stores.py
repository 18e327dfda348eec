"""Stores for tests: a real S3 server, a proxy before it that cuts connections, a folder behind HTTP."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from shards.store import Transfer

QUICK = Transfer(attempts=4, back_off_s=0.001)


class CuttingProxy:
    """Passes TCP on to `port`; the next `cuts` connections are cut once so many bytes have come back, or gone out."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.cuts: list[tuple[str, int]] = []  # ("down" or "up", bytes)
        self.cut = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            for way, source, sink in (("up", client, server), ("down", server, client)):
                threading.Thread(target=self._pump, args=(way, source, sink), daemon=True).start()

    def _pump(self, way: str, source: socket.socket, sink: socket.socket) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                with self._lock:
                    due = bool(self.cuts) and self.cuts[0][0] == way and passed > self.cuts[0][1]
                    if due:
                        self.cuts.pop(0)
                        self.cut += 1
                if due:
                    sink.sendall(data[: len(data) // 2])
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class _Closed(_Quiet):
    """As S3 answers who may read objects and not list them: what is not there is denied."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        text = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def list_directory(self, path: object) -> None:
        self.send_error(403)


@contextlib.contextmanager
def http_folder(folder: Path, *, closed: bool = False) -> Iterator[str]:
    """The address of a folder served over HTTP by a server that knows no ranges; `closed`: nor may one list it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Closed if closed else _Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
