"""Two processes over gloo train what one trains, to rounding, and lose and double no sample."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config import RunConfig, to_toml
from trainer.distributed import World, share
from trainer.errors import RunStopped
from trainer.fit import fit

TRAIN = """
import os
import sys
from pathlib import Path
from trainer.config import load_run
from trainer.fit import fit
from trainer.decode import ThreadedDecoder

decoded, real = [], ThreadedDecoder.decode
def counted(self, images, out):
    decoded.append(len(images))
    return real(self, images, out)
ThreadedDecoder.decode = counted

last = int(sys.argv[4])
try:
    fit(load_run(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]),
        on_epoch=lambda line: "far enough" if line["epoch"] >= last else None)
finally:
    Path(f"{sys.argv[3]}.decoded.{os.environ['RANK']}").write_text(str(sum(decoded)))
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


def two_processes(config: RunConfig, split: Path, out: Path, last: int = 99) -> subprocess.CompletedProcess[str]:
    """Has torchrun train in two processes up to epoch `last`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    run, script = out.with_suffix(".toml"), out.with_suffix(".py")
    run.write_text(to_toml(config))
    script.write_text(TRAIN)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(script), str(run), str(split), str(out), str(last)]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def lines_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def same_to_rounding(ones: list[dict[str, Any]], twos: list[dict[str, Any]]) -> None:
    for one, two in zip(ones, twos, strict=True):
        assert two["images"] == one["images"] == 71  # one of 72 is damaged
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-4)
        assert two["val_loss"] == pytest.approx(one["val_loss"], rel=1e-3)


def test_two_processes_train_what_one_trains(split: Path, tiny: Callable[..., RunConfig], tmp_path: Path) -> None:
    """In memory: each decodes its half and has all of it. Batches of 14: the last is of one sample, which both have."""
    config = tiny("train.batch=14", "net.layers.0.dropout=0", "train.epochs=2", "train.checkpoint_s=0")
    alone = fit(config, split, tmp_path / "alone")
    done = two_processes(config, split, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    together = json.loads((tmp_path / "two" / "result.json").read_text())
    assert together["processes"] == 2
    for key in ("samples", "bad_samples", "mode"):
        assert together[key] == alone[key], key
    same_to_rounding(lines_of(tmp_path / "alone"), lines_of(tmp_path / "two"))
    assert sum(map(sum, together["test"]["confusion"])) == 24
    assert together["test"]["confusion"] == alone["test"]["confusion"]
    tested = [(tmp_path / name / "test.jsonl").read_text().splitlines() for name in ("alone", "two")]
    assert [json.loads(line)["key"] for line in tested[0]] == [json.loads(line)["key"] for line in tested[1]]
    decoded = [int(path.read_text()) for path in tmp_path.glob("two.decoded.*")]
    assert sorted(decoded) == [60, 60]  # 72 + 24 + 24 images, none by both


def test_a_run_goes_on_with_another_number_of_processes(
    split: Path, tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """One process, then two, then one, streaming: as one all along, to rounding."""
    config = tiny(
        "train.batch=16", "net.layers.0.dropout=0", "train.epochs=3", "train.checkpoint_s=0", "data.mode=stream"
    )
    alone, turns = tmp_path / "alone", tmp_path / "turns"
    undisturbed = fit(config, split, alone)
    with pytest.raises(RunStopped):
        fit(config, split, turns, on_epoch=lambda _: "far enough")
    done = two_processes(config, split, turns, last=2)
    assert "stopped after epoch 2: far enough" in done.stderr
    assert not (turns / "result.json").exists()
    result = fit(config, split, turns)
    same_to_rounding(lines_of(alone), lines_of(turns))
    assert result["best_epoch"] == undisturbed["best_epoch"]
    assert result["test"]["confusion"] == undisturbed["test"]["confusion"]
