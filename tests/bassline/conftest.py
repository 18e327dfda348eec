"""The command line as a user has it: what it printed where, and its exit code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bassline.__main__ import main

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def bassline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs `bassline ARGUMENTS` in an empty folder, in this process (a start costs a second), as in a pipe."""

    def run(*arguments: str | Path, check: int = 0) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["bassline", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfd.readouterr()
        code = ended.value.code or 0
        assert code == check, f"exit {code}\n{said.out}\n{said.err}"
        assert "Traceback" not in said.err
        return subprocess.CompletedProcess(["bassline", *map(str, arguments)], int(code), said.out, said.err)

    return run


@pytest.fixture(scope="session")
def game_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with split/ (three labels, 30 test images, one damaged) and run/, trained on it."""
    from .game_run import make

    return make(tmp_path_factory.mktemp("game"))
