"""How fast is the ground floor: writing, indexing, opening, reading, resuming, verifying, grouping and splitting.

Everything but the split is measured in this process in interleaved rounds, on a set made for it: pictures of random
bytes (nothing here decodes) with the JSON that a crawl writes. The split runs afterwards, as often, each time in a
process of its own, for what it holds of memory. Writing is held against Python's tarfile, which writes the same members
to the same disk and takes the same digest of what it wrote.
"""

from __future__ import annotations

import gc
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.record import Record, measured
from bench.stats import ratio, summarise
from bench.targets import Target, shortfall, together
from shards.duplicates import HASH_BITS, groups
from shards.errors import ConfigError
from shards.files import sha256_of
from shards.index import INDEX_NAME, ROW, write_rows
from shards.read import BatchReader, OnBad, State
from shards.sample import Sample
from shards.shard_set import MANIFEST_NAME, ShardSet, finish
from shards.tar import header
from shards.verify import verify
from shards.writer import ShardInfo, ShardWriter

__all__ = ["TARGETS", "measure_shards"]

_BATCH = 256
_RESUME_AT = 0.1  # of the large set
_STEP = 8704  # bytes a sample in the tars of the large set
_EACH = 10_000  # samples in each of them
_HASHES = 100_000
_SPLIT = """
import sys
from pathlib import Path
from shards.split import split
split(Path(sys.argv[1]), Path(sys.argv[2]), fractions=[0.6, 0.2, 0.2])
told = Path("/proc/self/status").read_text()
print(int(told.partition("VmHWM:")[2].split()[0]) / 1000)
"""


TARGETS = {
    "write/tarfile": Target(0.9),
    "read": Target(200_000),
    "open": Target(0.2, below=True),  # of a million samples
    "resume/fresh": Target(1.1, below=True),
    "verify": Target(20_000),
    "group": Target(10, below=True),  # 100,000 hashes
    "split": Target(300, below=True),
}
"""By the name of a measurement or ratio; rates are of one core, by processor time."""


def measure_shards(
    *,
    samples: int = 20_000,
    image_bytes: int = 5_000,
    repeats: int = 5,
    many: int = 1_000_000,
    hashes: int = _HASHES,
    scratch: Path | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Record:
    """Measures the shards room; the set and the tars are made in `scratch` and removed again.

    Args:
        samples: of the set.
        image_bytes: of each picture.
        repeats: rounds, at least 5 for a claim.
        many: samples of a larger set, which is opened, and resumed at a tenth of it.
        hashes: how many are put into groups of near-duplicates.
        scratch: a folder for some 35 KB a sample; by default the system's temporary one.
        on_progress: called with (done, total, name).

    Raises:
        ConfigError: a number is too small.
    """
    if samples < _BATCH or image_bytes < 16 or repeats < 1 or many < _EACH or many % _EACH:
        problem = f"expected {_BATCH} samples, 16 bytes and 1 round, or more, and many as a multiple of {_EACH}"
        raise ConfigError("bench shards", "", problem)
    values: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bassline-shards-", dir=scratch) as temporary:
        folder = Path(temporary)
        made = list(_samples(samples, image_bytes))
        crowd = _hashes(hashes)
        _make_many(folder / "many", many)
        steps: list[tuple[str, Callable[[], dict[str, float]]]] = [
            ("write", lambda: _write(folder / "set", made)),
            ("tarfile", lambda: _tarfile(folder / "by-tarfile", made)),
            ("index", lambda: _index(folder / "set", samples)),
            ("read", lambda: _read(folder / "set", samples)),
            ("open and resume", lambda: _many(folder / "many")),
            ("verify", lambda: _verify(folder / "set", samples)),
            ("group", lambda: _group(crowd)),
        ]
        gc.collect()
        gc.freeze()  # the samples to write are the bench's own: collections are not to go through them again and again
        for number in range(repeats):
            for place, (name, step) in enumerate(steps):
                if on_progress:
                    on_progress(number * len(steps) + place, repeats * (len(steps) + 1), name)
                for what, value in step().items():
                    values.setdefault(what, []).append(value)
        for number in range(repeats):
            if on_progress:
                on_progress(repeats * len(steps) + number, repeats * (len(steps) + 1), "split")
            values.setdefault("split", []).append(_split(folder))
    gc.unfreeze()
    units = {"write": "bytes/s", "tarfile": "bytes/s", "open": "s", "fresh": "s", "resume": "s"}
    units |= {"group": "s", "split": "MB"}
    ratios = {
        "write/tarfile": ratio(values["write"], values["tarfile"]),
        "resume/fresh": ratio(values["resume"], values["fresh"]),
    }
    measurements = {name: summarise(one) for name, one in values.items()}
    targets = {name: target.to_json((measurements | ratios)[name]) for name, target in TARGETS.items()}
    short = shortfall(targets)
    return Record(
        kind="shards",
        settings={
            "samples": samples, "image_bytes": image_bytes, "open_samples": many, "hashes": hashes, "batch": _BATCH,
            "repeats": repeats, "cache": "warm",
            "rates": "per second of processor time; written bytes per second of the clock",
            "group": "seconds of processor time; hashes that crowd as those of photographs do",
            "split": "peak memory of a process that splits the set 0.6, 0.2, 0.2",
        },
        measurements={name: measured(units.get(name, "samples/s"), one) for name, one in measurements.items()},
        ratios={name: measured("ratio", one) for name, one in ratios.items()},
        verdict={
            "name": f"targets {together(one['verdict'] for one in targets.values())}",
            "sentence": f"Targets {'; '.join(short)}." if short else "Every target is met.",
            "targets": targets,
        },
    )  # fmt: skip


def _samples(count: int, size: int) -> Iterator[Sample]:
    rng = np.random.default_rng(0)
    for n in range(count):
        image = b"\xff\xd8\xff\xe0" + rng.bytes(size - 4)
        key = hashlib.sha256(image).hexdigest()
        page = f"https://shop.example/instruments/basses/item-{n}"
        meta = {
            "label": "ab"[n % 2], "sha256": key, "dhash": (key * 5)[: HASH_BITS // 4], "group": n,
            "width": 150, "height": 150,
            "image_url": f"{page}.jpg", "final_url": f"{page}.jpg", "listing_url": f"{page}?page=3",
            "product_url": page, "label_path": ["instruments", "basses"], "title": f"A bass of its own, number {n}",
            "etag": key[:16], "fetched_at": "2026-01-01T00:00:00Z", "robots": "allowed", "site": "bench",
        }  # fmt: skip
        yield Sample(key[:20], image, "jpg", n % 2, meta)


def _write(folder: Path, samples: list[Sample]) -> dict[str, float]:
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    with ShardWriter(folder) as writer:
        for sample in samples:
            writer.add(sample)
            if writer.full:
                writer.seal()
        if writer.samples:
            writer.seal()
    spent = time.perf_counter() - started
    return {"write": sum(path.stat().st_size for path in folder.glob("*.tar")) / spent}


def _tarfile(folder: Path, samples: list[Sample]) -> dict[str, float]:
    """The same members by the standard library, as its users write them: to disk, with a digest at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / "all.tar"
    started = time.perf_counter()
    with path.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for sample in samples:
                meta = json.dumps(sample.meta, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
                for ext, content in (("jpg", sample.image), ("cls", str(sample.label).encode()), ("json", meta)):
                    info = tarfile.TarInfo(f"{sample.key}.{ext}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
        file.flush()
        os.fsync(file.fileno())
    sha256_of(path)
    spent = time.perf_counter() - started
    written = path.stat().st_size
    shutil.rmtree(folder)
    return {"tarfile": written / spent}


def _index(folder: Path, samples: int) -> dict[str, float]:
    started = time.process_time()
    finish(folder, ["a", "b"], source={"kind": "bench"}).close()
    return {"index": samples / (time.process_time() - started)}


def _read(folder: Path, samples: int) -> dict[str, float]:
    rates = {}
    with ShardSet.open(folder) as opened:
        policies: tuple[tuple[str, OnBad], ...] = (("read", None), ("read with CRC", "raise"))
        for name, policy in policies:
            for _ in BatchReader(opened, _BATCH):  # the cache is warm, and so is the map
                pass
            started = time.process_time()
            count = sum(len(batch) for batch in BatchReader(opened, _BATCH, seed=0, on_bad=policy))
            rates[name] = count / (time.process_time() - started)
            if count != samples:
                raise AssertionError(f"{count} of {samples} samples were read")
    return rates


def _verify(folder: Path, samples: int) -> dict[str, float]:
    started, began = time.process_time(), time.perf_counter()
    findings = verify(folder, decode=False)
    spent, waited = time.process_time() - started, time.perf_counter() - began
    if findings:
        raise AssertionError(f"a set that was just written: {findings[0]}")
    return {"verify": samples / spent, "verify by the clock": samples / waited}


def _hashes(count: int) -> NDArray[np.uint8]:
    """Hashes that crowd: few coarse outlines, two of them in each hash, and one bit in a hundred its own."""
    rng = np.random.default_rng(0)
    coarse = (rng.standard_normal((1500, 2, 6, 6)) > 0.9).astype(np.uint8)
    outlines = coarse.repeat(4, axis=2).repeat(4, axis=3)
    side = outlines.shape[-1]
    made = np.empty((count, HASH_BITS // 8), np.uint8)
    for begin in range(0, count, 2000):
        some = made[begin : begin + 2000]
        left, right = rng.integers(len(outlines), size=(2, len(some)))
        inside = np.arange(side) < rng.integers(4, 20, len(some))[:, None]
        bits = np.where(inside[:, None, None, :], outlines[left], outlines[right])
        some[:] = np.packbits((bits ^ (rng.random(bits.shape) < 0.01)).reshape(len(some), -1), axis=1)
    return made


def _group(hashes: NDArray[np.uint8]) -> dict[str, float]:
    started = time.process_time()
    groups(hashes)
    return {"group": time.process_time() - started}


def _split(folder: Path) -> float:
    command = [sys.executable, "-c", _SPLIT, str(folder / "set"), str(folder / "parts")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"the split failed: {done.stderr[-400:]}")
    shutil.rmtree(folder / "parts")
    return float(done.stdout)


def _make_many(folder: Path, count: int) -> None:
    """An index of very many rows over sparse tars: what opening and resuming touch is real, the pictures are zeros."""
    folder.mkdir()
    rows = np.zeros(count, ROW)
    places = np.arange(count)
    rows["shard"] = places // _EACH
    rows["offset"] = places % _EACH * _STEP
    rows["image"] = rows["offset"] + 512
    rows["size"] = 5000
    keys = np.char.mod("%020d", places).astype("S20")
    shards = [ShardInfo(f"shard-{n:06d}.tar", _EACH, _EACH * _STEP, f"{n:064d}") for n in range(count // _EACH)]
    for number, info in enumerate(shards):
        with (folder / info.name).open("wb") as file:
            for place in (0, _EACH - 1):
                file.seek(place * _STEP)
                file.write(header(f"{number * _EACH + place:020d}.jpg", 5000))
            file.truncate(info.bytes)
    write_rows(folder / INDEX_NAME, shards, rows, keys, places.astype("<u4"))
    told: dict[str, Any] = {
        "format": "bassline shard set", "version": 1, "samples": count, "labels": ["a"], "counts": {"a": count},
        "split": None, "source": {}, "digest": hashlib.sha256("".join(i.sha256 for i in shards).encode()).hexdigest(),
        "shards": [{"name": i.name, "samples": i.samples, "bytes": i.bytes, "sha256": i.sha256} for i in shards],
    }  # fmt: skip
    (folder / MANIFEST_NAME).write_text(json.dumps(told))


def _many(folder: Path) -> dict[str, float]:
    started = time.process_time()
    opened = ShardSet.open(folder)
    spent = {"open": time.process_time() - started}
    with opened:
        next(BatchReader(opened, _BATCH, seed=1))  # caches of columns are made once a set
        started = time.process_time()
        next(BatchReader(opened, _BATCH, seed=0))
        spent["fresh"] = time.process_time() - started
        state = State(digest=opened.digest, seed=0, epoch=0, position=int(_RESUME_AT * len(opened)))
        started = time.process_time()
        next(BatchReader.resume(opened, state, _BATCH))
        spent["resume"] = time.process_time() - started
    return spent
