"""What a crawl's first process imports before it fetches: a second of processor is a thousand images."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("numpy", "PIL", "simplejpeg", "torch", "sklearn", "pyarrow", "prometheus_client")


@pytest.mark.parametrize("module", ["crawler.crawl", "bassline.crawl"])
def test_it_waits_for_nothing_heavy(module: str) -> None:
    script = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.split() == []
