"""Others' loaders, in a Python of their own that sees this one's packages: torch and DALI are not installed twice.

They need other versions of what we need (NumPy below 2.2), and many clouds' clients (docs/decisions/bench-peers.md).
"""

from __future__ import annotations

import json
import subprocess
import sysconfig
import venv
from pathlib import Path

from bench.crawl_peers import pip_install
from bench.errors import BenchError

__all__ = ["BUILT", "PINS", "install_loader_peers", "loader_peers", "modules_of"]

PINS = ("litdata==0.2.76", "mosaicml-streaming==0.13.0", "spdl==0.8.0", "webdataset==1.0.2")
BUILT = ("ffcv==1.0.2",)
"""Compiled where it is installed: needs a C++ compiler, pkg-config and the headers of OpenCV 4 and libjpeg-turbo."""

_MODULES = {
    "ffcv": "ffcv", "litdata": "litdata", "mosaicml-streaming": "streaming", "spdl": "spdl.pipeline",
    "webdataset": "webdataset",
}  # fmt: skip


def install_loader_peers(folder: Path) -> tuple[Path, str]:
    """Makes an environment with the peers in `folder`, or completes the one that is there.

    Returns:
        Its Python, and why FFCV is missing; "" where it is there.

    Raises:
        BenchError: pip could not install them.
    """
    python = folder / "bin" / "python"
    found = loader_peers(python) if python.exists() else {}
    if not all(pin.partition("==")[0] in found for pin in PINS):
        venv.create(folder, with_pip=True, clear=True)
        # a folder added by name only would leave its own .pth files unread, editable installs among them
        here = sysconfig.get_paths()["purelib"]
        inside = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})["purelib"]
        Path(inside, "bassline-packages.pth").write_text(f"import site; site.addsitedir({here!r})\n")
        if problem := pip_install(python, PINS):
            raise BenchError(f"{folder}: {' '.join(PINS)} could not be installed ({problem}); name a Python with them")
    if "ffcv" in found:
        return python, ""
    return python, pip_install(python, BUILT)


def loader_peers(python: Path) -> dict[str, str]:
    """Versions of the peers that a Python has, by name; {} if it does not run or has none."""
    code = (
        "import json, sys, importlib.metadata as m\nfound = {}\nfor name in json.loads(sys.argv[1]):\n"
        "    try: found[name] = m.version(name)\n    except m.PackageNotFoundError: pass\nprint(json.dumps(found))"
    )
    try:
        done = subprocess.run([python, "-c", code, json.dumps([*_MODULES])], capture_output=True, text=True, check=True)
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return {}
    return found


def modules_of(peers: dict[str, str]) -> set[str]:
    """What of the peers can be imported."""
    return {_MODULES[name] for name in peers if name in _MODULES}
