"""The commands in README.md are run, in their order, in a folder that holds only what the README says is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bassline import report
from tests.forks import Warm

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


# What needs torch starts with it imported, the loaders' processes too; the rest is the console script that a user has.
COMMAND = """#!/bin/sh
case "$1" in
train | predict | bench) WARM_EXECUTABLE="{warm}" exec "{warm}" -m bassline "$@" ;;
*) exec "{installed}" "$@" ;;
esac
"""


@pytest.mark.timeout(300)
def test_the_commands_step_by_step(tmp_path: Path, warm_python: Warm) -> None:
    (block,) = re.findall(r"```bash\n(.*?)```", README, re.S)
    (tmp_path / "battery").symlink_to(ROOT / "battery")
    command = tmp_path / "bin" / "bassline"
    command.parent.mkdir()
    command.write_text(COMMAND.format(warm=warm_python, installed=Path(sys.executable).parent / "bassline"))
    command.chmod(0o755)
    path = f"{command.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = f"set -e\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\n{block}"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for made in ("sheet.png", "runs/demo/report.html", "loaders.json"):
        assert (tmp_path / made).is_file(), made


def test_the_make_targets_are_there() -> None:
    for target in re.findall(r"^    make (\w+)", README, re.M):
        done = subprocess.run(["make", "-n", target], capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, target


def test_every_link_leads_somewhere() -> None:
    for document in (README, (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")):
        for link in re.findall(r"\]\((?!https?://)([^)#]+)\)", document):
            assert (ROOT / link).exists(), link


def test_the_tree_names_folders_that_exist() -> None:
    for folder in re.findall(r"^    (\w+)/ ", README, re.M):
        assert (ROOT / folder).is_dir(), folder


def test_the_report_page_is_a_template_that_travels() -> None:
    assert (Path(report.__file__).parent / "templates" / "report.html.j2").is_file()
