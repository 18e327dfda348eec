"""SIGKILL at any moment of a run, over and over: the run that is left in the end is, bit for bit, the undisturbed one.

`BASSLINE_KILLS=200 pytest tests/trainer/test_resume.py` kills that often in each mode.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.forks import Warm
from trainer.config import RunConfig, to_toml

KILLS = int(os.environ.get("BASSLINE_KILLS", "5"))
TIMES = {
    "time_to_best_s", "time_to_best_parts_s", "total_s", "time_s", "residual_s", "images_per_s", "bare_images_per_s",
}  # fmt: skip

# One process forks once a run. A run counts what it does (each step, and
# each file of its folder opened or renamed) and kills itself at a number drawn beforehand: a clock that a busy machine
# does not move. What it kills is real: nothing is flushed, no handler runs.
RUNS = """
import os, random, signal, sys
from pathlib import Path
from trainer.config import load_run
from trainer.executor import Eager
from trainer.fit import fit

config, data, folder, kills = load_run(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
count, limit, out = 0, 0, ""

def happened():
    global count
    count += 1
    if count == limit:
        os.kill(os.getpid(), signal.SIGKILL)

def audit(event, arguments):
    if out and event in ("open", "os.rename") and str(arguments[0]).startswith(out):
        happened()

run = Eager.run
Eager.run = lambda self, number: (happened(), run(self, number))
sys.addaudithook(audit)

def attempt(where, at):
    global limit, out
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        limit, out = at, str(where)
        fit(config, data, where)
        os.write(tell, str(count).encode())
        os._exit(0)
    os.close(tell)
    with os.fdopen(told) as answer:
        events = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return int(events) if status == 0 else None

events = attempt(folder / "undisturbed", 0)
draw, done = random.Random(7), 0
while done < kills:  # a run that came to its end begins anew beside: kills fall into all of a run, not its end only
    part = 0
    while done < kills and attempt(folder / f"killed-{done - part}", draw.randint(1, events // 2)) is None:
        part += 1
        done += 1
    attempt(folder / f"killed-{done - part}", 0)
"""


def told(out: Path) -> dict[str, Any]:
    """All that a run folder says, times apart."""
    result = json.loads((out / "result.json").read_text())
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {
        "result": {key: value for key, value in result.items() if key not in TIMES},
        "best": json.loads(json.dumps(result["val"])),
        "epochs": [{k: v for k, v in line.items() if k not in ("seconds", "images_per_s")} for line in lines],
        "files": {name: (out / name).read_bytes() for name in ("run.toml", "best.safetensors", "test.jsonl")},
    }


@pytest.mark.parametrize("mode", ["resident", "stream"])
def test_killed_over_and_over(
    mode: str, split: Path, tiny: Callable[..., RunConfig], tmp_path: Path, warm_python: Warm
) -> None:
    config = tiny(
        f"data.mode={mode}", "train.checkpoint_s=0", "augment.flip=true", "augment.shift=2", "optim.schedule=cosine",
        "optim.label_smoothing=0.1",
    )  # fmt: skip
    (tmp_path / "tiny.toml").write_text(to_toml(config))
    command = [str(warm_python), "-c", RUNS, str(tmp_path / "tiny.toml"), str(split), str(tmp_path), str(KILLS)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = told(tmp_path / "undisturbed")
    killed = sorted(tmp_path.glob("killed-*"))
    assert killed
    for out in killed:
        assert told(out) == expected, out.name
        assert not list(out.glob(".*.tmp")), "a finished run leaves nothing half-written"
