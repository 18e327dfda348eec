"""A process that has imported torch once, and forks a fresh one for every measurement.

Each measurement so has its own memory, threads and device context, at ten milliseconds instead of torch's seconds of
import. A fork is safe there because the mother starts no thread: BLAS is kept to one, OpenMP and CUDA start on use.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.errors import BenchError
from bench.stages import what_happened
from shards.errors import BasslineError, ConfigError

__all__ = ["MeasurementFailed", "Zygote"]


class MeasurementFailed(BenchError):
    """A measuring process ended without a measurement.

    Args:
        what: was measured; empty where the error says that itself.
        last_line: the error, or the last line the process wrote.
    """

    def __init__(self, what: str, last_line: str) -> None:
        self.what = what
        said = last_line or "the process ended without a word"
        super().__init__(f"measuring {what}: {said}" if what else said)


class Zygote:
    """The mother of measuring processes; a context manager.

    Args:
        preload: modules that every measurement needs, imported once.
        python: another one than this, with what others' code needs; ours is found there by its path.
    """

    def __init__(self, preload: tuple[str, ...] = ("torch",), python: Path | None = None) -> None:
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 lives as long as the process
        self._process = subprocess.Popen(
            [python or sys.executable, "-m", "bench.zygote", *preload],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints, text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **(_found() if python else {})},
            start_new_session=True,
        )  # fmt: skip

    def run(self, target: str, job: dict[str, Any], *, limit_s: float = 600) -> dict[str, Any]:
        """Calls `target` ("module:function") with `job` in a new process and gives back its JSON object.

        Raises:
            MeasurementFailed: it raised, died, or took longer than `limit_s`; the mother is ended then.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise MeasurementFailed(target, "no pipe")
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps({"target": target, "job": job}) + "\n")
            stdin.flush()
        if not select.select([stdout], [], [], limit_s)[0]:
            self.close()
            raise MeasurementFailed(target, f"no answer within {limit_s:g} s")
        line = stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": self._last_complaint()}
        if "config" in answer:
            raise ConfigError(*answer["config"])
        if "told" in answer:
            raise MeasurementFailed("", answer["told"])
        if "error" in answer:
            raise MeasurementFailed(target, answer["error"])
        found: dict[str, Any] = answer["result"]
        return found

    def _last_complaint(self) -> str:
        self._complaints.seek(0)
        return self._complaints.read().strip().rpartition("\n")[2]

    def close(self) -> None:
        """Ends the mother and whatever a measurement left running."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # a session of its own: nobody else is in it
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._complaints.close()

    def __enter__(self) -> Zygote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _found() -> dict[str, str]:
    """Where another Python finds this package."""
    paths = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def _measure(wish: dict[str, Any], pipe: int) -> None:
    """In the child: the result, or why there is none, as JSON through the pipe."""
    try:
        module, _, name = wish["target"].partition(":")
        text = json.dumps({"result": getattr(importlib.import_module(module), name)(wish["job"])})
    except ConfigError as error:
        text = json.dumps({"config": [error.where, error.key, error.problem]})
    except BaseException as error:
        traceback.print_exc()
        if isinstance(error, BasslineError):
            text = json.dumps({"told": " ".join(str(error).split())})
        else:
            text = json.dumps({"error": what_happened(error)})
    with os.fdopen(pipe, "w") as out:
        out.write(text + "\n")
    sys.stderr.flush()


def _main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library says on stdout is not an answer
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            os.setpgid(0, 0)
            _measure(json.loads(line), write)
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            text = pipe.readline()  # not to the end: a loader's workers hold the other end open for seconds more
        os.waitpid(child, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # loader workers that outlived it
        answers.write(text or json.dumps({"error": "the process was killed"}) + "\n")
        answers.flush()


if __name__ == "__main__":
    _main()
