"""The stages of an input path as things that can be put in place: what a hook may slow down, and a ladder times.

A hook is a function `hook(stages: Stages) -> None`, named as `module:function` or `file.py:function`. It is called in
every measuring process before the first batch and may put a wrapper in place of any stage; the run then passes through
it. That is how the truth tests plant a bottleneck, and how one asks what a stage of another speed would do.
"""

from __future__ import annotations

import importlib
import importlib.util
import sysconfig
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.errors import ConfigError

__all__ = ["LADDER", "Stages", "load_function", "parse_compute", "what_happened"]

LADDER = ("untar", "read", "decode", "collate", "copy", "augment")
"""The ladder of our own path, in the order data takes."""

Images = Sequence[memoryview | bytes]
_PAGE = 4096


def _touch(images: Images) -> Images:
    for image in images:
        bytes(image[::_PAGE])  # one byte a page brings the page
    return images


@dataclass
class Stages:
    """What a batch passes through; a hook may replace any.

    Attributes:
        read: encoded images brought into memory; gives the images.
        decode: (encoded images, uint8 batch) -> positions of bad ones.
        collate: called with the decoded batch, before it is handed on.
        copy: called with the step's buffer, after the batch was copied into it.
        step: one training step of so many samples.
    """

    decode: Callable[[Images, Any], list[int]]
    step: Callable[[int], None]
    read: Callable[[Images], Images] = _touch
    collate: Callable[[Any], None] = lambda batch: None
    copy: Callable[[Any], None] = lambda buffer: None


def load_function(spec: str, option: str) -> Callable[..., Any]:
    """The function called `module:function` or `path/file.py:function`.

    Raises:
        ConfigError: there is none; names the option.
    """
    place, colon, name = spec.rpartition(":")
    if not colon or not place or not name:
        raise ConfigError(option, spec, "expected module:function or path/file.py:function")
    try:
        if place.endswith(".py"):
            found = importlib.util.spec_from_file_location(Path(place).stem, place)
            if found is None or found.loader is None or not Path(place).is_file():
                raise ConfigError(option, spec, f"there is no file {place}")
            module = importlib.util.module_from_spec(found)
            found.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
    except ImportError as error:
        raise ConfigError(option, spec, f"cannot be imported ({error})") from None
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(option, spec, f"cannot be imported ({what_happened(error)})") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(option, spec, f"{place} has no function {name}")
    return function  # type: ignore[no-any-return]


def what_happened(error: BaseException) -> str:
    """An error of somebody's own code in a line: its type, what it says, and where in their file it was raised."""
    # what a DataLoader's worker raised comes with its whole traceback: the cause is the last line of it
    text = str(error)
    if "Traceback (most recent call last)" in text:
        text = text.strip().rpartition("\n")[2]
        name, colon, _ = text.partition(": ")
        said = text if colon and name.isidentifier() else f"{type(error).__name__}: {text}"
    else:
        said = f"{type(error).__name__}: {' '.join(text.split())}" if text.strip() else type(error).__name__
    if isinstance(error, SyntaxError):
        return said[:500]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(frame.filename)]
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return said[:500] + where


def _is_theirs(filename: str) -> bool:
    """Neither ours nor a library's."""
    others = (str(Path(__file__).parent), sysconfig.get_path("stdlib"), "<")
    return not filename.startswith(others) and "site-packages" not in filename


def parse_compute(text: str) -> Callable[[int], None]:
    """A step that stands in for another: "sleep:20ms" waits as a host does for a GPU, "spin:5ms" holds a core.

    Raises:
        ConfigError: it is neither.
    """
    kind, _, amount = text.partition(":")
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
    unit = next((name for name in ("us", "ms", "s") if amount.endswith(name)), "")
    try:
        seconds = float(amount.removesuffix(unit)) * units[unit]
    except (KeyError, ValueError):
        seconds = -1.0
    if kind not in ("sleep", "spin") or not 0 < seconds < 3600:
        raise ConfigError("--compute", text, "expected sleep:20ms or spin:20ms, with us, ms or s")

    def sleep(count: int) -> None:
        time.sleep(seconds)

    def spin(count: int) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass

    return sleep if kind == "sleep" else spin
