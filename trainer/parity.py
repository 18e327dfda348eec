"""Does an exported model answer as the run does? Asked with every image of the test part, at its own size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.shard_set import ShardSet
from trainer.decode import UNREADABLE, read_rgb
from trainer.export import Runner
from trainer.predict import Model

__all__ = ["Parity", "check"]

BATCH, HELD = 64, 512
"""Images of one size that are run together, and images in all that wait for others of their size."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How an exported model's answers differ from the run's.

    Args:
        samples: test images compared; unreadable: images left out because nothing can read them.
        same: images with the same label.
        largest: the largest difference of a probability, 0 to 1.
        apart: keys of the images with another label.
        recorded: images whose answer at the end of training is known; recorded_same: those with the same label. They
            may differ where training ran in half precision, or with another decoder.
    """

    samples: int
    unreadable: int
    same: int
    largest: float
    apart: tuple[str, ...]
    recorded: int
    recorded_same: int

    def to_json(self) -> dict[str, Any]:
        """As an object of JSON."""
        return {**asdict(self), "apart": list(self.apart)}


class _Tally:
    def __init__(self) -> None:
        self.same, self.largest, self.recorded, self.recorded_same = 0, 0.0, 0, 0
        self.apart: list[str] = []


def check(
    model: Model,
    runners: Mapping[str, Runner],
    test: ShardSet,
    recorded: Mapping[str, str],
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Parity]:
    """Holds exported models, by name, against the model they were made from.

    The model gets its images from its own decoder and resizing, the exported ones whole images and resize themselves.

    Args:
        recorded: label by key, as the run wrote it to test.jsonl.
        on_progress: called with images done and images in all.
    """
    tallies = {name: _Tally() for name in runners}
    waiting: dict[tuple[int, ...], list[tuple[int, NDArray[np.uint8]]]] = {}
    done = bad = held = 0

    def flush(shape: tuple[int, ...]) -> None:
        nonlocal done, held
        group = waiting.pop(shape)
        held -= len(group)
        squares, _ = model.squares([test.image(i) for i, _ in group])
        expected = model.probabilities(squares).numpy()
        pixels = np.stack([image for _, image in group])
        for name, run in runners.items():
            _compare(tallies[name], [test.key(i) for i, _ in group], expected, run(pixels), model.labels, recorded)
        done += len(group)
        if on_progress is not None:
            on_progress(done + bad, len(test))

    for i in range(len(test)):
        try:
            pixels = read_rgb(test.image(i))
        except UNREADABLE:
            bad += 1
            continue
        waiting.setdefault(pixels.shape, []).append((i, pixels))
        held += 1
        if len(waiting[pixels.shape]) == BATCH:
            flush(pixels.shape)
        elif held == HELD:
            flush(max(waiting, key=lambda shape: len(waiting[shape])))
    for shape in list(waiting):
        flush(shape)
    return {
        name: Parity(done, bad, each.same, each.largest, tuple(each.apart), each.recorded, each.recorded_same)
        for name, each in tallies.items()
    }


def _compare(
    tally: _Tally,
    keys: list[str],
    expected: NDArray[np.float32],
    found: NDArray[np.float32],
    labels: tuple[str, ...],
    recorded: Mapping[str, str],
) -> None:
    tally.largest = max(tally.largest, float(np.abs(expected - found).max()))
    for key, ours, theirs in zip(keys, expected.argmax(1).tolist(), found.argmax(1).tolist(), strict=True):
        if ours == theirs:
            tally.same += 1
        else:
            tally.apart.append(key)
        if key in recorded:
            tally.recorded += 1
            tally.recorded_same += recorded[key] == labels[theirs]
