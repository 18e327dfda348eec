"""The rooms import downwards only, and the command line starts without the heavy libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {
    "shards": set[str](),
    "crawler": {"shards"},
    "trainer": {"shards"},
    "bench": {"shards", "crawler", "trainer"},
    "bassline": {"shards", "crawler", "trainer", "bench"},
}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_no_import_points_back(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        assert _imports(path) & set(ROOMS) <= ROOMS[room] | {room}, path.relative_to(ROOT)


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "bassline"])
def test_a_room_prints_nothing(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        assert not any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls), path.name


def test_help_needs_no_torch_and_no_dali() -> None:
    code = "import sys, bassline.__main__; print([name for name in ('torch', 'nvidia.dali') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_file_is_on_the_map() -> None:
    """ARCHITECTURE.md names every file of the rooms."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    files = [path for room in ROOMS for path in (ROOT / room).glob("*.py") if not path.name.startswith("_")]
    named_by_rule = {
        "bassline",
        "crawler",
    }  # one file a command; crawl_errors.py, report.py and urls.py speak for themselves
    missing = [path.name for path in files if path.name not in text and path.parent.name not in named_by_rule]
    assert missing == []
