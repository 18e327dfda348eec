"""A list of image addresses and labels as a source: CSV, TSV, JSON lines, Parquet, or an address a line.

It is read once from top to bottom, a batch at a time, into the ledger, which knows every address by itself: a second
run finds what is new in the list in whatever order its rows are, and a list of a million rows needs no more memory than
one of a thousand.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import Field

from crawler.urls import absolute
from shards.errors import ConfigError
from shards.toml_file import StrictModel

__all__ = ["SUFFIXES", "UNLABELLED", "Row", "Rows", "UrlList", "digest", "is_list", "read"]

LABEL = "label"  # the column of labels if none is named
UNLABELLED = "unlabelled"  # the label of rows that have none
SUFFIXES = {".csv": "csv", ".tsv": "csv", ".txt": "txt", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
MAX_LABELS = 10_000  # a column with more is a caption, not a label
MAX_LINE = 1 << 20  # characters; a longer one is no row
_BATCH = 2_000
_SHOWN = 5  # bad rows that are told with their reason


class UrlList(StrictModel):
    """[list]: a file of image addresses, in place of [follow], [labels] rules and [listing]."""

    path: str = Field(min_length=1, description="from the site file's folder")
    url: str = Field(default="url", min_length=1, description="column of the address")
    label: str | None = Field(default=None, description='column of the label; by default "label", if there is one')
    format: Literal["csv", "txt", "jsonl", "parquet"] | None = Field(default=None, description="by default by suffix")


@dataclass(frozen=True, slots=True)
class Row:
    """One address: its label, and the row's other columns."""

    url: str
    label: str
    other: dict[str, Any]


@dataclass
class Rows:
    """What was found while reading: counted, with the first bad rows by their line."""

    rows: int = 0
    bad: int = 0
    examples: dict[str, str] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)

    def refuse(self, where: str, problem: str) -> None:
        """Counts a bad row."""
        self.bad += 1
        if len(self.examples) < _SHOWN:
            self.examples[where] = problem


def is_list(source: str) -> bool:
    """Whether a name is that of a list, by its suffix (.gz may follow)."""
    return Path(source.removesuffix(".gz")).suffix.lower() in SUFFIXES


def digest(path: Path) -> str:
    """sha256 of the file in hex: a list that is the same needs no second reading.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(str(path), "", f"cannot be read: {error.strerror or error}") from None


def read(table: UrlList, found: Rows) -> Iterator[list[Row]]:
    """The rows of a list in batches; bad ones are counted in `found` and passed over.

    Raises:
        ConfigError: the file cannot be read or is not of its format, has no such column, or has too many labels.
    """
    path = Path(table.path)
    kind = table.format or SUFFIXES.get(Path(path.name.removesuffix(".gz")).suffix.lower())
    if kind is None:
        known = ", ".join(SUFFIXES)
        raise ConfigError(str(path), "", f"not known by its suffix: expected one of {known} (or [list] format)")
    rows = _READERS[kind](path, found)
    first = True
    with _errors_of(path):
        while batch := list(islice(rows, _BATCH)):
            if first:
                _refuse_missing(path, table, [row for _, row in batch])
                first = False
            made = [row for row in (_row(row, table, where, found) for where, row in batch) if row is not None]
            found.labels.update(row.label for row in made)
            if len(found.labels) > MAX_LABELS:
                column = table.label or LABEL
                raise ConfigError(
                    str(path),
                    "",
                    f"more than {MAX_LABELS:,} labels in column {column!r}: name another (--label-column)",
                )
            yield made


def _row(row: dict[str, Any], table: UrlList, where: str, found: Rows) -> Row | None:
    found.rows += 1
    url_column, label_column = table.url, table.label or LABEL
    text = row.get(url_column)
    url = absolute("http://none/", text) if isinstance(text, str) and "//" in text else None
    if url is None or not str(text).strip().lower().startswith(("http://", "https://")):
        found.refuse(where, f"expected an http(s) address in {url_column!r}, not {str(text)[:100]!r}")
        return None
    label = row.get(label_column)
    if isinstance(label, float):
        label = int(label) if label.is_integer() else None if math.isnan(label) else label
    if isinstance(label, dict | list | bytes):
        found.refuse(where, f"expected a text or a number in {label_column!r}, not {str(label)[:100]!r}")
        return None
    name = " ".join(str(label).split())[:200] if label is not None else ""
    other = {str(key): _plain(value) for key, value in row.items() if key not in (url_column, label_column)}
    return Row(url, name or UNLABELLED, other)


def _refuse_missing(path: Path, table: UrlList, rows: list[dict[str, Any]]) -> None:
    """Raises ConfigError if none of the first rows has a column that is named."""
    for option, column in (("--url-column", table.url), ("--label-column", table.label)):
        if column is not None and not any(column in row for row in rows):
            known = ", ".join(map(str, islice(rows[0], 20))) or "none"
            raise ConfigError(str(path), "", f"no column {column!r} (name one with {option}); columns: {known[:300]}")


def _plain(value: Any) -> Any:
    """As JSON has it: dates and the like as text, what is no number as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value.hex() if isinstance(value, bytes) else str(value)


# -- the formats: each gives (where, row) --


def _csv(path: Path, found: Rows) -> Iterator[tuple[str, dict[str, Any]]]:
    with _text(path) as file:
        head = file.readline(MAX_LINE)
        file.seek(0)
        delimiter = max(",\t;", key=head.count) if path.name.removesuffix(".gz").lower()[-4:] != ".tsv" else "\t"
        reader = csv.reader(_lines(file), delimiter=delimiter, strict=False)
        names: list[str] = []
        while True:
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                found.rows += 1
                found.refuse(f"line {reader.line_num}", str(error))
                continue
            if not names:
                names = [name.strip() for name in values]
            elif len(values) > len(names):
                found.rows += 1
                found.refuse(f"line {reader.line_num}", f"{len(values)} fields under {len(names)} columns")
            elif values:
                yield f"line {reader.line_num}", dict(zip(names, values, strict=False))


def _txt(path: Path, found: Rows) -> Iterator[tuple[str, dict[str, Any]]]:
    with _text(path) as file:
        for number, line in enumerate(_lines(file), start=1):
            if line.strip():
                yield f"line {number}", {"url": line.strip()}


def _jsonl(path: Path, found: Rows) -> Iterator[tuple[str, dict[str, Any]]]:
    with _text(path) as file:
        for number, line in enumerate(_lines(file), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                row = str(error)
            if isinstance(row, dict):
                yield f"line {number}", row
            else:
                found.rows += 1
                found.refuse(f"line {number}", f"expected a JSON object: {str(row)[:100]}")


def _parquet(path: Path, found: Rows) -> Iterator[tuple[str, dict[str, Any]]]:
    from pyarrow import parquet  # type: ignore[import-untyped]  # only a list in Parquet pays for it

    number = 0
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row


_READERS: dict[str, Callable[[Path, Rows], Iterator[tuple[str, dict[str, Any]]]]] = {
    "csv": _csv,
    "txt": _txt,
    "jsonl": _jsonl,
    "parquet": _parquet,
}


@contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    options: dict[str, Any] = {"encoding": "utf-8-sig", "errors": "replace", "newline": ""}
    with gzip.open(path, "rt", **options) if path.name.endswith(".gz") else path.open(**options) as file:
        yield file


def _lines(file: IO[str]) -> Iterator[str]:
    """Lines of a text file; of one that is too long only its beginning: a file without line ends is not one string."""
    while line := file.readline(MAX_LINE):
        yield line
        while line and not line.endswith("\n") and len(line) == MAX_LINE:
            line = file.readline(MAX_LINE)


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(str(path), "", f"cannot be read: {error.strerror or error}") from None
    except (EOFError, ValueError) as error:  # gzip's truncated file; pyarrow's errors are ValueErrors
        raise ConfigError(str(path), "", f"cannot be read: {' '.join(str(error).split())[:200]}") from None
