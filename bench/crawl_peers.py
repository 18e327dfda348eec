"""Others' downloaders, in a Python of their own: they need other versions of what we need, and none is ours to ship."""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path

from bench.errors import BenchError

__all__ = ["PINS", "install_peers", "peer_versions", "script"]

PINS = ("img2dataset==1.47.0", "scrapy==2.19.0", "pillow")


def install_peers(folder: Path) -> Path:
    """Makes an environment with the peers in `folder`, or takes the one that is there; returns its Python.

    Raises:
        BenchError: pip could not install them.
    """
    python = folder / "bin" / "python"
    if not (python.exists() and peer_versions(python)):
        venv.create(folder, with_pip=True, clear=True)
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *PINS], capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            raise BenchError(f"{folder}: {' '.join(PINS)} could not be installed ({last}); name a Python that has them")
    return python


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
