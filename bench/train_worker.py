"""One of our runs in a process of its own: `python -m bench.train_worker JSON` writes one JSON line."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(wish: dict[str, Any]) -> dict[str, Any]:
    """Trains as `wish` says; times are seconds since `wish["started"]`, a `time.monotonic()` of the process before."""

    def now() -> float:
        return time.monotonic() - float(wish["started"])

    began = now()
    from trainer.config import resolve
    from trainer.fit import Progress, fit

    imported = now()
    ended: dict[int, float] = {}

    def note(progress: Progress) -> None:
        # an epoch is counted once it is validated: its number is not seen with all of it done any sooner
        if progress.stage == "train" and progress.done == progress.total:
            ended.setdefault(progress.epoch, now())

    out = Path(wish["out"])
    result = fit(resolve(wish["config"]), Path(wish["data"]), out, started=wish["started"], on_progress=note)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [{**line, "ended_s": ended[line["epoch"]]} for line in lines]
    return {"start_s": began, "import_s": imported - began, "epochs": lines, "result": result}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
