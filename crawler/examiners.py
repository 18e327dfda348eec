"""Examining beside the event loop: in a thread at first, in a process of its own once a crawl is worth one.

Of one interpreter only one thread runs at a time, so a thread that examines slows the event loop that fetches. A
process costs half a second of a core and 40 MB, so a small crawl never starts one. It buys safety too: an image that
kills the decoder costs that image. docs/decisions/crawler-pipeline.md has the measurements.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from crawler.crawl_errors import Refused
from crawler.thumbnails import Outcome, Picture, Thumbnail, examine_all

if TYPE_CHECKING:  # the process needs neither pydantic nor lxml
    from crawler.site import Drop

__all__ = ["Examiners"]

T = TypeVar("T")
_WORTH = 256  # images after which a process is worth its start
_BATCH, _BATCH_BYTES = 64, 4 << 20
_AHEAD = 2  # batches given to a process: one it works on, one that waits
# One examiner keeps up with one event loop over thumbnails; larger pictures need more, where there are cores for them.
_MOST = max(1, min(4, (os.cpu_count() or 1) - 1))
_BACKLOG = 256  # images waiting for each examiner when another one is taken on
_START_S = 30.0  # that a process may take to begin; then it is done without
_COMMAND = (sys.executable, "-m", "crawler.examiners")


class Examiners(Generic[T]):
    """Threads, each with a process of its own in time, that examine what is given to them.

    Args:
        drop: limits of the sides.
        deliver: called in one of the threads with tag, picture and what came of it; must not raise.
        most: how many may examine at a time; more than one only once images wait.
        worth: images that a thread examines before it starts its process.
        command: of that process.
    """

    def __init__(
        self,
        drop: Drop,
        deliver: Callable[[list[tuple[T, Picture, Outcome]]], None],
        *,
        most: int = _MOST,
        worth: int = _WORTH,
        command: Sequence[str] = _COMMAND,
    ) -> None:
        self._drop, self._deliver, self._most = drop, deliver, most
        self._worth, self._command = worth, tuple(command)
        self._queue: SimpleQueue[Sequence[tuple[T, Picture]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._submitted = 0
        self._taken: dict[int, int] = {}  # by thread, each of which counts its own
        self._many = False
        self._cancelled = False

    def expect_many(self) -> None:
        """Says that more are to come than a process is worth: then it begins now, and none is examined before."""
        self._many = True
        if not self._threads:
            self._begin()

    def submit(self, entries: Sequence[tuple[T, Picture]]) -> None:
        """Has images examined; from one thread only. Each tag comes back with what was found.

        Some dozens at a time: handing over wakes a thread, which then contends for the interpreter.
        """
        self._submitted += len(entries)
        self._queue.put(entries)
        backlog = self._submitted - sum(self._taken.values())
        if not self._threads or (len(self._threads) < self._most and backlog > _BACKLOG * len(self._threads)):
            self._begin()

    def _begin(self) -> None:
        number = len(self._threads)
        thread = threading.Thread(target=self._run, args=(number,), name=f"examine-{number}", daemon=True)
        self._threads.append(thread)
        self._taken[number] = 0
        thread.start()

    def close(self, *, cancel: bool = False) -> None:
        """Waits until everything submitted is delivered; with `cancel`, until what is being examined is."""
        self._cancelled = cancel
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        process: _Process | None = None
        given: deque[Sequence[tuple[T, Picture]]] = deque()
        done, begun = 0, False
        last = False
        try:
            process = self._new_process() if self._many else None
            while given or not last:
                batch: Sequence[tuple[T, Picture]] = ()
                if not last and len(given) < _AHEAD:
                    batch, last = self._take(wait=not given)
                    self._taken[number] += len(batch)
                if self._cancelled:
                    return
                if batch and not begun and (self._many or done >= self._worth):
                    process, begun = process or self._new_process(), True
                    if process and not process.begin():
                        process.close()
                        process = None
                if batch and process:
                    process.give([picture for _, picture in batch])
                    given.append(batch)
                elif batch:
                    found = examine_all([picture for _, picture in batch], self._drop)
                    self._deliver([(*entry, outcome) for entry, outcome in zip(batch, found, strict=True)])
                    done += len(batch)
                elif given:
                    assert process
                    batch = given.popleft()
                    found = process.take([picture for _, picture in batch])
                    self._deliver([(*entry, outcome) for entry, outcome in zip(batch, found, strict=True)])
        finally:
            if process is not None:
                process.close()

    def _new_process(self) -> _Process | None:
        with suppress(OSError):
            return _Process(self._drop, self._command)
        return None

    def _take(self, *, wait: bool) -> tuple[list[tuple[T, Picture]], bool]:
        """What waits, about a batch of it, and whether that was the last; `wait` for the first."""
        batch: list[tuple[T, Picture]] = []
        size = 0
        with suppress(Empty):
            while len(batch) < _BATCH and size < _BATCH_BYTES:
                entries = self._queue.get(block=wait and not batch)
                if entries is None:
                    return batch, True
                batch += entries
                size += sum(len(body) for _, (body, *_) in entries)
        return batch, False


class _Process:
    """A process that examines, as a thread sees it: batches go in, outcomes come out, in order.

    A process that dies is started again, and what it had is given to the new one image by image: the one it dies of
    once more is broken.
    """

    def __init__(self, drop: Drop, command: Sequence[str]) -> None:
        self._drop, self._command = drop, command
        self._given: deque[list[Picture]] = deque()
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # A session of its own: Ctrl-C is for the crawl, which closes this. Its last words are of no use to anyone.
            self._child: subprocess.Popen[bytes] = subprocess.Popen(
                self._command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # its threads would have nothing to do
            )
        self._connection = Connection(ours.detach())
        with suppress(OSError):
            self._connection.send(self._drop.model_dump())

    def begin(self) -> bool:
        """Waits until it has begun; False if it will not."""
        with suppress(OSError, EOFError, pickle.UnpicklingError):
            return self._connection.poll(_START_S) and bool(self._connection.recv())
        return False

    def give(self, pictures: list[Picture]) -> None:
        """Hands over a batch."""
        self._given.append(pictures)
        with suppress(OSError):  # it died; `take` finds out
            self._connection.send(pictures)

    def take(self, pictures: list[Picture]) -> list[Outcome]:
        """Waits for the outcomes of the oldest batch, which is `pictures`."""
        try:
            found = self._receive(pictures)
            self._given.popleft()
            return found
        except (OSError, EOFError, pickle.UnpicklingError):
            self._restart()
            found = [self._alone(picture) for picture in pictures]
            self._given.popleft()
            for waiting in self._given:
                with suppress(OSError):
                    self._connection.send(waiting)
            return found

    def _alone(self, picture: Picture) -> Outcome:
        try:
            self._connection.send([picture])
            return self._receive([picture])[0]
        except (OSError, EOFError, pickle.UnpicklingError):
            code = self._restart()
            return Refused("broken", f"the decoder died of it (exit status {code})")

    def _receive(self, pictures: list[Picture]) -> list[Outcome]:
        found: list[tuple[str, ...] | list[Any]] = self._connection.recv()
        return [
            Refused(*outcome) if isinstance(outcome, tuple) else Thumbnail(body, *outcome)
            for outcome, (body, *_) in zip(found, pictures, strict=True)
        ]

    def _restart(self) -> int:
        code = self.close()
        self._start()
        self.begin()
        return code

    def close(self) -> int:
        """Ends it; returns its exit status."""
        self._connection.close()
        try:
            return self._child.wait(2)
        except subprocess.TimeoutExpired:
            self._child.kill()
            return self._child.wait()


def _serve(connection: Connection) -> None:
    """The process: until the other side closes, which it also does by dying."""
    with suppress(OSError, EOFError):
        # The site file's own class would bring pydantic and lxml: 0.3 s and 20 MB
        drop = cast("Drop", SimpleNamespace(**connection.recv()))
        examine_all([], drop)  # imports numpy and Pillow while the first pictures are fetched
        connection.send(True)
        given: SimpleQueue[list[Picture] | None] = SimpleQueue()
        threading.Thread(target=_receive, args=(connection, given), daemon=True).start()
        while (pictures := given.get()) is not None:
            connection.send([_sent(outcome) for outcome in examine_all(pictures, drop)])


def _receive(connection: Connection, given: SimpleQueue[list[Picture] | None]) -> None:
    """Takes in what is given while outcomes are on their way out: else both sides might wait for the other to read."""
    with suppress(OSError, EOFError):
        while True:
            given.put(connection.recv())
    given.put(None)


def _sent(outcome: Outcome) -> tuple[str, ...] | list[Any]:
    """A refusal as a tuple, a thumbnail as a list without its body, which the other side has.

    Plain ones: a class of ours takes longer to unpickle, and on the side where time is short.
    """
    if isinstance(outcome, Refused):
        return outcome.reason, outcome.detail
    return list(outcome[1:])


if __name__ == "__main__":
    _serve(Connection(os.dup(0)))
