"""What the system refuses is said in one line: where, what, and what to do; and no name moves the cursor."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from bassline import console


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "error new: No space left on device; make room (df -h)"),
        (PermissionError(errno.EACCES, "Permission denied", "a.tar"), "error a.tar: Permission denied; look at its"),
        (OSError(errno.EIO, os.strerror(errno.EIO), "a\x1b[31m.tar"), "error a?[31m.tar: Input/output error\n"),
    ],
)
def test_the_system_refuses(error: OSError, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    @console.command
    def work(shards: Path, out: Path) -> None:
        raise error

    with pytest.raises(typer.Exit) as ended:
        work(shards=Path("set"), out=Path("new"))
    assert ended.value.exit_code == 1
    told = capsys.readouterr().err
    assert told.startswith(said)
    assert told.count("\n") == 1


def test_ctrl_c_while_the_program_starts_is_no_traceback() -> None:
    script = """
import os, signal, sys
class Interrupts:
    def find_spec(self, name, *_):
        if name == "bassline.battery":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
import bassline.__main__
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")
