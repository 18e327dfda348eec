from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import ConfigError
from shards.shard_set import ShardSet
from shards.shuffle import ShuffleProgress, in_order, shuffle
from shards.verify import verify


def test_the_same_samples_in_another_order(real: ShardSet, tmp_path: Path) -> None:
    seen: list[ShuffleProgress] = []
    with shuffle(real, tmp_path / "a", seed=3, shard_samples=7, on_progress=seen.append) as made:
        keys = [made.key(i) for i in range(len(made))]
        before = [real.key(i) for i in range(len(real))]
        assert keys != before
        assert sorted(keys) == sorted(before)
        for i, key in enumerate(keys):
            was = real.find(key)
            assert was is not None
            assert made.image(i) == real.image(was)
            assert made.label_ids[i] == real.label_ids[was]
            assert made.meta(i) == real.meta(was) | {"group": int(real.groups[was])}
        # across shards: each of the first shards holds samples of many of the old ones
        assert len({int(real.index.rows[real.find(key)]["shard"]) for key in keys[:21]}) >= 3
    assert verify(tmp_path / "a") == []
    with shuffle(real, tmp_path / "b", seed=3, shard_samples=7, memory_bytes=20_000) as small:
        assert small.digest == made.digest
    with shuffle(real, tmp_path / "c", seed=4, shard_samples=7) as other:
        assert other.digest != made.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    with pytest.raises(ConfigError, match="seed: -1"):
        shuffle(real, tmp_path / "d", seed=-1)


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_any_order_of_any_of_them(real: ShardSet, data: st.DataObject) -> None:
    order = data.draw(st.lists(st.integers(0, 79), unique=True))
    memory = data.draw(st.sampled_from([1, 10_000, 100_000, 1 << 30]))
    with tempfile.TemporaryDirectory() as folder:
        found = list(in_order(real, np.array(order, np.int64), Path(folder), memory_bytes=memory))
        assert not list(Path(folder).iterdir())
    assert found == [real.sample(i) for i in order]


def test_what_is_left_off_leaves_nothing(real: ShardSet, tmp_path: Path) -> None:
    some = in_order(real, np.arange(80), tmp_path, memory_bytes=1)
    next(some)
    assert list(tmp_path.iterdir())
    some.close()
    assert not list(tmp_path.iterdir())


_LARGE = """
import os, re, sys
from pathlib import Path
from shards.sample import Sample
from shards.shard_set import ShardSet
from shards.shuffle import shuffle
from shards.split import split
from shards.writer import write_set

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

folder = Path(sys.argv[1])
samples = (Sample(f"k{n:05}", os.urandom(64 << 10), "jpg", n % 2) for n in range(1152))
write_set(folder / "set", samples, ["a", "b"], source={}, shard_samples=100).close()
split(folder / "set", folder / "warm", counts=(20, 20, 20), shard_samples=100)
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
begun = peak()
with ShardSet.open(folder / "set") as opened:
    shuffle(opened, folder / "shuffled", shard_samples=100, memory_bytes=8 << 20).close()
    shuffled = peak()
    split(opened, folder / "parts", fractions=(0.6, 0.2, 0.2), shard_samples=100, memory_bytes=8 << 20)
print(begun, shuffled, peak(), sum(info.bytes for info in opened.manifest.shards) / 2**20)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_memory_stays_bounded_for_a_set_that_is_larger(tmp_path: Path) -> None:
    """72 MiB of samples with 8 MiB to hold them in: the process grows by a part of the set, mapped pages counted."""
    done = subprocess.run([sys.executable, "-c", _LARGE, str(tmp_path)], capture_output=True, text=True, check=True)
    begun, shuffled, parted, size = map(float, done.stdout.split())
    assert size > 72
    assert shuffled - begun < 60
    assert parted - begun < 60
