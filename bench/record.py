"""One JSON schema for every measurement, with the machine it was taken on: numbers without their machine are gossip."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, ValidationError

from bench.errors import BenchError
from bench.stats import Summary

__all__ = ["SCHEMA", "Record", "fingerprint", "measured", "read_record", "write_record"]

SCHEMA = "bassline.bench/1"

_PACKAGES = (
    "aiohttp",
    "pycurl",
    "bassline",
    "numpy",
    "nvidia-dali-cuda130",
    "pillow",
    "simplejpeg",
    "torch",
    "torchvision",
    "webdataset",
)


@dataclass(frozen=True, slots=True)
class Record:
    """What one bench command measured.

    Attributes:
        kind: the bench, such as "loaders".
        settings: what was asked for: the data's digest, sizes, repeats.
        measurements: name -> {"unit", "values", "median", "ci95", ...}; null is "not measured".
        ratios: name -> the same, paired run by run.
        verdict: what the numbers say, or None where the bench gives none.
        environment: the fingerprint.
        made_at: UTC, ISO 8601.
        noise: by measurement, how far two measurements of the same thing lay apart (A/A runs), as a share; empty where
            no A/A runs were taken.
    """

    kind: str
    settings: Mapping[str, Any]
    measurements: Mapping[str, Any]
    ratios: Mapping[str, Any] = field(default_factory=dict)
    verdict: Mapping[str, Any] | None = None
    environment: Mapping[str, Any] = field(default_factory=lambda: fingerprint())
    made_at: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
    noise: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The record as it stands on disk."""
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "made_at": self.made_at,
            "environment": dict(self.environment),
            "settings": dict(self.settings),
            "measurements": dict(self.measurements),
            "ratios": dict(self.ratios),
            "verdict": dict(self.verdict) if self.verdict is not None else None,
            "noise": dict(self.noise),
        }


def measured(unit: str, summary: Summary, **more: Any) -> dict[str, Any]:
    """One entry of `measurements`."""
    return {"unit": unit, **summary.to_json(), **more}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def fingerprint() -> dict[str, Any]:
    """The machine and the software, without its name or address; `digest` says whether two records may be compared."""
    import torch  # 2 s: only a bench needs it

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    machine: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "gpu": gpu,
        "cuda": torch.version.cuda if gpu else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }
    # What is under test may change between two records that are compared; what it runs on may not.
    judged = {**machine, "packages": {name: v for name, v in machine["packages"].items() if name != "bassline"}}
    text = json.dumps(judged, sort_keys=True)
    return {**machine, "digest": hashlib.sha256(text.encode()).hexdigest()[:16]}


def write_record(record: Record, path: Path) -> None:
    """Writes the record whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(record.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


class _Part(BaseModel):
    """What a record must have to be read; it may have more."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Measured(_Part):
    unit: str
    values: list[float]
    median: float
    ci95: tuple[float | None, float | None]
    ours: bool = False


class _Environment(_Part):
    digest: str
    packages: dict[str, str | None] = {}


class _Settings(_Part):
    peers: dict[str, str] = {}
    reference: str = ""


class _File(_Part):
    kind: str
    made_at: str
    environment: _Environment
    settings: _Settings
    measurements: dict[str, _Measured | None]
    ratios: dict[str, _Measured | None]
    verdict: dict[str, Any] | None
    noise: dict[str, NonNegativeFloat] = {}  # records of before A/A runs have none


def read_record(path: Path) -> Record:
    """Reads a record.

    Raises:
        BenchError: the file is missing, is no record, is of another schema version, or lacks a part or has it in
            another form; says which.
    """
    try:
        data = json.loads(path.read_bytes(), parse_constant=_refused)
    except (OSError, ValueError, RecursionError) as error:
        raise BenchError(f"{path}: not a readable bench record ({error}); `bassline bench` makes one") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else type(data).__name__
        raise BenchError(f"{path}: schema is {found!r}, expected {SCHEMA!r}; measure again with this version")
    try:
        _File.model_validate_json(json.dumps(data))  # as JSON: an array may be a tuple
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BenchError(f"{path}: {where}: {first['msg']}; the record was cut or changed, measure again") from None
    names = ("kind", "settings", "measurements", "ratios", "verdict", "environment", "made_at")
    return Record(**{name: data[name] for name in names}, noise=data.get("noise", {}))


def _refused(word: str) -> float:
    raise ValueError(f"{word} is no JSON")
