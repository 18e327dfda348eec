"""Processor time of a window: a loader's workers count, those too that ended with their epoch."""

from __future__ import annotations

import subprocess
import sys

from bench.window import _cpu_s

BURN = "import time\nwhile time.process_time() < 0.3: pass"


def test_workers_count_while_they_live_and_after() -> None:
    begun = _cpu_s()
    subprocess.run([sys.executable, "-c", BURN], check=True)
    ended = _cpu_s()
    assert ended - begun >= 0.29
    with subprocess.Popen([sys.executable, "-c", f"{BURN}\ninput()"], stdin=subprocess.PIPE) as living:
        while living.poll() is None and _cpu_s() - ended < 0.29:
            pass
        assert living.poll() is None
        assert living.stdin
        living.stdin.close()
