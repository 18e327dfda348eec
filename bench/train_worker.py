"""One of our runs in a process of its own: `python -m bench.train_worker JSON` writes one JSON line."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(wish: dict[str, Any]) -> dict[str, Any]:
    """Trains as `wish` says; times are seconds since `wish["started"]`, a `time.monotonic()` of the process before."""
    began = time.monotonic() - wish["started"]
    from trainer.config import resolve
    from trainer.fit import fit

    imported = time.monotonic() - wish["started"]
    out = Path(wish["out"])
    result = fit(resolve(wish["config"]), Path(wish["data"]), out, started=wish["started"])
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {"start_s": began, "import_s": imported - began, "epochs": lines, "result": result}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
