"""The rooms import downwards only, and the command line starts without the heavy libraries."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
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


@pytest.mark.parametrize("room", ROOMS)
def test_the_map_names_every_file_once_and_no_other(room: str) -> None:
    """ARCHITECTURE.md has each room's files in the room's own section, by name or by a folder they lie in."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {room}/.*?(?=^## |\Z)", text, re.M | re.S)
    named = Counter(re.findall(r"`([\w/]+\.py)`", section))
    folders = re.findall(r"`([\w/]+/)`", section)
    files = {path.relative_to(ROOT / room).as_posix() for path in (ROOT / room).rglob("*.py")}
    assert named.keys() <= files
    assert [folder for folder in folders if not (ROOT / room / folder).is_dir()] == []
    assert [name for name, count in named.items() if count > 1] == []
    open_to_all = {folder for folder in folders if not any(name.startswith(folder) for name in named)}
    unnamed = {name for name in files - named.keys() if not name.rpartition("/")[2].startswith("_")}
    assert {name for name in unnamed if not name.startswith(tuple(open_to_all))} == set()


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CHANGELOG.md", "README.md"])
def test_nothing_is_said_twice(name: str) -> None:
    """As a merge leaves it: a line, or the beginning of a point, that is there again."""
    text = (ROOT / name).read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines() if len(line.strip()) > 30 and not line.startswith("|--")]
    sentences = [part for part in re.split(r"[.:;]\s+|\n\s*\n|\n- ", text) if len(part) > 30]
    whole = [" ".join(sentence.split()).strip("-|. ") for sentence in sentences]
    for told in (lines, whole):
        assert [line for line, count in Counter(told).items() if count > 1] == []
