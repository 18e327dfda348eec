"""How fast is our loader beside the others: same samples, size, dtype and layout, in turns, each in its own process."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.contenders import CONTENDERS, Contender, Job, available
from bench.errors import BenchError
from bench.loader_formats import FORMATS, SHARDS, image_bytes, spread
from bench.loader_peers import loader_peers, modules_of
from bench.loader_targets import STREAM, judge
from bench.probe import evict
from bench.record import Record, measured
from bench.stats import ratio, summarise
from bench.verdict import COLD, WARM
from bench.worker import write_features
from bench.zygote import MeasurementFailed, Zygote
from shards.errors import ConfigError
from shards.shard_set import ShardSet

__all__ = ["REFERENCE", "Loaders", "compare_loaders"]

REFERENCE = "imagefolder"
"""The loader that ratios are against, unless it is left out: what most people start from."""

# A decoder that rounds otherwise is half a level off, DALI's rims and alpha (others drop it, we compose it over white)
# one in some images; JPEG's own loss at quality 90 is two and more.
SAME_PICTURE = 1.0
SAME_LABELS = 0.98
"""Less than all, because a set may hold one picture twice with two labels."""

COLD_ROUNDS = 2
"""A cold epoch is one epoch with all that opening costs: as many as the rounds would double the time."""

_PRELOAD = ("torch", "numpy", "bench.worker")
_LIMIT_S = 900.0


@dataclass(frozen=True, slots=True)
class Loaders:
    """What to measure.

    Attributes:
        names: contenders, by default all that are installed.
        size, batch, workers: see `Job`.
        epochs: epochs a warm process runs at most, at least 2; the first is told apart.
        seconds: of epochs after the first; a fast loader runs more of them than a slow one.
        repeats: rounds over all contenders at most; at least 5 for a claim.
        budget_s: no round is begun that would likely end later than this.
        cold: in the first `COLD_ROUNDS` also one process each whose files were put out of the page cache.
        peers: a Python that has the peers; None: those that are installed here.
    """

    names: tuple[str, ...] = ()
    size: int = 150
    batch: int = 256
    workers: int = 2
    epochs: int = 6
    seconds: float = 1.5
    repeats: int = 5
    budget_s: float = 840.0
    cold: bool = True
    peers: Path | None = None

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in CONTENDERS:
                raise ConfigError("--only", name, f"unknown contender; known: {', '.join(CONTENDERS)}")
        if self.epochs < 2 or self.repeats < 1:
            told = f"{self.epochs} epochs, {self.repeats} repeats; expected at least 2 and 1"
            raise ConfigError("--epochs", "", told)


@dataclass
class _Runs:
    warm: list[dict[str, Any]] = field(default_factory=list)
    cold: list[dict[str, Any]] = field(default_factory=list)


def compare_loaders(shards: Path, plan: Loaders, on_progress: Callable[[int, int, str], None] | None = None) -> Record:
    """Measures loaders over one shard set, in interleaved rounds: A B C, C B A, A B C, ...

    Args:
        shards: the set.
        plan: what to measure.
        on_progress: called with (done, total, what is measured now).

    Raises:
        ConfigError: a contender that was named cannot be measured, or the decoded set does not fit; says why.
        MeasurementFailed: the process of one of ours, or of one that was named, failed.
        BenchError: such a one left out samples or gave other labels. Others' are left out of the record then, and it
            says why.
    """
    tell = on_progress or (lambda done, total, name: None)
    begun = time.monotonic()
    with ExitStack() as stack:
        source = stack.enter_context(ShardSet.open(shards))
        _check_room(plan, source)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bassline-loaders-")))
        peers = loader_peers(plan.peers) if plan.peers else {}
        uniform = _uniform(source, plan.size)
        homes, left_out = _choose(plan, modules_of(peers), uniform)
        pythons = {home: stack.enter_context(Zygote(_PRELOAD, home)) for home in {*homes.values()}}
        here = pythons.get(None) or stack.enter_context(Zygote(_PRELOAD))
        tars = Path(shards)
        if len(source.tars) < SHARDS <= len(source):
            tell(0, 1, f"spreading the set over {SHARDS} tars")
            tars = scratch / "tars"
            spread(source, tars)
        job = Job(str(tars), str(scratch), plan.size, plan.batch, plan.workers, uniform=uniform)
        formats = _converted(plan, homes, left_out, job, here, pythons, tell)
        write_features(str(job.path("npy")))
        walked = sum(tar.stat().st_size for tar in tars.glob("*.tar"))
        data = {name: _Data.of(CONTENDERS[name], job, formats, walked) for name in homes}
        wish = {"job": asdict(job), "seconds": plan.seconds}
        homed = {name: pythons[home] for name, home in homes.items()}
        versions = {**peers, **(loader_peers(Path(sys.executable)) if None in homes.values() else {})}
        results = _rounds(plan, homed, left_out, data, wish, len(source), begun, tell)
        settings = {
            "samples": len(source), "bytes": sum(info.bytes for info in source.manifest.shards),
            "image_bytes": image_bytes(source), "data_digest": source.digest, "tars": len(list(tars.glob("*.tar"))),
            "peers": versions, "left_out": left_out,
        }  # fmt: skip
    return _record(plan, results, formats, data, settings)


def _rounds(
    plan: Loaders,
    homes: Mapping[str, Zygote],
    left_out: dict[str, str],
    data: Mapping[str, _Data],
    wish: dict[str, Any],
    samples: int,
    begun: float,
    tell: Callable[[int, int, str], None],
) -> dict[str, _Runs]:
    """Forth and back over the contenders until the repeats are done or the budget is; `begun`: a `time.monotonic()`."""
    results = {name: _Runs() for name in homes}
    total = len(homes) * (plan.repeats + (min(COLD_ROUNDS, plan.repeats) if plan.cold else 0))
    done, measuring = 0, time.monotonic()
    for number in range(plan.repeats):
        if number and time.monotonic() - begun + (time.monotonic() - measuring) / number > plan.budget_s:
            break
        kinds = (False, True) if plan.cold and number < COLD_ROUNDS else (False,)
        order = [(name, cold) for name in homes for cold in kinds]
        for name, cold in order if number % 2 == 0 else order[::-1]:
            tell(done, total, f"round {number + 1}: {name}, {'cold' if cold else 'warm'}")
            done += 1
            if name not in results:
                continue
            asked = {**wish, "epochs": 1 if cold else plan.epochs, "check": not number and not cold}
            try:
                run = _run(homes[name], name, data[name], asked, samples, cold=cold)
            except BenchError as error:
                if CONTENDERS[name].ours or name in plan.names:
                    raise
                del results[name]  # one of theirs that does not run here takes nothing from the others
                left_out[name] = str(error)
                continue
            (results[name].cold if cold else results[name].warm).append(run)
    return results


def _check_room(plan: Loaders, source: ShardSet) -> None:
    import torch

    from trainer.prefetch import AHEAD
    from trainer.store import free_bytes

    # a store or an array has the whole set, and everybody has some batches ahead
    count, key = max((len(source), "size"), ((AHEAD + 1) * plan.batch, "batch"))
    need, free = count * plan.size**2 * 3, free_bytes(torch.device("cpu"))
    if need > free // 2:
        told = f"{count:,} pictures of {plan.size} pixels are {need / 1e9:,.0f} GB, and {free / 1e9:,.0f} GB are free"
        raise ConfigError(f"--{key}", str(getattr(plan, key)), f"{told}; expected at most half of that")


def _uniform(source: ShardSet, size: int) -> bool:
    rows = source.index.rows
    return bool((rows["width"] == size).all() and (rows["height"] == size).all())


def _choose(plan: Loaders, modules: set[str], uniform: bool) -> tuple[dict[str, Path | None], dict[str, str]]:
    """Which Python each contender runs in (None: this one), and why others are left out."""
    homes: dict[str, Path | None] = {}
    left_out: dict[str, str] = {}
    for name, contender in CONTENDERS.items():
        if plan.names and name not in plan.names:
            continue
        if name == "ffcv" and not uniform:  # its other decoders crop
            left_out[name] = f"only decodes pictures that are all {plan.size}x{plan.size}, and these are not"
        elif available(contender):
            homes[name] = None
        elif contender.needs and all(module in modules for module in contender.needs):
            homes[name] = plan.peers
        else:
            left_out[name] = "no GPU here" if contender.gpu else f"{', '.join(contender.needs)} is not installed"
        if name in plan.names and name in left_out:
            remedy = "" if (name == "ffcv" and not uniform) or contender.gpu else ": --peers install brings it"
            raise ConfigError("--only", name, left_out[name] + remedy)
    return homes, left_out


def _converted(
    plan: Loaders,
    homes: dict[str, Path | None],
    left_out: dict[str, str],
    job: Job,
    here: Zygote,
    pythons: Mapping[Path | None, Zygote],
    tell: Callable[[int, int, str], None],
) -> dict[str, dict[str, Any]]:
    """Writes the formats that somebody reads; seconds and bytes of each. The reference decode is always among
    them; readers of what cannot be written are left out.
    """
    wanted: dict[str, Path | None] = {"npy": None}
    for name, home in homes.items():
        wanted.update({kind: home for kind in CONTENDERS[name].formats if kind in FORMATS and kind != "npy"})
    found = {}
    for done, (kind, home) in enumerate(wanted.items()):
        tell(done, len(wanted), f"writing the set as {kind}")
        zygote = here if not FORMATS[kind][1] else pythons[home]
        wish = {"format": kind, "shards": job.shards, "folder": str(job.path(kind)), "size": job.size}
        try:
            found[kind] = zygote.run("bench.loader_formats:convert", wish, limit_s=_LIMIT_S)
        except MeasurementFailed as error:
            readers = [name for name in homes if kind in CONTENDERS[name].formats]
            if kind == "npy" or any(name in plan.names for name in readers):
                raise
            for name in readers:
                del homes[name]
                left_out[name] = str(error)
    return found


@dataclass(frozen=True, slots=True)
class _Data:
    """What a contender reads: its files, and the bytes that an epoch cannot do without (of tars, all of them)."""

    files: tuple[Path, ...]
    needed: int

    @classmethod
    def of(cls, contender: Contender, job: Job, formats: Mapping[str, dict[str, Any]], walked: int) -> _Data:
        folders = [Path(job.shards) if kind == "tars" else job.path(kind) for kind in contender.formats]
        files = tuple(path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file())
        return cls(files, sum(formats[kind]["needed"] if kind in formats else walked for kind in contender.formats))

    def settle(self, cold: bool) -> None:
        """Puts the files out of the page cache, or into it."""
        if cold:
            evict(self.files)
            return
        for path in self.files:
            with path.open("rb", buffering=0) as file:
                while file.read(1 << 20):
                    pass

    def proven(self, runs: Sequence[dict[str, Any]], cold: bool) -> bool:
        """Whether all of the runs' first epochs found the cache as it should be."""
        shares = [run["read_bytes"] / self.needed for run in runs]
        return bool(min(shares) >= COLD if cold else max(shares) <= WARM)


def _run(zygote: Zygote, name: str, data: _Data, wish: dict[str, Any], samples: int, *, cold: bool) -> dict[str, Any]:
    """One process; once more where the cache was not as it should be.

    A first warm run also reads the contender's libraries, and a cold one may find its files still mapped by the workers
    of the run before, which keeps them in the cache.
    """
    for attempt in (0, 1):
        data.settle(cold)
        run = zygote.run("bench.worker:measure", {"name": name, **wish}, limit_s=_LIMIT_S)
        if data.proven([run], cold):
            break
        if cold and not attempt:
            time.sleep(1)
    if run["dtype"] != ("float32" if CONTENDERS[name].normalises else "uint8"):
        raise BenchError(f"contender {name} gives {run['dtype']}; its rate says nothing")
    if any(count != samples for count in run["images"]):
        raise BenchError(f"contender {name} gave {run['images']} images an epoch of {samples}; its rate says nothing")
    if run["checked"] and run["checked"]["labels"] < SAME_LABELS:
        raise BenchError(f"contender {name} gives labels that are not the set's; its rate says nothing")
    return run


def _rate(run: dict[str, Any]) -> float:
    """Images/s over the epochs after the first."""
    return float(sum(run["images"][1:]) / sum(run["seconds"][1:]))


def _record(
    plan: Loaders,
    results: Mapping[str, _Runs],
    formats: Mapping[str, dict[str, Any]],
    data: Mapping[str, _Data],
    settings: Mapping[str, Any],
) -> Record:
    measurements = {}
    for name, runs in results.items():
        contender, checked = CONTENDERS[name], runs.warm[0]["checked"]
        kinds = [formats[kind] for kind in contender.formats if kind in formats]
        measurements[name] = measured(
            "images/s",
            summarise([_rate(run) for run in runs.warm]),
            about=contender.about,
            ours=contender.ours,
            dtype="float32" if contender.normalises else "uint8",
            first_epoch=_first(runs.warm, data[name], cold=False),
            cold_epoch=_first(runs.cold, data[name], cold=True) if runs.cold else None,
            first_batch_s=_median(runs.warm, "first_batch_s"),
            first_batch_cold_s=_median(runs.cold, "first_batch_s") if runs.cold else None,
            cpu_s_per_1000=_median(runs.warm, "cpu_s_per_1000"),
            peak_mib=_median(runs.warm, "peak_mib"),
            extra_mib=_median(runs.warm, "extra_mib"),
            pixels=checked,
            same_pixels=checked["levels"] <= SAME_PICTURE,
            convert_s=sum(kind["seconds"] for kind in kinds),
            converted_bytes=sum(kind["bytes"] for kind in kinds),
        )
    rates = {name: [_rate(run) for run in runs.warm] for name, runs in results.items()}
    against = REFERENCE if REFERENCE in rates else next(iter(rates))
    stream = results[STREAM].warm if STREAM in results else []
    return Record(
        kind="loaders",
        settings={
            **settings, "size": plan.size, "batch": plan.batch, "workers": plan.workers, "epochs": plan.epochs,
            "seconds": plan.seconds, "repeats": len(rates[against]), "asked_repeats": plan.repeats,
            "cold": plan.cold, "reference": against,
        },
        measurements=measurements,
        ratios={f"{name}/{against}": measured("ratio", ratio(rates[name], rates[against])) for name in rates},
        verdict=judge(rates, [run["first_batch_s"] for run in stream], [run["extra_mib"] for run in stream]),
    )  # fmt: skip


def _median(runs: Sequence[dict[str, Any]], key: str) -> float:
    return float(statistics.median(run[key] for run in runs))


def _first(runs: Sequence[dict[str, Any]], data: _Data, *, cold: bool) -> dict[str, Any]:
    """The first epoch with its opening; `cache` says whether it was as it should be, by the bytes that were read."""
    return measured(
        "images/s",
        summarise([run["images"][0] / run["seconds"][0] for run in runs]),
        read_share=statistics.median(run["read_bytes"] / data.needed for run in runs),
        cache=("cold" if cold else "warm") if data.proven(runs, cold) else "cache_unverified",
    )
