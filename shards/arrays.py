"""Two .npy arrays and back: data (N, H, W, 3) uint8 RGB and labels (N,). Mapped: neither is ever in memory whole."""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.conversion import Conversion, ConvertProgress, Exported, in_order
from shards.errors import ConfigError
from shards.folders import SIDECAR_NAME, read_sidecar, write_sidecar
from shards.new_folder import new_folder
from shards.recode import Recode, encode, pixels
from shards.sample import KEY, Sample
from shards.shard_errors import ShardError
from shards.shard_set import ShardSet
from shards.writer import MAX_SAMPLES, write_set

__all__ = ["DATA_NAME", "LABELS_NAME", "NAMES_NAME", "from_arrays", "to_arrays"]

DATA_NAME, LABELS_NAME, NAMES_NAME = "data.npy", "labels.npy", "labels.json"
_LET_GO = 16 << 20  # bytes after which the pages of a map are given back
_MAX_LABELS = 100_000

Progress = Callable[[ConvertProgress], None]


def _map(path: Path) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
        return found
    except FileNotFoundError:
        raise ConfigError(str(path), "", "no such file; expected an array as numpy.save writes it") from None
    except (ValueError, OSError, EOFError) as error:
        text = " ".join(str(error).split())[:160]
        raise ConfigError(str(path), "", f"no array to be mapped ({text}); expected what numpy.save writes") from None


def _let_go(array: NDArray[Any]) -> None:
    """Gives the map's pages back: what was read can be read again, what was written is on its way."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None:
        mapped.madvise(mmap.MADV_DONTNEED)


def _reserve(path: Path) -> None:
    """Takes the disk's room for a file that is written through a map: a full disk then is an error, and no SIGBUS.

    Raises:
        OSError: there is no room; names the file.
    """
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(1, path.stat().st_size))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise OSError(error.errno, error.strerror, str(path)) from None


def _as_rows(path: Path, data: NDArray[Any]) -> tuple[Callable[[int], NDArray[np.uint8]], tuple[str, ...]]:
    """What gives row i as uint8 (H, W, 3), and what is to be said of the layout."""
    wanted = "expected uint8 RGB of shape (N, height, width, 3)"
    if data.dtype != np.uint8:
        how = "multiply by 255 if it is 0 to 1, round, and cast: `(a * 255).round().astype('uint8')`"
        remedy = how if data.dtype.kind == "f" else "cast it"
        raise ConfigError(str(path), "", f"{data.dtype} of shape {data.shape}: {wanted}; {remedy}")
    shape = data.shape
    if len(shape) == 4 and shape[3] == 3 and min(shape[1:3]) > 0:
        note = ("shape (N, 3, W, 3) is taken as height 3; transpose it if the channels stand first",)
        return lambda i: np.asarray(data[i]), note if shape[1] == 3 else ()
    if len(shape) == 4 and shape[1] == 3 and min(shape[2:]) > 0:
        said = f"{path.name}: channels stand first {shape}; they were moved last"
        return lambda i: np.ascontiguousarray(data[i].transpose(1, 2, 0)), (said,)
    if (len(shape) == 3 or (len(shape) == 4 and shape[3] == 1)) and min(shape[1:3]) > 0:
        said = f"{path.name}: one channel {shape}; it was taken for all three"
        return lambda i: np.repeat(np.asarray(data[i]).reshape(*shape[1:3], 1), 3, axis=2), (said,)
    raise ConfigError(str(path), "", f"shape {shape}: {wanted}, or (N, 3, height, width), or (N, height, width)")


def _label_ids(path: Path, count: int) -> NDArray[np.int64]:
    labels = _map(path)
    found = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    wanted = f"expected {count} whole numbers, one a picture"
    if found.ndim != 1:
        one_hot = "; one-hot rows become numbers by `a.argmax(1)`" if found.ndim == 2 else ""
        raise ConfigError(str(path), "", f"shape {labels.shape}: {wanted}{one_hot}")
    if len(found) != count:
        raise ConfigError(str(path), "", f"{len(found)} labels: {wanted}")
    if found.dtype.kind not in "iub":
        raise ConfigError(str(path), "", f"{found.dtype}: {wanted}; cast them with `.astype('int64')`")
    ids = np.array(found, np.int64)
    if len(ids) and (ids.min() < 0 or ids.max() >= _MAX_LABELS):
        row = int(np.flatnonzero((ids < 0) | (ids >= _MAX_LABELS))[0])
        raise ConfigError(str(path), "", f"row {row} has label {ids[row]}: expected 0 to {_MAX_LABELS - 1}")
    return ids


def _names(data: Path, ids: NDArray[np.int64], given: Sequence[str] | None) -> list[str]:
    needed = int(ids.max(initial=-1)) + 1
    beside = data.with_name(NAMES_NAME)
    where = "--label"
    names = list(given or ())
    if not names and beside.is_file():
        where = str(beside)
        try:
            names = json.loads(beside.read_text("utf-8"))
        except ValueError as error:
            raise ConfigError(where, "", f"not JSON ({error}); expected a list of label names") from None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ConfigError(where, "", "expected a list of label names, by number")
    if not names:
        return [str(number) for number in range(max(needed, 1))]
    if len(names) < needed or len(set(names)) != len(names):
        raise ConfigError(
            where, "", f"{len(names)} names for labels 0 to {needed - 1}: expected one for each, all different"
        )
    return names


def from_arrays(
    data: Path,
    labels: Path,
    out: Path,
    *,
    names: Sequence[str] | None = None,
    recode: Recode | None = None,
    shard_samples: int = MAX_SAMPLES,
    on_progress: Progress | None = None,
) -> Conversion:
    """Writes the shard set `out` from a pair of arrays; every row is a sample, equal ones too, in order.

    Pictures are encoded as PNG, so the pixels stay what they are, or as `recode` says. A samples.jsonl beside the data
    (of `to_arrays`) gives keys and provenance back.

    Args:
        data: uint8 (N, H, W, 3) RGB; channels first, or one channel, are taken too, and told in the notes.
        labels: whole numbers (N,) or (N, 1).
        out: absent or an empty folder.
        names: of the labels by number; else labels.json beside the data; else the numbers.
        recode: another size or format; "same" is PNG here.

    Raises:
        ConfigError: an array is not what it should be; says what was found and how to make it so.
        TargetNotEmpty
    """
    recode = recode or Recode()
    recode = replace(recode, format="png") if recode.format == "same" else recode
    array = _map(data)
    row_of, notes = _as_rows(data, array)
    ids = _label_ids(labels, len(array))
    label_names = _names(data, ids, names)
    told = read_sidecar(data.with_name(SIDECAR_NAME))
    rows = told.rows if told and len(told.rows) == len(ids) else None
    if told and rows is None:
        notes += (f"{SIDECAR_NAME} has {len(told.rows):,} rows for {len(ids):,} pictures; it was not used",)
    keys: set[str] = set()

    def make(i: int) -> tuple[bytes, str]:
        picture = row_of(i)
        pixel_digest = hashlib.sha256(picture.tobytes()).hexdigest()
        image = recode.resized(Image.fromarray(picture))
        return encode(image, recode.format, recode.quality), pixel_digest

    def samples() -> Iterator[Sample]:
        passed = 0
        for i, (made, pixel_digest) in in_order(make, range(len(array))):
            sha256 = hashlib.sha256(made).hexdigest()
            label = int(ids[i])
            meta: dict[str, Any] = {"label": label_names[label], "row": i, "sha256": sha256}
            key = sha256[:20]
            if rows is not None and rows[i].get("pixels") == pixel_digest and KEY.fullmatch(rows[i]["key"]):
                meta, key = dict(rows[i]["meta"]) | {"label": label_names[label], "sha256": sha256}, rows[i]["key"]
            made_key, number = key, 0
            while made_key in keys:
                number += 1
                made_key = f"{key[:85]}-{number}"
            keys.add(made_key)
            yield Sample(made_key, made, recode.format, label, meta)
            passed += array[0].nbytes
            if passed > _LET_GO:
                passed = 0
                _let_go(array)
            if on_progress:
                on_progress(ConvertProgress(i + 1, len(array), 0))

    origin = {
        "kind": "arrays",
        "data": data.name,
        "labels": labels.name,
        "shape": list(array.shape),
        "recode": recode.about(),
    }
    made = write_set(out, samples(), label_names, source=origin, shard_samples=shard_samples)
    return Conversion(made, (), notes)


def to_arrays(
    source: ShardSet, out: Path, *, recode: Recode | None = None, on_progress: Progress | None = None
) -> Exported:
    """Writes out/data.npy, uint8 (N, H, W, 3) RGB, and out/labels.npy, int64 (N,), in stored order.

    Beside them labels.json (the names, by number) and samples.jsonl (keys and provenance). The data is written through
    a map whose pages are given back as it grows.

    Args:
        source: an open set.
        out: absent or an empty folder; it appears whole or not at all.
        recode: `size` and `fit`; without a size all pictures must have one.

    Raises:
        ConfigError: the pictures have several sizes, and none was asked for.
        ShardError: a picture cannot be decoded; names it.
        TargetNotEmpty
    """
    recode = recode or Recode()
    count = len(source)
    height, width = _one_size(source, recode)

    def decoded(i: int) -> NDArray[np.uint8]:
        try:
            return pixels(source.image(i), recode)
        except (OSError, SyntaxError, ValueError) as error:
            raise ShardError(
                f"{source.folder}: {source.where(i)}: cannot be decoded ({error}); drop the sample"
            ) from None

    with new_folder(out) as beside:
        data = np.lib.format.open_memmap(beside / DATA_NAME, mode="w+", dtype=np.uint8, shape=(count, height, width, 3))
        _reserve(beside / DATA_NAME)

        def rows() -> Iterator[dict[str, Any]]:
            passed = 0
            for i, picture in in_order(decoded, range(count)):
                if picture.shape != (height, width, 3):
                    found = f"{picture.shape[1]} x {picture.shape[0]}"
                    raise ConfigError(
                        "--size", "", f"{source.where(i)} is {found}, others {width} x {height}: give one size"
                    )
                data[i] = picture
                passed += picture.nbytes
                if passed > _LET_GO:
                    passed = 0
                    data.flush()
                    _let_go(data)
                yield {
                    "file": f"{DATA_NAME}[{i}]",
                    "key": source.key(i),
                    "label": source.labels[int(source.label_ids[i])],
                    "group": int(source.groups[i]),
                    "pixels": hashlib.sha256(picture.tobytes()).hexdigest(),
                    "meta": source.meta(i),
                }
                if on_progress:
                    on_progress(ConvertProgress(i + 1, count, 0))

        write_sidecar(beside / SIDECAR_NAME, source, [], rows())
        data.flush()
        np.save(beside / LABELS_NAME, source.label_ids)
        (beside / NAMES_NAME).write_text(json.dumps(list(source.labels), ensure_ascii=False) + "\n", "utf-8")
    how = f"resized to {width} x {height} ({recode.fit}, Lanczos)" if recode.size else f"{width} x {height} as stored"
    return Exported(out, count, (f"pictures {how}; EXIF rotation applied, alpha over white",))


def _one_size(source: ShardSet, recode: Recode) -> tuple[int, int]:
    """(height, width) of every row."""
    if recode.size is not None:
        return recode.size, recode.size
    sizes, counts = np.unique(np.column_stack([source.heights, source.widths]), axis=0, return_counts=True)
    if len(sizes) != 1:
        some = ", ".join(
            f"{w} x {h} ({n:,})" for (h, w), n in list(zip(sizes.tolist(), counts.tolist(), strict=True))[:4]
        )
        found = f"{len(sizes)} sizes ({some}{', ...' if len(sizes) > 4 else ''})" if len(sizes) else "no pictures"
        raise ConfigError(
            "--size", "", f"the set has {found}; an array needs one: give --size, and --fit pad|crop|stretch"
        )
    return int(sizes[0][0]), int(sizes[0][1])
