"""Every command line of docs/shards.md is one that the command line takes, and every command has one."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from bassline.set_commands import app

PAGE = Path(__file__).parents[2] / "docs" / "shards.md"
LINES = [line.strip() for line in PAGE.read_text().splitlines() if line.startswith("    bassline shards ")]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_taken(line: str) -> None:
    name, *rest = shlex.split(line, comments=True)[2:]
    with COMMANDS[name].make_context(name, rest):  # parses, and runs nothing
        pass


def test_every_command_has_a_line() -> None:
    assert {shlex.split(line, comments=True)[2] for line in LINES} == set(COMMANDS)
