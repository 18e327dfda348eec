"""A stream's batches, decoded ahead of whoever takes them into a ring of buffers: by threads, or by processes.

Threads leave the interpreter's lock while they decode and want it back between two images. Two that want it at one
moment sleep, and the more there are the more they do; so does the thread that trains. Processes have a lock each.
They are forked, as a torch DataLoader's are, and so have the mapped tars, the decoder and its libraries from the start.
"""

from __future__ import annotations

import faulthandler
import fcntl
import gc
import mmap
import os
import pickle
import select
import signal
import struct
import sys
import threading
import warnings
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from shards.errors import ConfigError
from shards.read import gather
from shards.shard_set import ShardSet
from trainer.decode import Decoder, ThreadedDecoder
from trainer.errors import WorkerLost
from trainer.store import Indices

__all__ = ["AHEAD", "DecodeCrew", "Prefetch", "ProcessPrefetch", "ThreadPrefetch", "Workers", "open_crew"]

AHEAD = 3
"""Batches being decoded beside the one in use: enough to ride out a slow one, and a bound on memory."""

Workers = Literal["auto", "threads", "processes"]


class Prefetch(ABC):
    """A ring of `AHEAD` + 1 buffers, filled and taken in one order.

    Args:
        source: the set; local or not.
        decoder: of its images.
        size: the largest batch.
    """

    def __init__(self, source: ShardSet, decoder: Decoder, size: int) -> None:
        self.source, self.decoder, self.size = source, decoder, size
        self._waiting: deque[tuple[int, Indices]] = deque()
        self._begun = self._released = 0

    @property
    def has_room(self) -> bool:
        """Whether a batch more may be begun."""
        return self._begun - self._released <= AHEAD

    def begin(self, part: Indices) -> None:
        """Starts to decode samples `part` of the set, at most `size`; only where there is room."""
        slot = self._begun % (AHEAD + 1)
        self._begun += 1
        self._waiting.append((slot, part))
        self._start(slot, part)

    def take(self) -> tuple[torch.Tensor, Indices, list[int]]:
        """Waits for the batch that was begun first, and raises what its decoding did.

        Returns:
            uint8 (B, S, S, 3), which stays as it is until `release`; its samples; the positions of unreadable ones.
        """
        slot, part = self._waiting[0]
        bad = self._wait(slot, len(part))
        self._waiting.popleft()
        return self._buffer(slot)[: len(part)], part, bad

    def release(self) -> None:
        """Gives back the buffer of the batch that was taken."""
        self._released += 1

    def settle(self) -> None:
        """Waits until nothing writes any more, and forgets what was begun."""
        for slot, part in self._waiting:
            with suppress(Exception):
                self._wait(slot, len(part))
        self._waiting.clear()
        self._begun = self._released = 0

    def over(self, parts: Sequence[Indices]) -> Generator[tuple[torch.Tensor, Indices, list[int]], None, None]:
        """What `take` gives of one batch after another, each good until the next; as many ahead as there is room for.

        Nothing is written any more once it ends, however it ends.
        """
        coming = iter(parts)
        try:
            for _ in parts:
                while self.has_room and (part := next(coming, None)) is not None:
                    self.begin(part)
                yield self.take()
                self.release()
        finally:
            self.settle()

    @abstractmethod
    def _start(self, slot: int, part: Indices) -> None: ...

    @abstractmethod
    def _wait(self, slot: int, count: int) -> list[int]: ...

    @abstractmethod
    def _buffer(self, slot: int) -> torch.Tensor: ...

    kept = True
    """Whether to keep it from epoch to epoch."""

    @property
    def usable(self) -> bool:
        """Whether it can decode another batch."""
        return True

    def close(self) -> None:  # noqa: B027 threads are the decoder's
        """Ends what it has started; what it gave stays readable."""


class ThreadPrefetch(Prefetch):
    """By the decoder's own threads, in memory of its device."""

    def __init__(self, source: ShardSet, decoder: Decoder, size: int) -> None:
        super().__init__(source, decoder, size)
        self._buffers: dict[int, torch.Tensor] = {}
        self._waits: dict[int, Callable[[], list[int]]] = {}

    def _start(self, slot: int, part: Indices) -> None:
        if slot not in self._buffers:
            shape = (self.size, self.decoder.size, self.decoder.size, 3)
            self._buffers[slot] = torch.empty(shape, dtype=torch.uint8, device=self.decoder.device)
        out = self._buffers[slot][: len(part)]
        self._waits[slot] = self.decoder.begin(gather(self.source, part), out)

    def _wait(self, slot: int, count: int) -> list[int]:
        return self._waits[slot]()

    def _buffer(self, slot: int) -> torch.Tensor:
        return self._buffers[slot]


_TASK = struct.Struct("<iiii")  # source, slot, first row, the row after the last
_DONE = struct.Struct("<iii")  # slot, rows that are done with, and where an error is told or -1
_CHUNKS = 2  # of a batch a process: fewer, and its end waits for the slower one; more, and each wakes the taker
_MOST_CHUNKS = 64  # of a batch: those of a whole ring are a page, the least that a pipe holds (pipe(7))
_FEWEST = 8  # images a chunk, where a batch has them
_SAID = 4096  # bytes for what a process raised


_FORKING = threading.Lock()
"""Two threads that fork at once are refused by filelock, which torch brings; workers fork nothing."""


class DecodeCrew:
    """Forked processes that decode into memory they share with this one.

    What this process has written to when it forks is copied when it writes there again: a crew is for the start of
    work, before there is a net.

    Args:
        sources: sets whose tars are mapped.
        decoder: one that decodes on the CPU, image by image.
        size: the largest batch.
        count: how many processes.

    Attributes:
        count: as given.
        busy: whether a stream has it.
        used: whether it was ever given work.

    Raises:
        OSError: a process cannot be had.
    """

    def __init__(self, sources: Sequence[ShardSet], decoder: ThreadedDecoder, size: int, count: int) -> None:
        self.sources, self.decoder, self.size, self.count, slots = sources, decoder, size, count, AHEAD + 1
        self.busy = self.used = False
        self._pixels: NDArray[np.uint8] = _shared((slots, size, decoder.size, decoder.size, 3), np.uint8)
        self._ids: NDArray[np.int64] = _shared((slots, size), np.int64)
        self._bad: NDArray[np.uint8] = _shared((slots, size), np.uint8)
        self._said: NDArray[np.uint8] = _shared((slots, -(-size // _FEWEST), _SAID), np.uint8)  # by chunk
        self._left = [0] * slots
        self._failed: dict[int, BaseException] = {}
        self._tensors = [torch.from_numpy(squares) for squares in self._pixels]
        take, self._tasks = _pipe()
        try:
            self._answers, give = _pipe()
        except OSError:
            os.close(take)
            os.close(self._tasks)
            raise
        self._processes: dict[int, int] = {}  # process number by its descriptor
        self._end = weakref.finalize(self, _end, os.getpid(), self._processes, (self._tasks, self._answers))
        try:
            for _ in range(count):
                self._fork(take, give)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(take)
            os.close(give)
        self._ready = select.poll()
        for descriptor in (self._answers, *self._processes):
            self._ready.register(descriptor, select.POLLIN)

    def _fork(self, take: int, give: int) -> None:
        Image.init()  # no process should have to import while another thread of this one does
        # What comes for all of a terminal or a group is this process's to decide; the others end when it ends.
        ours = signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of threads: see docs/decisions/trainer-prefetch
                with _FORKING:
                    process = os.fork()
            if process == 0:
                code = 1
                try:
                    for number in _OURS:
                        signal.signal(number, signal.SIG_IGN)
                    signal.pthread_sigmask(signal.SIG_SETMASK, ours)
                    self._work(take, give)
                    code = 0
                finally:
                    os._exit(code)
            try:
                self._processes[os.pidfd_open(process)] = process
            except BaseException:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, ours)

    def _work(self, take: int, give: int) -> None:
        """A process: chunk after chunk, until the other end is closed."""
        faulthandler.disable()  # how it ended is told where it is missed, in a line
        # A progress bar's lock may have been held by a thread that did not come along: a warning would wait for it.
        sys.stdout = sys.stderr = None
        _close_all_but(take, give)  # locks, others' pipes: what its parent lets go of is nobody's then
        torch.set_num_threads(1)  # torch's others did not come along
        gc.freeze()  # looking at what is shared would copy it
        while task := os.read(take, _TASK.size):
            number, slot, first, last = _TASK.unpack(task)
            bad, said = self._bad[slot, first:last], -1
            bad[:] = 0
            try:
                images = gather(self.sources[number], self._ids[slot, first:last])
                bad[self.decoder.decode_here(images, self._pixels[slot, first:last])] = 1
            except Exception as error:
                text, said = _pickled(error), first // _FEWEST
                self._said[slot, said, : len(text)] = np.frombuffer(text, np.uint8)
            os.write(give, _DONE.pack(slot, last - first, said))

    def start(self, slot: int, source: ShardSet, part: Indices) -> None:
        """Has samples `part` of one of its sources decoded into a slot of the ring.

        Raises:
            WorkerLost: the processes are gone.
        """
        if not self.usable:
            raise WorkerLost(source.folder, 0)
        number, count = next(n for n, known in enumerate(self.sources) if known is source), len(part)
        self._ids[slot, :count] = part
        self.used = True
        step = max(_FEWEST, -(-count // min(_CHUNKS * len(self._processes), _MOST_CHUNKS)))
        tasks = [_TASK.pack(number, slot, at, min(at + step, count)) for at in range(0, count, step)]
        try:
            self._left[slot] = count
            os.write(self._tasks, b"".join(tasks))  # at most PIPE_BUF: whole, or not at all
        except BrokenPipeError:
            raise self._lost(source) from None
        except BaseException:  # interrupted, and nobody knows whether it was written
            self.close()
            raise

    def wait(self, slot: int, source: ShardSet, count: int) -> list[int]:
        """Waits for a slot; gives the positions of unreadable images, or raises what a process did.

        Raises:
            WorkerLost: a process ended.
        """
        try:
            while self._left[slot] > 0:
                if not self.usable:
                    raise WorkerLost(source.folder, 0)
                ready = {descriptor for descriptor, _ in self._ready.poll()}
                if self._answers in ready and (answers := os.read(self._answers, 256 * _DONE.size)):
                    self._hear(answers)
                elif ready:
                    raise self._lost(source)
        except BaseException:  # interrupted, and an answer may have been read and not counted
            self.close()
            raise
        if slot in self._failed:
            raise self._failed.pop(slot)
        return [int(position) for position in np.flatnonzero(self._bad[slot, :count])]

    def _hear(self, answers: bytes) -> None:
        for slot, done, said in _DONE.iter_unpack(answers):
            self._left[slot] -= done
            if said >= 0:
                self._failed[slot] = pickle.loads(self._said[slot, said].tobytes())  # noqa: S301 our own

    def _lost(self, source: ShardSet) -> WorkerLost:
        """Which process ended, and how; ends the others."""
        status, ends = 0, select.poll()
        for descriptor in self._processes:
            ends.register(descriptor, select.POLLIN)
        for descriptor, _ in ends.poll(1000)[:1]:  # its pipes are closed a moment before it is gone
            with suppress(ChildProcessError):
                status = os.waitpid(self._processes[descriptor], 0)[1]
        self.close()
        return WorkerLost(source.folder, os.waitstatus_to_exitcode(status))

    def buffer(self, slot: int) -> torch.Tensor:
        """uint8 (size, S, S, 3), readable for as long as somebody has it."""
        return self._tensors[slot]

    @property
    def usable(self) -> bool:
        """Whether its processes were not ended."""
        return self._end.alive

    def serves(self, source: ShardSet, decoder: Decoder, size: int) -> bool:
        """Whether it has time for such batches."""
        here, own = ((type(each), each.size, each.fit) for each in (decoder, self.decoder))
        known = any(source is one for one in self.sources)
        return here == own and known and size <= self.size and self.usable and not self.busy

    def close(self) -> None:
        """Ends its processes."""
        self._end()


class ProcessPrefetch(Prefetch):
    """By a crew's processes, in the memory they share: one at a time has a crew.

    Args:
        own: whether to end the crew at `close`.
    """

    def __init__(self, crew: DecodeCrew, source: ShardSet, decoder: Decoder, size: int, *, own: bool = False) -> None:
        super().__init__(source, decoder, size)
        crew.busy = True
        self._crew, self.kept = crew, own

    def _start(self, slot: int, part: Indices) -> None:
        self._crew.start(slot, self.source, part)

    def _wait(self, slot: int, count: int) -> list[int]:
        return self._crew.wait(slot, self.source, count)

    def _buffer(self, slot: int) -> torch.Tensor:
        return self._crew.buffer(slot)

    @property
    def usable(self) -> bool:
        return self._crew.usable

    def close(self) -> None:
        self._crew.busy = False
        if self.kept:
            self._crew.close()


_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _shared(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zeros in memory that forked processes share; given back with the array."""
    kind, count = np.dtype(dtype), int(np.prod(shape))
    memory = mmap.mmap(-1, max(1, count * kind.itemsize))
    return np.frombuffer(memory, kind, count).reshape(shape)


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are no standard descriptors, which are free where a daemon or a shell has closed them."""
    ends: list[int] = []
    pipe = os.pipe()
    try:
        for end in pipe:
            ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3))
    except OSError:
        for end in ends:
            os.close(end)
        raise
    finally:
        for end in pipe:
            os.close(end)
    return ends[0], ends[1]


def _close_all_but(*kept: int) -> None:
    """Every descriptor but these and the standard ones; those kept lie beyond."""
    edges = [2, *sorted(kept), os.sysconf("SC_OPEN_MAX")]
    for before, after in pairwise(edges):
        if before + 1 < after:
            os.closerange(before + 1, after)


def _pickled(error: Exception) -> bytes:
    """The error for another process; as text where it cannot be sent."""
    with suppress(Exception):
        text = pickle.dumps(error)
        if len(text) <= _SAID and type(pickle.loads(text)) is type(error):  # noqa: S301 our own
            return text
    return pickle.dumps(RuntimeError(f"{type(error).__name__}: {str(error)[: _SAID // 8]}"))


def _end(owner: int, processes: dict[int, int], pipes: tuple[int, ...]) -> None:
    if os.getpid() != owner:
        return  # a forked process that ends by itself leaves its siblings alone
    for pipe in pipes:
        os.close(pipe)
    for descriptor in processes:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)  # they hold nothing that could be lost
        os.close(descriptor)
    for process in processes.values():
        with suppress(ChildProcessError):
            os.waitpid(process, 0)


def open_crew(sources: Sequence[ShardSet], decoder: Decoder, size: int, workers: Workers = "auto") -> DecodeCrew | None:
    """The processes that streams of these sets decode in; None where threads do.

    Args:
        workers: `auto` is processes where more than one thread would decode on the CPU. There are as many as the
            decoder has threads, and one a core at most: more only take their turns.

    Raises:
        ConfigError: `processes` was asked for, and they cannot be had; says why.
    """
    count = min(decoder.threads, len(os.sched_getaffinity(0)))
    if workers == "threads" or (workers == "auto" and count == 1):
        return None
    if not isinstance(decoder, ThreadedDecoder):
        problem = f"{decoder.name} has threads of its own; processes decode by simplejpeg, torchvision or pillow"
    elif lazy := [source for source in sources if not isinstance(source.tars, list)]:
        problem = f"{lazy[0].folder} comes from a store as it is read, to one process"
    else:
        try:
            return DecodeCrew(sources, decoder, size, count)
        except (OSError, RuntimeError) as error:  # the second: filelock's, where another thread forks just then
            problem = f"no process can be started ({error})"
    if workers == "processes":
        raise ConfigError("data.workers", workers, f'{problem}; or "auto"')
    return None
