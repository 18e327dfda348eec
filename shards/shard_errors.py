"""What can be wrong with a shard set. Each error carries the place and says what to do.

ShardError
├── BadSample          a sample that may not be written
├── TargetNotEmpty     a set would be written over something
├── ShardExists        a shard would be written over a sealed one
├── PartLost           a part is shorter than what was committed
├── TarDamaged         a tar cannot be walked: file and byte offset
├── ComponentMissing   a sample has no image or no label
├── BadLabel           a .cls that is no label of the set
├── DuplicateKey       one key, two samples
├── ManifestMissing    no dataset.json
├── ManifestDamaged    a dataset.json that is not one
├── StaleIndex         samples.idx does not belong to these tars, or is damaged
├── SampleDamaged      a sample's bytes are not those that were indexed
├── QuarantineDamaged  a quarantine.jsonl that is none
└── RepairRefused      a repair that would leave nothing, or cannot know the labels
"""

from __future__ import annotations

from pathlib import Path

from shards.errors import BasslineError

__all__ = [
    "REBUILD",
    "BadLabel",
    "BadSample",
    "ComponentMissing",
    "DuplicateKey",
    "ManifestDamaged",
    "ManifestMissing",
    "PartLost",
    "QuarantineDamaged",
    "RepairRefused",
    "SampleDamaged",
    "ShardError",
    "ShardExists",
    "StaleIndex",
    "TarDamaged",
    "TargetNotEmpty",
]

REBUILD = "`bassline shards index` rebuilds it from the tars"


class ShardError(BasslineError):
    """Base of everything that can be wrong with a shard set."""


class BadSample(ShardError):
    """A sample breaks the format's rules and was not written."""

    def __init__(self, key: str, problem: str) -> None:
        self.key, self.problem = key, problem
        super().__init__(f"sample {key[:120]!r}: {problem}")


class TargetNotEmpty(ShardError):
    """The folder to write to holds something already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(f"{folder}: exists and is not empty; name a new folder or remove it first")


class ShardExists(ShardError):
    """A sealed shard stands where a new one should be written."""

    def __init__(self, path: Path, expected_bytes: int, found_bytes: int) -> None:
        self.path, self.expected_bytes, self.found_bytes = path, expected_bytes, found_bytes
        super().__init__(
            f"{path}: sealed with {found_bytes} bytes, which are not the {expected_bytes} that were committed; "
            "the folder and its ledger are not of one run: name a new folder, or remove this one"
        )


class PartLost(ShardError):
    """A part holds less than what was committed: bytes that were fsynced are gone."""

    def __init__(self, path: Path, committed_bytes: int, found_bytes: int) -> None:
        self.path, self.committed_bytes, self.found_bytes = path, committed_bytes, found_bytes
        super().__init__(
            f"{path}: holds {found_bytes} bytes, but {committed_bytes} were committed; "
            "restore the file, or remove the folder and start again"
        )


class TarDamaged(ShardError):
    """A tar cannot be walked past `offset`."""

    def __init__(self, path: Path, offset: int, problem: str) -> None:
        self.path, self.offset, self.problem = path, offset, problem
        super().__init__(f"{path}@{offset}: {problem}; `bassline shards verify` lists what is damaged")


class ComponentMissing(ShardError):
    """A sample lacks its image or its label."""

    def __init__(self, path: Path, offset: int, key: str, component: str, found: list[str]) -> None:
        self.path, self.offset, self.key, self.component = path, offset, key, component
        super().__init__(
            f"{path}@{offset}: sample {key!r} has no {component} (it has {', '.join(found)}); "
            "convert the set, or leave such samples out"
        )


class BadLabel(ShardError):
    """A .cls member that is no number, or no label of the set."""

    def __init__(self, path: Path, offset: int, key: str, text: str, labels: int) -> None:
        self.path, self.offset, self.key, self.text = path, offset, key, text
        super().__init__(
            f"{path}@{offset}: sample {key!r} has label {text[:40]!r}, but the set has {labels} labels; "
            f"expected a number from 0 to {labels - 1}"
        )


class DuplicateKey(ShardError):
    """One key stands for two samples."""

    def __init__(self, key: str, first: str, second: str) -> None:
        self.key, self.first, self.second = key, first, second
        super().__init__(f"key {key!r} stands twice: at {first} and at {second}; drop one, or convert with new keys")


class ManifestMissing(ShardError):
    """The folder has no dataset.json."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if (folder / "crawl.sqlite").is_file():
            remedy = "its crawl is not finished; run the same `bassline crawl` again"
        elif any(folder.glob("*.tar")):
            remedy = "`bassline shards index` makes one from the tars"
        else:
            remedy = "give the folder of a shard set"
        super().__init__(f"{folder}: no dataset.json here: {remedy}")


class ManifestDamaged(ShardError):
    """dataset.json cannot be used."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path}: {problem}; {REBUILD}")


class StaleIndex(ShardError):
    """The index is missing, damaged, or not of these tars."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path}: {problem}; {REBUILD}")


class SampleDamaged(ShardError):
    """A sample's bytes are not those that were indexed."""

    def __init__(self, folder: Path, where: str, problem: str) -> None:
        self.folder, self.where, self.problem = folder, where, problem
        super().__init__(
            f"{folder / where}: {problem}; "
            "`bassline shards verify --quarantine` has it passed over, --repair leaves it out"
        )


class QuarantineDamaged(ShardError):
    """quarantine.jsonl cannot be read."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        self.path, self.line = path, line
        super().__init__(
            f'{path}:{line}: {problem}; expected {{"key": ..., "where": ..., "reason": ...}} a line; '
            "mend the line, or remove the file and run `bassline shards verify --quarantine`"
        )


class RepairRefused(ShardError):
    """A repair cannot be made; nothing was changed."""

    def __init__(self, folder: Path, problem: str) -> None:
        self.folder, self.problem = folder, problem
        super().__init__(f"{folder}: {problem}")
