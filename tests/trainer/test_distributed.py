"""Two processes over gloo train what one trains, to rounding, and lose and double no sample."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.forks import Warm
from trainer.config import RunConfig, to_toml
from trainer.distributed import World, share
from trainer.fit import fit

TRAIN = """
import sys
from pathlib import Path
from trainer.config import load_run
from trainer.fit import fit
fit(load_run(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]))
"""


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 4), st.integers(1, 8))
def test_shares_make_the_order_again(count: int, size: int, rows: int) -> None:
    order, batch = np.random.default_rng(count).permutation(count), size * rows
    shares = [share(order, batch, World(rank, size)) for rank in range(size)]
    tail = count % batch
    whole = order[: count - tail] if 0 < tail < size else order
    for start in range(0, len(whole), batch):
        step = [mine[start // size : start // size + rows] for mine in shares]
        assert np.array_equal(np.concatenate(step)[: len(whole) - start], order[start : start + batch][: len(whole)])
    if 0 < tail < size:
        for mine in shares:
            assert np.array_equal(mine[-tail:], order[-tail:])
    assert len({-(-len(mine) // rows) for mine in shares}) == 1  # all take the same number of steps


def _by_torchrun(words: list[str]) -> list[str]:
    """Started as a user starts them; what went wrong."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    return [done.stderr] if done.returncode else []


def _by_hand(python: Warm, words: list[str]) -> list[str]:
    """Started with the environment that torchrun gives, which spares three imports of torch."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [str(python), "-c", TRAIN, *words[1:]],
            stderr=subprocess.PIPE, text=True, env={**os.environ, **told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    ended = [process.communicate()[1] for process in started]
    return [said for process, said in zip(started, ended, strict=True) if process.returncode]


@pytest.mark.parametrize("batch", [14, 16])  # 71 samples: a last batch of one sample, which both have, and one of seven
def test_two_processes_train_what_one_trains(
    batch: int, split: Path, tiny: Callable[..., RunConfig], tmp_path: Path, warm_python: Warm
) -> None:
    config = tiny(f"train.batch={batch}", "net.layers.0.dropout=0", "train.epochs=2", "train.checkpoint_s=0")
    (tmp_path / "tiny.toml").write_text(to_toml(config))
    (tmp_path / "train.py").write_text(TRAIN)
    alone = fit(config, split, tmp_path / "alone")
    words = [str(tmp_path / "train.py"), str(tmp_path / "tiny.toml"), str(split), str(tmp_path / "two")]
    assert (_by_torchrun(words) if batch == 14 else _by_hand(warm_python, words)) == []
    together = json.loads((tmp_path / "two" / "result.json").read_text())
    assert together["processes"] == 2
    assert together["samples"] == alone["samples"]
    lines = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("alone", "two")
    ]
    for one, two in zip(*lines, strict=True):
        assert two["images"] == one["images"] == 71
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-4)
        assert two["val_loss"] == pytest.approx(one["val_loss"], rel=1e-3)
    assert sum(map(sum, together["test"]["confusion"])) == 24
    assert together["test"]["confusion"] == alone["test"]["confusion"]
