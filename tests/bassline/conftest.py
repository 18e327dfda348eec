"""The command line as a user has it: a process, its exit code, what it printed where."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def bassline(tmp_path: Path) -> Run:
    """Runs `bassline ARGUMENTS` in an empty folder; no progress bars, as in a pipe."""

    def run(*arguments: str | Path, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "bassline", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=170,
            check=False,
        )
        assert check is None or done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    return run
