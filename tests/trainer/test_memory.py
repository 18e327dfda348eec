"""Whether a set fits is judged by what is free here, a container's limit included; the same bits on request."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from trainer.device import be_deterministic
from trainer.store import free_bytes, left_by_groups


def test_a_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    for name, most, used, cache in (("", None, 0, 0), ("a", 1000, 700, 200), ("a/b", "max", 600, 0)):
        folder = tmp_path / "fs" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\n")
        if most is not None:
            (folder / "memory.max").write_text(f"{most}\n")
            (folder / "memory.current").write_text(f"{used}\n")
    (tmp_path / "cgroup").write_text("0::/a/b\n")
    assert left_by_groups(tmp_path / "cgroup", tmp_path / "fs") == [500]
    (tmp_path / "cgroup").write_text("4:cpu:/a\n")
    assert left_by_groups(tmp_path / "cgroup", tmp_path / "fs") == []


def test_there_is_memory_here() -> None:
    assert free_bytes(torch.device("cpu")) > 1 << 20


def test_deterministic_kernels_come_and_go() -> None:
    before = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    try:
        be_deterministic(True)
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"]
    finally:
        be_deterministic(False)
        if before is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    assert not torch.are_deterministic_algorithms_enabled()
