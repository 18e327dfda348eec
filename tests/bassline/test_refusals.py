"""What the system refuses is said in one line: where, what, and what to do; and no name moves the cursor."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from bassline import console
from bassline.bench_options import check_out
from shards.errors import ConfigError


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


@pytest.mark.parametrize(("guard", "said"), [(console.command, "the state is kept"), (console.short_command, "anew")])
def test_an_interrupt_promises_what_is_so(guard: Any, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    @guard
    def work() -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as ended:
        work()
    assert ended.value.exit_code == 130
    told = capsys.readouterr().err
    assert told.startswith("interrupted ")
    assert said in told
    assert told.count("\n") == 1


def test_a_colon_in_a_text_is_no_picture(capsys: pytest.CaptureFixture[str]) -> None:
    console.note(console.literal("nofile.py:x: and :smile:"))
    assert capsys.readouterr().err == "nofile.py:x: and :smile:\n"


def test_what_is_to_be_written_is_looked_at_first(tmp_path: Path) -> None:
    check_out(out=tmp_path / "a.json", html=None)
    check_out(out=tmp_path / "a.json", html=tmp_path / "a.html")
    assert list(tmp_path.iterdir()) == []
    for targets, said in (
        ({"out": tmp_path}, f"--out: {tmp_path}: expected a file in a folder that exists"),
        ({"html": tmp_path / "no" / "a"}, f"--html: {tmp_path / 'no' / 'a'}: expected a file"),
        ({"out": Path("/proc/a.json")}, "--out: /proc/a.json cannot be written (No such file or directory); name ano"),
        ({"out": tmp_path / "a", "html": tmp_path / "." / "a"}, f"--html: {tmp_path / 'a'} is what --out is to write"),
    ):
        with pytest.raises(ConfigError) as found:
            check_out(**targets)
        assert str(found.value).startswith(said)
