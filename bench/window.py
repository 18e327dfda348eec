"""One measuring process: opens its subject, and takes a timed window of each mode it was asked for.

Called by `bench.zygote` in a process of its own.
"""

from __future__ import annotations

import resource
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.process import child_processes, read_bytes

__all__ = ["MODES", "measure"]

MODES = ("synthetic", "replayed", "warm", "cold", "drained", "shadow", "bare", "ladder")
_WARM_UP = 8  # batches: more than a stream keeps ahead, so that a full queue is not taken for speed
_KEPT = 200  # steps whose times are kept one by one
_BLOCKS, _BLOCK = 8, 4  # the tax: at least so many blocks of either kind, of so many steps
_EMPTY = 2000  # steps of nothing, for the timers' own time
_LONGEST = 30  # windows of `seconds`, for the least number of steps


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Measures the job's modes, in its order.

    Args:
        job: `config`, `data`, `loader`, `compute`, `hook` (see `OwnRun`, `ForeignLoader`); `modes`; `seconds` of a
            window; `steps`, the least in one; `rate`, images/s at which a shadow is drained, 0 for as fast as it goes.

    Returns:
        `about`, `fill_s`, and for each mode what `_window` gives; for "ladder" seconds a batch by stage.
    """
    subject = _open(job)
    found: dict[str, Any] = {"about": subject.about, "fill_s": subject.fill_s}
    rate = job.get("rate") or 0.0
    with closing(subject):
        for mode in job["modes"]:
            if mode == "ladder":
                found[mode] = subject.ladder(job["seconds"], 5)
                continue
            found[mode] = _mode(subject, mode, job["seconds"], job["steps"], rate)
            if mode == "warm":
                rate = found[mode]["images"] / found[mode]["seconds"]
    return found


def _open(job: dict[str, Any]) -> Any:
    from trainer.config import RunConfig

    config = RunConfig.model_validate(job["config"]) if job["config"] else None
    if job["loader"]:
        from bench.foreign import ForeignLoader

        return ForeignLoader(job["loader"], config, job["compute"], job["hook"])
    from bench.own_run import OwnRun

    assert config is not None
    return OwnRun(config, Path(job["data"]), job["compute"], job["hook"])


def _mode(subject: Any, mode: str, seconds: float, steps: int, rate: float) -> dict[str, Any]:
    def none(size: int) -> None:
        pass

    batches: Callable[[], Iterator[int]] = {
        "synthetic": subject.stay, "replayed": subject.replay, "drained": subject.drain, "shadow": subject.stay,
    }.get(mode, subject.batches)  # fmt: skip
    step = none if mode == "drained" else subject.step
    if mode != "shadow":
        if mode == "bare":
            return _blocks(subject, batches(), step, seconds)
        if mode == "cold":  # from its first batch on: no warm-up by its own data, and no second epoch
            subject.chill()
            most = len(subject.source)
            return _window(subject, batches(), step, seconds, steps, warm_up=0, most=most)
        return _window(subject, batches(), step, seconds, steps)
    stop, started = threading.Event(), threading.Event()
    beside = threading.Thread(target=_drain, args=(subject, rate, stop, started), daemon=True)
    beside.start()
    while beside.is_alive() and not started.wait(0.05):  # a loader that fails beside never starts
        pass
    try:
        return _window(subject, batches(), step, seconds, steps)
    finally:
        stop.set()
        beside.join()


def _drain(subject: Any, rate: float, stop: threading.Event, started: threading.Event) -> None:
    """Drains the loader at `rate` images/s, or as fast as it goes."""
    done, begun = 0, time.perf_counter()
    with closing(subject.drain()) as batches:
        for size in batches:
            started.set()
            done += size
            ahead = done / rate - (time.perf_counter() - begun) if rate else 0.0
            if stop.wait(max(ahead, 0.0)) or stop.is_set():
                return


def _window(
    subject: Any,
    batches: Iterator[int],
    step: Callable[[int], None],
    seconds: float,
    least: int,
    *,
    warm_up: int = _WARM_UP,
    most: int = 0,
) -> dict[str, Any]:
    """Batches for about `seconds` and at least so many steps, but no longer than thirty times `seconds`.

    With `most` it ends before so many images, however few steps these are.

    Returns:
        `images`, `steps`, `seconds`; `wait_s`, of which the step waited for its batch (copy included); `waits` and
        `takes`, milliseconds of the first 200 steps; `cpu_s` of all threads and workers; `read_bytes`; `workers`,
        (idle, all) of a loader's processes.
    """
    clock = time.perf_counter
    if not warm_up:  # the net and its threads are warmed on what lies in the buffers
        for _ in range(3):
            step(subject.batch)
    with closing(batches) as source:  # type: ignore[type-var]
        for _ in range(warm_up):
            step(next(source))
        subject.wait()
        workers = getattr(subject, "worker_seconds", None)
        busy = workers() if workers else {}
        fetched, used = read_bytes(), _cpu_s()
        images = taken = 0
        waited = 0.0
        waits: list[float] = []
        takes: list[float] = []
        begun = now = clock()
        while True:
            before = now
            size = next(source)
            got = clock()
            step(size)
            now = clock()
            waited += got - before
            if len(waits) < _KEPT:
                waits.append(round((got - before) * 1e3, 3))
                takes.append(round((now - before) * 1e3, 3))
            images += size
            taken += 1
            spent = now - begun
            if (spent >= seconds and taken >= least) or spent >= _LONGEST * seconds:
                break
            if most and images + size > most:
                break
        subject.wait()
        spent = clock() - begun
        found: dict[str, Any] = {
            "images": images, "steps": taken, "seconds": spent, "wait_s": waited, "waits": waits, "takes": takes,
            "cpu_s": _cpu_s() - used, "read_bytes": read_bytes() - fetched, "workers": None,
        }  # fmt: skip
        if workers:
            from bench.foreign import idle_workers

            found["workers"] = idle_workers(busy, workers())
    return found


def _blocks(subject: Any, batches: Iterator[int], step: Callable[[int], None], seconds: float) -> dict[str, Any]:
    """Warm epochs in short blocks with the timers of `_window` and without, in turns (A B B A).

    The timers cost about a microsecond a step and the machine's mood is good for a tenth. So their own CPU time is
    measured too, around nothing; blocks side by side in one window would show what else they did.

    Returns:
        `images`, `steps`, `seconds` and `cpu_s` of the bare blocks; `tax`, the timers' own CPU time over that of a bare
        step's time, as a share; `beside`, how much more time the median of the timed blocks took, as a share.
    """
    took: dict[bool, list[float]] = {True: [], False: []}
    own = {timed: _block(iter(range(_EMPTY)), int, _EMPTY, timed=timed)[1] / _EMPTY for timed in (False, True)}
    images, begun = 0, time.perf_counter()
    with closing(batches) as source:  # type: ignore[type-var]
        for _ in range(_WARM_UP):
            step(next(source))
        subject.wait()
        used, begun = _cpu_s(), time.perf_counter()
        while True:
            for timed in (True, False, False, True):
                start = time.perf_counter()
                done, _ = _block(source, step, _BLOCK, timed=timed)
                subject.wait()
                took[timed].append((time.perf_counter() - start) / done)
                images += 0 if timed else done
            spent = time.perf_counter() - begun
            if (spent >= seconds and len(took[False]) >= _BLOCKS) or spent >= _LONGEST * seconds:
                break
    bare = took[False]
    middle = statistics.median(bare)
    return {
        "images": images, "steps": _BLOCK * len(bare), "seconds": statistics.fmean(bare) * images,
        "cpu_s": (_cpu_s() - used) / 2, "read_bytes": 0, "workers": None,
        "tax": max(own[True] - own[False], 0.0) / (middle * images / (_BLOCK * len(bare))),
        "beside": statistics.median(took[True]) / middle - 1,
    }  # fmt: skip


def _block(source: Iterator[int], step: Callable[[int], object], count: int, *, timed: bool) -> tuple[int, float]:
    """So many steps, with the timers of `_window` or without: (images, CPU seconds of this thread)."""
    clock, used = time.perf_counter, time.thread_time()
    done, waited, now = 0, 0.0, clock()
    waits: list[float] = []
    takes: list[float] = []
    for _ in range(count):
        if timed:
            before = now
            size = next(source)
            got = clock()
            step(size)
            now = clock()
            waited += got - before
            if len(waits) < _KEPT:
                waits.append(round((got - before) * 1e3, 3))
                takes.append(round((now - before) * 1e3, 3))
        else:
            size = next(source)
            step(size)
            now = clock()
        done += size
    return done, time.thread_time() - used


def _cpu_s() -> float:
    gone = resource.getrusage(resource.RUSAGE_CHILDREN)  # workers that end with their epoch
    return time.process_time() + sum(child_processes().values()) + gone.ru_utime + gone.ru_stime
