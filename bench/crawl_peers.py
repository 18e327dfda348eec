"""Others' downloaders, in a Python of their own: they need other versions of what we need, and none is ours to ship."""

from __future__ import annotations

import json
import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path

from bench.errors import BenchError

__all__ = ["PINS", "install_peers", "peer_versions", "pip_install", "script"]

PINS = ("img2dataset==1.47.0", "scrapy==2.19.0", "pillow")


def install_peers(folder: Path) -> Path:
    """Makes an environment with the peers in `folder`, or takes the one that is there; returns its Python.

    Raises:
        BenchError: pip could not install them.
    """
    python = folder / "bin" / "python"
    if not (python.exists() and peer_versions(python)):
        venv.create(folder, with_pip=True, clear=True)
        if problem := pip_install(python, PINS):
            told = f"{' '.join(PINS)} could not be installed ({problem})"
            raise BenchError(f"{folder}: {told}; name a Python that has them")
    return python


def pip_install(python: Path, pins: Sequence[str]) -> str:
    """Installs into a Python's environment; gives back pip's last word where it could not, else ""."""
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *pins], capture_output=True, text=True, check=False
    )
    if not done.returncode:
        return ""
    errors = [line for line in done.stderr.splitlines() if line.strip().lower().startswith(("error", "fatal"))]
    return (errors or ["pip ended without a word"])[-1].strip()


def peer_versions(python: Path) -> dict[str, str]:
    """Versions of the peers that a Python has; {} if it does not run or has none.

    Of both or of one: what is missing is not measured.
    """
    code = (
        "import json, importlib.metadata as m\nfound = {}\nfor name in ('img2dataset', 'scrapy'):\n"
        "    try: found[name] = m.version(name)\n    except m.PackageNotFoundError: pass\nprint(json.dumps(found))"
    )
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    found: dict[str, str] = json.loads(done.stdout)
    return found


def script(name: str) -> list[str]:
    """The command, less its Python and arguments, of a peer's program."""
    return [str(Path(__file__).parent / "peers" / f"{name}.py")]
