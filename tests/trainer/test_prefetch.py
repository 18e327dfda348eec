"""Processes that decode give what threads give, end with whoever started them, and are missed when they are gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import ConfigError
from shards.shard_set import ShardSet
from tests.forks import Warm
from trainer.config import RunConfig
from trainer.decode import Bytes, Decoder, SimplejpegDecoder, ThreadedDecoder, open_decoder
from trainer.errors import WorkerLost
from trainer.fit import fit
from trainer.prefetch import AHEAD, DecodeCrew, ProcessPrefetch, open_crew
from trainer.preparation import _some_images
from trainer.store import Moments
from trainer.stream import Stream, scan

_SIZE = 24
_MOST = 16  # images a batch


class Unsendable(Exception):
    def __init__(self, told: str, more: object) -> None:
        super().__init__(told)
        self.more = lambda: more


class Broken(SimplejpegDecoder):
    """Fails at the second image it is given."""

    def decode_here(self, images: Sequence[Bytes], rows: object) -> list[int]:
        raise Unsendable("cannot be pickled", images)


class Wordy(SimplejpegDecoder):
    """Raises what is longer or shorter every time, so that one text over another would be neither."""

    def decode_here(self, images: Sequence[Bytes], rows: object) -> list[int]:
        raise KeyError("x" * (np.random.default_rng().integers(3000)))


class Warner(SimplejpegDecoder):
    def decode_here(self, images: Sequence[Bytes], rows: np.ndarray) -> list[int]:
        warnings.warn("as Pillow does of damaged images", stacklevel=1)
        print("and so may anybody")
        return super().decode_here(images, rows)


class Apart(Decoder):
    """A decoder that is no threads, as DALI's is."""

    name = "apart"

    def decode(self, images: Sequence[Bytes], out: torch.Tensor) -> list[int]:
        return []


@pytest.fixture(scope="module")
def source(split: Path) -> ShardSet:
    return ShardSet.open(split / "train")


@pytest.fixture(scope="module")
def val(split: Path) -> ShardSet:
    return ShardSet.open(split / "val")


def decoder_of(name: str = "simplejpeg", threads: int = 2) -> ThreadedDecoder:
    decoder = open_decoder(name, _SIZE, "pad", threads, "cpu")
    assert isinstance(decoder, ThreadedDecoder)
    return decoder


@pytest.fixture
def crew(source: ShardSet, val: ShardSet) -> Iterator[DecodeCrew]:
    crew = DecodeCrew([source, val], decoder_of(), _MOST, 2)
    yield crew
    crew.close()


def workers_of(crew: DecodeCrew) -> list[int]:
    return list(crew._processes.values())


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descriptors_of(process: int) -> dict[int, str]:
    """What a process has open besides the standard three, and where each leads."""
    found = {}
    for link in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found[int(link.name)] = str(link.readlink())
    return {number: place for number, place in found.items() if number > 2}


def gone(processes: Sequence[int], within_s: float = 10) -> bool:
    end = time.monotonic() + within_s
    while any(map(is_alive, processes)) and time.monotonic() < end:
        time.sleep(0.01)
    return not any(map(is_alive, processes))


def everything(stream: Stream, order: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    got = [(view.numpy().copy(), part) for view, part in stream.views(order, size)]
    return np.concatenate([images for images, _ in got]), np.concatenate([part for _, part in got])


def stream_of(source: ShardSet, decoder: Decoder, crew: DecodeCrew | None = None, workers: str = "auto") -> Stream:
    return Stream(source, "train", decoder, np.arange(len(source)), [], workers, crew)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["simplejpeg", "pillow", "torchvision"])
@pytest.mark.parametrize("size", [1, 16, 72])
def test_processes_give_what_threads_give(source: ShardSet, name: str, size: int) -> None:
    order = np.random.default_rng(size).permutation(len(source))
    streams = [stream_of(source, decoder_of(name, 3), workers=workers) for workers in ("threads", "processes")]
    for _ in range(2):
        (images, samples), (others, of_others) = (everything(stream, order, size) for stream in streams)
        assert (samples == of_others).all()
        assert (images == others).all()
    told = [[(bad.key, bad.offset) for bad in stream.bad] for stream in streams]
    assert told[0] == told[1] != []  # one image of the split is damaged
    for stream in streams:
        stream.close()


def test_auto_is_processes_where_several_would_decode(source: ShardSet) -> None:
    assert open_crew([source], decoder_of(threads=1), 8) is None
    assert open_crew([source], decoder_of(), 8, "threads") is None
    assert open_crew([source], Apart(_SIZE, "pad", 2), 8) is None
    for threads, workers in ((2, "auto"), (1, "processes")):
        crew = open_crew([source], decoder_of(threads=threads), 8, workers)  # type: ignore[arg-type]
        assert crew is not None
        assert len(workers_of(crew)) == threads
        crew.close()


def test_processes_that_cannot_be_are_refused_in_a_line(split: Path) -> None:
    with ShardSet.open(split / "val") as source:
        with pytest.raises(ConfigError, match=r'data.workers: processes: apart has threads of its own; .*or "auto"'):
            open_crew([source], Apart(_SIZE, "pad", 2), 8, "processes")
        source.tars = tuple(source.tars)  # as those of a set in a store: not a list
        assert open_crew([source], decoder_of(), 8) is None
        with pytest.raises(ConfigError, match=f'{split / "val"} comes from a store .*or "auto"'):
            open_crew([source], decoder_of(), 8, "processes")


def test_what_contradicts_itself_is_refused_before_anything_is_made(tiny: Callable[..., RunConfig]) -> None:
    with pytest.raises(ConfigError, match=r"data: workers = .processes. is for .*; dali has its own threads$"):
        tiny("data.decoder=dali", "data.workers=processes")


def test_streams_take_turns_at_a_crew(source: ShardSet, val: ShardSet, crew: DecodeCrew) -> None:
    first, second = (stream_of(part, decoder_of(), crew) for part in (source, val))
    alone = [
        everything(stream_of(part, decoder_of(), workers="threads"), np.arange(len(part)), 8) for part in (source, val)
    ]
    for _ in range(2):
        for stream, (images, samples) in zip((first, second), alone, strict=True):
            got, of = everything(stream, np.arange(len(stream.source)), 8)
            assert (of == samples).all()
            assert (got == images).all()
    left = first.views(first.samples, 16)
    next(left)
    assert crew.busy
    got, of = everything(second, np.arange(len(val)), 8)  # by processes of its own meanwhile
    assert (got == alone[1][0]).all()
    left.close()
    assert not crew.busy
    second.close()


def test_the_first_look_is_the_same_in_processes(source: ShardSet, crew: DecodeCrew) -> None:
    seen = []
    told: list[int] = []
    for by in (None, crew):
        told.clear()
        moments = Moments()
        stream = scan(source, "train", decoder_of(), moments=moments, on_progress=lambda n, _: told.append(n), crew=by)
        seen.append((stream.samples.tolist(), [bad.key for bad in stream.bad], *map(str, moments.mean_and_std())))
        assert told == sorted(told)
        assert told[-1] == len(source)
        stream.close()
    assert seen[0] == seen[1]
    assert crew.used
    assert not crew.busy


STANDARD_CLOSED = """
import sys
import numpy as np
from pathlib import Path
from shards.shard_set import ShardSet
from trainer.decode import open_decoder
from trainer.stream import scan
from trainer.prefetch import DecodeCrew
with ShardSet.open(Path(sys.argv[1])) as source:
    decoder = open_decoder("simplejpeg", 24, "pad", 2, "cpu")
    stream = scan(source, "val", decoder, crew=DecodeCrew([source], decoder, 16, 2))
    assert len(stream.samples) + len(stream.bad) == len(source)
Path(sys.argv[2]).touch()
"""


@pytest.mark.parametrize("closed", ["<&-", "<&- >&-", "<&- >&- 2>&-"])
def test_standard_descriptors_may_be_closed(closed: str, split: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-c", STANDARD_CLOSED, str(split / "val"), str(tmp_path / "done")]
    done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "done").exists()


@given(st.data())
@settings(max_examples=60)
def test_any_order_of_beginning_and_taking(source: ShardSet, all_of: All, data: st.DataObject) -> None:
    ring = ProcessPrefetch(all_of.crew, source, all_of.crew.decoder, _MOST)
    begun: list[np.ndarray] = []
    try:
        for _ in range(data.draw(st.integers(1, 20))):
            move = data.draw(st.sampled_from(["begin", "take", "settle"]))
            if move == "begin" and ring.has_room:
                indices = data.draw(st.lists(st.integers(0, len(source) - 1), min_size=1, max_size=_MOST))
                begun.append(np.array(indices))
                ring.begin(begun[-1])
            elif move == "take" and begun:
                images, part, bad = ring.take()
                assert (part == begun.pop(0)).all()
                good = part != all_of.damaged
                assert (images.numpy()[good] == all_of.expected[part[good]]).all()
                assert (np.flatnonzero(~good) == bad).all()
                ring.release()
            elif move == "settle":
                ring.settle()
                begun.clear()
            assert len(begun) <= AHEAD + 1
    finally:  # hypothesis breaks off an example in the middle
        ring.settle()
        ring.close()


class All(NamedTuple):
    crew: DecodeCrew
    expected: np.ndarray
    damaged: int


@pytest.fixture(scope="module")
def all_of(source: ShardSet) -> Iterator[All]:
    decoder = decoder_of()
    whole = torch.zeros((len(source), _SIZE, _SIZE, 3), dtype=torch.uint8)
    (damaged,) = decoder.decode([source.image(i) for i in range(len(source))], whole)
    crew = DecodeCrew([source], decoder, _MOST, 2)
    yield All(crew, whole.numpy(), damaged)
    crew.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_ends_is_told_in_a_line(source: ShardSet, crew: DecodeCrew, number: signal.Signals) -> None:
    stream = stream_of(source, decoder_of(), crew)
    batches = stream.views(np.tile(stream.samples, 50), 8)
    next(batches)
    os.kill(workers_of(crew)[0], number)
    line = rf"^{source.folder}: a process .* by signal {number.value} \(.*run the same.*$"
    with pytest.raises(WorkerLost, match=line):
        for _ in batches:
            pass
    assert gone(workers_of(crew))
    images, samples = everything(stream, stream.samples, 8)  # and whoever asks again gets others
    assert len(images) == len(samples) == len(source) - 1
    stream.close()


def children_of(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def test_a_tar_that_is_cut_short_ends_no_more_than_the_stream(split: Path, tmp_path: Path) -> None:
    shutil.copytree(split / "train", tmp_path / "train")
    with ShardSet.open(tmp_path / "train") as source:
        stream = stream_of(source, decoder_of())
        (tar,) = (tmp_path / "train").glob("*.tar")
        os.truncate(tar, 8192)
        with pytest.raises(WorkerLost, match=r"signal 7 \(a tar became shorter or could not be read\)"):
            everything(stream, stream.samples, 8)
        stream.close()
        crew = DecodeCrew([source], decoder_of(), _MOST, 2)
        with pytest.raises(WorkerLost, match=r"signal 7"):  # that is the first look
            scan(source, "train", decoder_of(), crew=crew)
        crew.close()


def test_an_error_that_cannot_be_sent_comes_as_text(source: ShardSet) -> None:
    stream = stream_of(source, Broken(_SIZE, "pad", 2))
    for _ in range(2):  # and its processes go on
        with pytest.raises(RuntimeError, match="Unsendable: cannot be pickled"):
            next(stream.views(stream.samples, 8))
    stream.close()


def test_errors_of_all_chunks_are_told_apart(source: ShardSet) -> None:
    stream = stream_of(source, Wordy(_SIZE, "pad", 2))
    for _ in range(30):
        with pytest.raises(KeyError, match=r"^'x*'$"):
            next(stream.views(np.tile(stream.samples, 3), 64))
    stream.close()


@pytest.mark.filterwarnings("always")
def test_nobody_waits_for_a_lock_that_was_held_at_the_fork(source: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        lock = threading.Lock()

        def write(self, text: str) -> None:
            with self.lock:
                pass

        def flush(self) -> None:
            self.write("")

    stream = stream_of(source, Warner(_SIZE, "pad", 2))
    with monkeypatch.context() as patch, Terminal.lock:  # as a progress bar's thread holds it
        patch.setattr(sys, "stderr", Terminal())
        patch.setattr(sys, "stdout", Terminal())
        assert len(everything(stream, stream.samples, 8)[1]) == len(source) - 1
    stream.close()


@pytest.mark.parametrize("where", ["_hear", "poll"])
def test_an_interrupt_anywhere_ends_in_time(source: ShardSet, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    stream = stream_of(source, decoder_of())
    with monkeypatch.context() as patch:
        if where == "_hear":
            patch.setattr(DecodeCrew, "_hear", interrupted)
        else:
            patch.setattr("trainer.prefetch.os.write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(stream.views(stream.samples, 8))
    assert len(everything(stream, stream.samples, 8)[1]) == len(source) - 1
    stream.close()


def test_they_hold_nothing_of_their_parents(source: ShardSet, crew: DecodeCrew) -> None:
    end = time.monotonic() + 30
    for process in workers_of(crew):
        held = descriptors_of(process)
        while time.monotonic() < end and len(held) != 2:  # it lets go of them once it runs
            time.sleep(0.01)
            held = descriptors_of(process)
        assert [place.partition(":")[0] for place in held.values()] == ["pipe", "pipe"]


def test_auto_is_one_a_core_at_most(source: ShardSet) -> None:
    crew = open_crew([source], decoder_of(threads=64), 8)
    assert (len(workers_of(crew)) if crew else 1) == len(os.sched_getaffinity(0))
    if crew:
        crew.close()


def test_a_crew_that_was_closed_writes_nowhere(source: ShardSet, crew: DecodeCrew, tmp_path: Path) -> None:
    crew.close()
    files = [(tmp_path / str(n)).open("wb", buffering=0) for n in range(8)]  # where its pipes were
    ring = ProcessPrefetch(crew, source, crew.decoder, 8)
    with pytest.raises(WorkerLost):
        ring.begin(np.arange(8))
    for file in files:
        file.close()
        assert Path(file.name).stat().st_size == 0


def test_a_whitening_stem_needs_no_crew_of_its_own(source: ShardSet, crew: DecodeCrew) -> None:
    stream = stream_of(source, decoder_of(), crew)
    stream.samples = np.delete(stream.samples, 5)
    images = _some_images(stream, _SIZE, _MOST)
    whole = everything(stream_of(source, decoder_of(), workers="threads"), stream.samples, 8)[0]
    assert (images.numpy() == whole).all()
    assert stream._kept is None


LIMITED = """
import os, resource, sys
from shards.errors import ConfigError
from shards.shard_set import ShardSet
from trainer.decode import open_decoder
from trainer.preparation import _some_images
from trainer.prefetch import open_crew
source, decoder = ShardSet.open(sys.argv[1]), open_decoder("simplejpeg", 24, "pad", 2, "cpu")
held = len(os.listdir("/proc/self/fd")) - 1
for free in range(8):
    kept = [os.dup(0) for _ in range(64)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(kept) + 1 + free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for workers in ("auto", "processes"):
        try:
            crew = open_crew([source], decoder, 8, workers)
            if crew:
                crew.close()
            said = "crew" if crew else "threads"
        except ConfigError as error:
            said = "error"
            assert len(str(error).splitlines()) == 1, error
        print(free, said)
    for descriptor in kept:
        os.close(descriptor)
    assert len(os.listdir("/proc/self/fd")) - 1 == held
    assert not open(f"/proc/self/task/{os.getpid()}/children").read()
"""


def test_without_descriptors_it_is_threads_and_nothing_is_left(split: Path, warm_python: Warm) -> None:
    command = [str(warm_python), "-c", LIMITED, str(split / "train")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert told[:2] == ["0 threads", "0 error"]
    assert told[-2:] == ["7 crew", "7 crew"]


def test_what_comes_for_a_whole_group_is_not_for_them(source: ShardSet, crew: DecodeCrew) -> None:
    stream = stream_of(source, decoder_of(), crew)
    for process in workers_of(crew):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(process, number)
    assert len(everything(stream, stream.samples, 8)[1]) == len(source) - 1
    assert all(map(is_alive, workers_of(crew)))


def test_nothing_is_left_behind(source: ShardSet) -> None:
    def held() -> tuple[int, list[str]]:
        return len(os.listdir("/proc/self/fd")), children_of(os.getpid())  # noqa: PTH208

    before = held()
    for _ in range(3):
        stream = stream_of(source, decoder_of())
        view, _part = next(iter(stream.views(stream.samples, 8)))
        stream.close()
        assert held() == before
        view.sum()  # what it gave can still be read
    stream = stream_of(source, decoder_of())
    next(iter(stream.views(stream.samples, 8)))
    assert held() != before
    del stream  # nobody closed it
    assert held() == before


def test_begun_in_any_thread(source: ShardSet) -> None:
    got: list[int] = []

    def work() -> None:
        stream = stream_of(source, decoder_of())
        got.append(len(everything(stream, stream.samples, 8)[1]))
        stream.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [len(source) - 1] * 3


PARENT = """
import os, sys, time
import numpy as np
from shards.shard_set import ShardSet
from trainer.decode import open_decoder
from trainer.preparation import _some_images
from trainer.prefetch import DecodeCrew
sources = [ShardSet.open(sys.argv[1]) for _ in range(2)]
crews = [DecodeCrew([source], open_decoder("simplejpeg", 24, "pad", 2, "cpu"), 8, 2) for source in sources]
print(*[process for crew in crews for process in crew._processes.values()], flush=True)
time.sleep(60) if sys.argv[2] == "wait" else sys.exit(0)
"""


@pytest.mark.parametrize("end", ["wait", "exit"])
def test_they_end_with_their_parent(split: Path, warm_python: Warm, end: str) -> None:
    parent = subprocess.Popen(
        [str(warm_python), "-c", PARENT, str(split / "train"), end], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    workers = [int(process) for process in parent.stdout.readline().split()]
    assert len(workers) == 4
    if end == "wait":
        mother = int(Path(f"/proc/{workers[0]}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(mother, signal.SIGKILL)
    assert gone(workers)
    parent.stdout.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        parent.wait(5)
    parent.kill()
    parent.wait()


def test_a_run_is_the_same_bit_for_bit(split: Path, tiny: Callable[..., RunConfig], tmp_path: Path) -> None:
    for workers in ("threads", "processes"):
        config = tiny("data.mode=stream", "data.threads=2", f'data.workers="{workers}"', "train.epochs=2")
        fit(config, split, tmp_path / workers)
    names = "best.safetensors", "test.jsonl"
    files = [[(tmp_path / workers / name).read_bytes() for name in names] for workers in ("threads", "processes")]
    assert files[0] == files[1]


def test_a_run_may_go_on_with_others(split: Path, tiny: Callable[..., RunConfig], tmp_path: Path) -> None:
    fit(tiny("data.mode=stream", 'data.workers="processes"', "train.epochs=1"), split, tmp_path / "run")
    fit(tiny("data.mode=stream", 'data.workers="threads"', "train.epochs=1"), split, tmp_path / "run")
