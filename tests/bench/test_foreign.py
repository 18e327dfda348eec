"""Somebody's own loader: what is wrong with it is said in a line that names it and the place in their file."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.foreign import ForeignLoader
from bench.stages import load_function, what_happened
from bench.zygote import MeasurementFailed, Zygote
from shards.errors import ConfigError

LOADERS = """
import numpy as np


class Again:
    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        for batch in self.batches:
            if isinstance(batch, Exception):
                raise batch
            yield batch


BATCH = np.zeros((4, 8, 8, 3), np.uint8)


def good():
    return Again([{"image": BATCH, "label": np.zeros(4)}] * 3)


def endless():
    while True:
        yield BATCH


def once():
    yield from [BATCH] * 9


def empty():
    return Again([])


def no_images():
    return Again([BATCH[:0]])


def raises():
    return Again([BATCH] * 6 + [ValueError("boom\\nin two lines")])


def cannot():
    raise OSError("there is no\\nsuch disk")


def wants(something):
    return Again([BATCH])


def number():
    return 3
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("loaders") / "mine.py"
    path.write_text(LOADERS)
    return path


def pull(spec: str, count: int = 30) -> list[int]:
    loader = ForeignLoader(spec, None, "sleep:1us")
    try:
        return list(islice(loader.batches(), count))
    finally:
        loader.close()


@pytest.mark.parametrize("name", ["good", "endless"])
def test_any_iterable_of_batches_will_do(name: str, file: Path) -> None:
    assert pull(f"{file}:{name}") == [4] * 30


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("once", ConfigError, "gave an iterator, which ends once and for all; return what can be iterated again"),
        ("empty", BenchError, "gave no batch in an epoch"),
        ("no_images", BenchError, "gave a batch of no images"),
        ("raises", BenchError, r"ValueError: boom in two lines \(mine.py:12\)"),
        ("cannot", BenchError, r"OSError: there is no such disk \(mine.py:45\)"),
        ("wants", ConfigError, "is called without arguments, and wants some .*something"),
        ("number", ConfigError, "gave a int; expected an iterable of batches"),
        ("nothing", ConfigError, "has no function nothing"),
    ],
)
def test_what_is_wrong_is_said(name: str, error: type[Exception], said: str, file: Path) -> None:
    with pytest.raises(error, match=said) as found:
        pull(f"{file}:{name}")
    assert str(found.value).startswith("--loader")
    assert str(file) in str(found.value)


def test_a_file_that_cannot_be_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import math\nmath.pie\n")
    with pytest.raises(ConfigError, match=r"cannot be imported \(AttributeError: .*pie.* \(broken.py:2\)\)"):
        load_function(f"{tmp_path / 'broken.py'}:loader", "--loader")


def test_what_a_worker_raised_is_its_last_line() -> None:
    text = "Caught IndexError in DataLoader worker process 0.\nTraceback (most recent call last):\nIndexError: 7"
    assert what_happened(IndexError(text)) == "IndexError: 7"
    assert what_happened(RuntimeError("one\ntwo")) == "RuntimeError: one two"
    assert what_happened(RuntimeError()) == "RuntimeError"


def test_a_measuring_process_passes_it_on_as_it_is(file: Path) -> None:
    job = {"config": None, "data": None, "loader": f"{file}:raises", "compute": "sleep:1us", "hook": "", "seconds": 0.1}
    with Zygote(("torch", "bench.window", "bench.foreign")) as mother, pytest.raises(MeasurementFailed) as found:
        mother.run("bench.window:measure", {**job, "modes": ["warm"], "steps": 20, "epochs": 1})
    assert str(found.value) == f"--loader {file}:raises: ValueError: boom in two lines (mine.py:12)"
