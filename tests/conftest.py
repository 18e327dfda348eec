"""Real thumbnails for every room's tests: the folder beside the project, never copied into it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.forks import Warm

ROOT = Path(__file__).resolve().parents[1]

# Before torch is imported, here or in a process that a test starts: where more threads than cores are at work, those of
# OpenMP that wait for each other otherwise spin, which doubled the CPU time of the trainer's tests.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A shell has what it starts in the background ignore Ctrl-C, which is handed on: tests interrupt what they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# An example's milliseconds say how busy the machine is: fsync, imports and the other worker's tests are all in them.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What passing tests have to tell, from whichever worker they ran in: how many kills were survived."""
    for test in terminalreporter.getreports("passed"):
        for name, told in test.user_properties:
            if name == "told":
                terminalreporter.write_line(f"{test.nodeid}: {told}")


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """In place of `sys.executable`, for processes that need torch: they start with it imported."""
    folder = tmp_path_factory.getbasetemp()
    with Warm(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) as warm:
        yield warm


@pytest.fixture(scope="session")
def instruments10() -> Path:
    """Ten label folders of real product thumbnails; skips where they are absent."""
    folder = ROOT.parent / "shared" / "data" / "instruments10"
    if not folder.is_dir():
        pytest.skip("shared/data/instruments10 is not beside the project")
    return folder


@pytest.fixture(scope="session")
def thumbnails(instruments10: Path) -> dict[str, list[Path]]:
    """Eight real thumbnails for each of the ten labels."""
    return {folder.name: sorted(folder.iterdir())[:8] for folder in sorted(instruments10.iterdir()) if folder.is_dir()}
