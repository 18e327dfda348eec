"""What is given to the examiners comes back once, from threads and processes, also when a process dies."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from crawler.crawl_errors import Refused
from crawler.examiners import Examiners, _Process
from crawler.site import load_site
from crawler.thumbnails import examine

DROP = load_site("thomann").drop
# examines as the real one does, and dies of the bytes "kill me" as a decoder may die of a hostile image
MORTAL = """
import os, signal
from crawler import examiners
examine_all = examiners.examine_all
def mortal(pictures, drop):
    if any(body == b"kill me" for body, *_ in pictures):
        os.kill(os.getpid(), signal.SIGKILL)
    return examine_all(pictures, drop)
examiners.examine_all = mortal
examiners._serve(examiners.Connection(os.dup(0)))
"""

# tells by a file that it has been given work, and who it is
TELLING = """
import os, sys
from pathlib import Path
from crawler import examiners
examine_all = examiners.examine_all
def telling(pictures, drop):
    if pictures:
        Path(sys.argv[1] + ".part").write_text(str(os.getpid()))
        os.rename(sys.argv[1] + ".part", sys.argv[1])
    return examine_all(pictures, drop)
examiners.examine_all = telling
examiners._serve(examiners.Connection(os.dup(0)))
"""


class Found:
    """Collects what is delivered."""

    def __init__(self) -> None:
        self.outcomes: dict[Any, Any] = {}
        self.times: Counter[Any] = Counter()
        self.some = threading.Event()

    def __call__(self, found: list[tuple[Any, Any]]) -> None:
        for tag, _, outcome in found:
            self.outcomes[tag] = outcome
            self.times[tag] += 1
        self.some.set()


def _children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile, as of a test before
            found.update(map(int, (task / "children").read_text().split()))
    return found


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def others() -> set[int]:
    """The children that tests before this one have left, such as multiprocessing's resource tracker."""
    return _children()


@pytest.fixture(scope="module")
def bodies(make_picture) -> list[bytes]:
    good = [make_picture(seed) for seed in range(12)]
    return [*good, good[0][:-300], b"<html>", make_picture(1, kind="PNG"), make_picture(2, kind="WEBP"), b""]


def _expected(body: bytes) -> Any:
    try:
        return examine(body, DROP, "image/jpeg")
    except Refused as refused:
        return refused.reason, refused.detail


def _said(outcome: Any) -> Any:
    return (outcome.reason, outcome.detail) if isinstance(outcome, Refused) else outcome


@pytest.mark.parametrize("kill", [False, True])
def test_the_process_says_what_the_thread_says(bodies, tmp_path, kill, others):
    found, used = Found(), tmp_path / "used"
    command = (sys.executable, "-c", TELLING, str(used))
    examined: Examiners[int] = Examiners(DROP, found, most=1, worth=1, command=command)
    tags = itertools.count()
    last = 0
    while not used.exists():  # the thread examines until the process is worth its start
        last = next(tags)
        examined.submit([(last, (bodies[last % len(bodies)], "image/jpeg", None))])
        _until(lambda given=last: len(found.outcomes) > given - 50)
    if kill:
        os.kill(int(used.read_text()), signal.SIGKILL)
    for last in itertools.islice(tags, 200):
        examined.submit([(last, (bodies[last % len(bodies)], "image/jpeg", None))])
    examined.close()
    assert found.times == Counter(range(last + 1))
    assert all(_said(found.outcomes[tag]) == _expected(bodies[tag % len(bodies)]) for tag in range(last + 1))
    assert not _children() - others


def test_an_image_that_kills_the_decoder_costs_itself(bodies):
    process = _Process(DROP, (sys.executable, "-c", MORTAL))
    assert process.begin()
    batches = [[(bodies[0], "", None), (b"kill me", "", None), (bodies[1], "", None)], [(bodies[2], "", None)]]
    for batch in batches:
        process.give(batch)
    found = {
        picture[0]: outcome for batch in batches for picture, outcome in zip(batch, process.take(batch), strict=True)
    }
    assert found.pop(b"kill me").reason == "broken"
    assert found == {body: examine(body, DROP) for body in bodies[:3]}
    assert process.close() == 0


def test_larger_pictures_get_more_examiners(make_picture):
    large = make_picture(1, size=(900, 900), quality=95)
    found = Found()
    examined: Examiners[int] = Examiners(DROP, found, most=3, worth=10_000)
    for tag in range(1200):
        examined.submit([(tag, (large, "", None))])
    assert len(examined._threads) == 3
    examined.close(cancel=True)
    assert set(found.times.values()) <= {1}


def test_a_process_that_never_starts_is_done_without(bodies):
    found = Found()
    examined: Examiners[int] = Examiners(
        DROP, found, most=1, worth=1, command=(sys.executable, "-c", "raise SystemExit(3)")
    )
    for tag in range(300):
        examined.submit([(tag, (bodies[0], "", None))])
    examined.close()
    assert found.times == Counter(range(300))


def test_a_cancelled_one_ends_at_once(bodies, others):
    found = Found()
    examined: Examiners[int] = Examiners(DROP, found, most=1, worth=1)
    for tag in range(5000):
        examined.submit([(tag, (bodies[0], "", None))])
    found.some.wait()
    examined.close(cancel=True)
    assert 0 < len(found.outcomes) < 5000
    assert set(found.times.values()) == {1}
    assert not _children() - others
