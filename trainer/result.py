"""What a run leaves to be read: a line an epoch, a line a test sample, and one object that says it all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.files import write_atomic
from shards.shard_set import ShardSet
from trainer.clock import PARTS
from trainer.errors import RunDamaged

__all__ = [
    "METRICS_NAME",
    "RESULT_NAME",
    "TEST_NAME",
    "History",
    "read_result",
    "seconds_of",
    "write_result",
    "write_test",
]

RESULT_NAME, METRICS_NAME, TEST_NAME = "result.json", "metrics.jsonl", "test.jsonl"


class History:
    """metrics.jsonl: appended to, and cut back to the last kept epoch when a run is taken up again.

    Raises:
        RunDamaged: the file does not have the epochs that were kept.
    """

    def __init__(self, path: Path, epochs: int) -> None:
        lines: list[str] = []
        try:
            if epochs:
                lines = path.read_text(encoding="utf-8").splitlines()[:epochs]
            self.lines: list[dict[str, Any]] = [json.loads(line) for line in lines]
            if [line["epoch"] for line in self.lines] != list(range(1, epochs + 1)):
                raise ValueError(f"{epochs} epochs were expected, {len(lines)} are there")
        except (ValueError, LookupError, TypeError, FileNotFoundError) as error:
            raise RunDamaged(path, str(error)) from None
        write_atomic(path, [f"{line}\n".encode() for line in lines])
        self._file = path.open("a", encoding="utf-8")

    def add(self, line: dict[str, Any]) -> None:
        """Adds an epoch; a reader beside sees it at once."""
        self.lines.append(line)
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Makes all lines durable: what `last.pt` counts on."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def images_per_s(self) -> float | None:
        """Training images per second over the epochs after the first, which pays for warming up; None before any."""
        counted = self.lines[1:] or self.lines
        seconds = sum(line["seconds"] for line in counted)
        return sum(line["images"] for line in counted) / seconds if seconds else None


def seconds_of(split: dict[str, float]) -> tuple[dict[str, float], float]:
    """Rounds a clock's split: the parts, and what of the total no part claims."""
    parts = {part: round(split[part], 4) for part in PARTS}
    return parts, round(split["total"] - sum(split[part] for part in PARTS), 4)


def write_test(
    path: Path,
    source: ShardSet,
    samples: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    labels: Sequence[str],
) -> None:
    """Writes test.jsonl: a sample's key, true label, predicted label, that one's probability, all probabilities."""
    answers = probabilities.argmax(1)

    def lines() -> Iterable[bytes]:
        for sample, answer, row in zip(samples.tolist(), answers.tolist(), probabilities, strict=True):
            shares = [round(float(value), 6) for value in row]
            line = {
                "key": source.key(sample),
                "label": labels[source.label_ids[sample]],
                "predicted": labels[answer],
                "probability": shares[answer],
                "probabilities": shares,
            }
            yield json.dumps(line, ensure_ascii=False).encode() + b"\n"

    write_atomic(path, lines())


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Writes result.json, atomically: a run folder that has one is finished."""
    write_atomic(path, [json.dumps(result, ensure_ascii=False, indent=1).encode(), b"\n"])


def read_result(folder: Path) -> dict[str, Any] | None:
    """The object of a finished run's result.json; None where the run is not finished.

    Raises:
        RunDamaged: it is no such object.
    """
    path = folder / RESULT_NAME
    if not path.is_file():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunDamaged(path, str(error)) from None
    if not isinstance(result, dict) or "config_hash" not in result or "data_digest" not in result:
        raise RunDamaged(path, "holds no run's result")
    return result
