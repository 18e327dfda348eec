"""Every command line of docs/bench.md is one that the command line takes, and every command has one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from bassline.bench import app
from bench.verdict import RULES

PAGE = (Path(__file__).parents[2] / "docs" / "bench.md").read_text()
LINES = [line.strip() for line in PAGE.splitlines() if line.startswith("    bassline bench ")]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the lines' folders are: some options want one that exists."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts" / "train").mkdir(parents=True)


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_taken(line: str) -> None:
    name, *rest = shlex.split(line, comments=True)[2:]
    with COMMANDS[name].make_context(name, rest):  # parses, and runs nothing
        pass


def test_every_command_has_a_line() -> None:
    assert {shlex.split(line, comments=True)[2] for line in LINES} == set(COMMANDS)


def test_the_verdicts_are_those_of_the_rules_in_their_order() -> None:
    assert re.findall(r"^\| ([A-Z_]+) \|", PAGE, re.MULTILINE) == [name for name, _ in RULES]


def test_the_loaders_are_python() -> None:
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        compile(code, "docs/bench.md", "exec")
