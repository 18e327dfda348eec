"""The GPU's check, as far as a CPU goes: it tells what is from what should be, and a part that fails costs itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import gpu_check


def test_a_part_that_fails_costs_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "check.json"
    wish = ["--data", str(tmp_path / "none"), "--out", str(out), "--device", "cpu", "--parts", "pixels,dropout"]
    assert gpu_check.main(wish) == 1
    parts = json.loads(out.read_text())["parts"]
    assert parts["pixels"]["error"].startswith("SplitIncomplete")
    assert parts["dropout"]["ok"]
    assert len(set(parts["dropout"]["losses"])) == 4
    assert "NOT OK" in capsys.readouterr().out


def test_losses_apart_are_told() -> None:
    assert gpu_check._apart([1.0, 2.0], [1.0, 2.0]) == 0
    assert gpu_check._apart([1.1, 2.2], [1.0, 2.0]) == pytest.approx(0.1, abs=1e-6)


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        gpu_check.main(["--data", "x", "--out", "y", "--parts", "pixels,warp"])
    assert caught.value.code == 2
