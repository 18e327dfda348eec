"""A Python that has imported torch already: one mother for the whole suite, who forks every process that asks.

Importing torch costs 2.5 s of processor time, and the tests of kills, of the README and of the demo start it over and
over. What they start is as real as before: a process of its own, with its own signals, files and exit code. The mother
starts no thread (OpenMP starts on use), so that a fork of hers is as good as new.

`Warm` is the executable to put in place of `sys.executable`, for `-c CODE ...` and `-m MODULE ...`.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PRELOAD = ("torch", "trainer.fit", "trainer.predict", "bassline.demo", "bassline.battery", "bassline.predict")

# Started for every process: it imports nothing that takes time, hands on its arguments, files and signals, and ends as
# the other one did.
_SHIM = """\
import array, json, os, signal, socket, sys
handed_on = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
signal.pthread_sigmask(signal.SIG_BLOCK, handed_on)
to = socket.socket(socket.AF_UNIX)
to.connect({address!r})
wish = json.dumps({{"argv": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}}).encode()
to.sendmsg([b"%020d" % len(wish)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
to.sendall(wish)
pid = int(to.recv(20))
for number in handed_on:
    signal.signal(number, lambda number, _: os.kill(pid, number))
signal.pthread_sigmask(signal.SIG_UNBLOCK, handed_on)
code = int(to.recv(20))
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if code != -signal.SIGKILL else None
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class Warm:
    """The mother, shared by the suite's workers, and the executable; a context manager.

    Args:
        folder: the same for all workers; she goes when the last of them has left.
    """

    def __init__(self, folder: Path) -> None:
        address = f"bassline-tests-{hashlib.sha256(str(folder).encode()).hexdigest()[:24]}"
        self._mother: subprocess.Popen[bytes] | None = None
        with (folder / "mother.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._hold = socket.socket(socket.AF_UNIX)
            try:
                self._hold.connect(f"\0{address}")
            except OSError:
                self._mother = _start(address, folder / "mother.log")
                deadline = time.monotonic() + 120
                while self._hold.connect_ex(f"\0{address}"):
                    if time.monotonic() > deadline:
                        raise RuntimeError("the mother of the tests' processes does not answer") from None
                    time.sleep(0.02)
            self._hold.sendall(b"%020d" % 0)
        self.executable = folder / f"python-{os.getpid()}"
        shim = folder / f"shim-{os.getpid()}.py"
        shim.write_text(_SHIM.format(address=f"\0{address}"))
        self.executable.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{shim}" "$@"\n')
        self.executable.chmod(0o755)

    def __str__(self) -> str:
        return str(self.executable)

    def close(self) -> None:
        """Leaves the mother; who started her sees her end, when the others have left too."""
        self._hold.close()
        if self._mother is not None:
            self._mother.wait()

    def __enter__(self) -> Warm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _start(address: str, log_file: Path) -> subprocess.Popen[bytes]:
    with log_file.open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.forks", address],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # OpenBLAS starts its threads when it is imported
            start_new_session=True,
        )


def _main(address: str) -> None:
    for module in PRELOAD:
        __import__(module)
    if threading.active_count() > 1:
        raise RuntimeError(f"forking beside threads: {threading.enumerate()}")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{address}")  # a name that is no file's: none to remove, and of any length of path
    listener.listen(64)
    holders: list[socket.socket] = []
    known = False
    while holders or not known:
        for ready in select.select([listener, *holders], [], [])[0]:
            if ready is not listener:
                holders.remove(ready)
                ready.close()
                continue
            connection = listener.accept()[0]
            size, files, *_ = socket.recv_fds(connection, 20, 3)
            if int(size or b"0") == 0:
                holders.append(connection)
                known = True
            elif not os.fork():
                listener.close()
                for holder in holders:
                    holder.close()
                _serve(connection, int(size), files)
            else:
                connection.close()
                for file in files:
                    os.close(file)
        _reap(os.WNOHANG)
    _reap(0)  # what all of them cost is counted as hers, and as the suite's
    os._exit(0)


def _reap(options: int) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, options)[0]:
            pass


def _serve(connection: socket.socket, size: int, files: list[int]) -> None:
    """Runs what is wished in a child, and tells of its end; ends it if nobody is there any more to be told."""
    wish = b""
    while len(wish) < size:
        wish += connection.recv(size - len(wish))
    child = os.fork()
    if not child:
        connection.close()
        _become(json.loads(wish), files)
    for file in files:
        os.close(file)
    connection.sendall(b"%020d" % child)
    ended = os.pidfd_open(child)
    if connection in select.select([connection, ended], [], [])[0]:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        connection.sendall(b"%020d" % code)
    finally:
        os._exit(0)


def _become(wish: dict[str, Any], files: list[int]) -> None:
    """This process is as if it had been started with these arguments, environment, folder and files."""
    os.setpgid(0, 0)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", 1)
    os.chdir(wish["cwd"])
    os.environ.clear()
    os.environ.update(wish["env"])
    sys.executable = os.environ.get("WARM_EXECUTABLE", sys.executable)
    if threads := os.environ.get("OMP_NUM_THREADS"):
        import torch

        torch.set_num_threads(int(threads))  # OpenMP has read its environment already
    sys.path.insert(0, "")
    how, what, *arguments = wish["argv"]
    sys.argv = [how, *arguments]
    code: Any = 0
    try:
        if how == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as ended:
        code = ended.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    _main(sys.argv[1])
