"""How fast is a run, epoch by epoch and to a good model, beside the plain PyTorch loop on the same data?

Each run is a process of its own, in turns (A B, B A, ...), so that a machine that slows down slows both. Times count
from the process's start. Each repeat has a seed of its own, the same on both sides, so that intervals hold what weights
and order bring, too.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.common_loss import Common, best_of, common_loss
from bench.errors import ContenderFailed
from bench.loader_formats import write_folders
from bench.process import watch
from bench.record import Record, measured
from bench.stats import Summary, ratio, summarise
from bench.targets import NOT_MEASURED, Target, shortfall, together
from shards.errors import ConfigError
from trainer.config import RunConfig, config_hash, resolve
from trainer.decode import open_decoder
from trainer.device import choose_device
from trainer.pace import Pace
from trainer.split_data import SplitData, open_split
from trainer.store import Moments
from trainer.stream import scan

__all__ = ["PEERS", "TARGETS", "gaps_of", "judge", "measure_training", "trace_job", "trace_steps"]

PEERS = ("plain", "none")

TARGETS = {"epochs ours/plain": Target(2.0), "to common loss plain/ours": Target(2.0), "epochs/step": Target(0.9)}
"""What issue 5 asks of two cores; 64 pixels and less are to reach 3 times the plain loop's images/s."""

REPEATS = 5
"""What a claim needs."""

Tell = Callable[[int, int, str], None]


def measure_training(
    config: RunConfig,
    data: Path,
    *,
    peer: str = "plain",
    repeats: int = 5,
    workers: int = 2,
    seconds: float = 2.0,
    on_progress: Tell | None = None,
) -> Record:
    """Trains `repeats` times, and the plain loop as often, and says how fast each was.

    Args:
        config: the run; its epochs are what is measured, at least 2.
        data: the split.
        peer: "plain" or "none".
        repeats: processes of each, the k-th from the run's seed plus k; a claim needs 5.
        workers: DataLoader workers of the plain loop.
        seconds: of the measurement of single steps.
        on_progress: called with (done, total, what).

    Raises:
        ConfigError: the run cannot be written as a plain loop, or there is too little to measure.
        ContenderFailed: a process failed.
    """
    _check(config, peer, repeats)
    names = ("ours", "plain") if peer == "plain" else ("ours",)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    tell = on_progress or (lambda done, total, what: None)
    total = repeats * len(names) + 1
    with closing(open_split(data)) as split, tempfile.TemporaryDirectory(prefix="bassline-train-") as scratch:
        wish: dict[str, Any] = {"data": str(data), "workers": workers}
        if "plain" in names:
            tell(0, total, "writing label folders for the plain loop")
            wish |= {"folders": scratch, **_prepare_plain(config, split, Path(scratch))}
        for number in range(repeats):
            wish["config"] = _seeded(config, number)
            for turn, name in enumerate(names if number % 2 == 0 else reversed(names)):
                tell(number * len(names) + turn, total, f"{name}, {number + 1} of {repeats}")
                out = Path(scratch) / f"{name}-{number}"
                out.mkdir()
                runs[name].append(_run(name, {**wish, "out": str(out)}))
        samples = {part: len(getattr(split, part)) for part in ("train", "val", "test")}
        digest = split.digest
    tell(total - 1, total, "single steps")
    with Pace(config, data) as pace:
        steps = pace.step_times(seconds)
    return _record(config, runs, steps, {"samples": samples, "data_digest": digest, "workers": workers})


def _check(config: RunConfig, peer: str, repeats: int) -> None:
    if peer not in PEERS:
        raise ConfigError("--peer", "", f"{peer!r}; expected {' or '.join(PEERS)}")
    if repeats < 1 or config.train.epochs < 2:
        raise ConfigError(
            "bench train", "train.epochs",
            f"{config.train.epochs} epochs, {repeats} repeats; expected at least 2 and 1: the first epoch warms up",
        )  # fmt: skip
    if peer != "plain":
        return
    for key, value in _other_recipe(config):
        raise ConfigError(
            "--peer", "plain",
            f"{key} is {value}, and the plain loop has conv layers and a linear one, SGD at a constant rate, no "
            "augmentation, and runs in fp32 on a CPU; change that, or --peer none measures this run alone",
        )  # fmt: skip


def _other_recipe(config: RunConfig) -> Iterator[tuple[str, Any]]:
    """What of a run the plain loop would do otherwise, by key: then two recipes were compared, not two programs."""
    optim, train, net = config.optim, config.train, config.net
    wanted: tuple[tuple[str, Any, Any], ...] = (
        ("net.kind", net.kind, "conv"),
        ("net.head", net.head, type(net.head)()),
        ("net.weights", net.weights, ""),
        ("optim.kind", optim.kind, "sgd"),
        ("optim.schedule", optim.schedule, "constant"),
        ("optim.decay_norms", optim.decay_norms or not optim.weight_decay, True),
        ("optim.norm_bias_lr", optim.norm_bias_lr, 1.0),
        ("optim.clip", optim.clip, 0.0),
        ("optim.class_weights", optim.class_weights, "none"),
        ("train.sampling", train.sampling, "permutation"),
        *((part, getattr(config, part), type(getattr(config, part))()) for part in ("average", "augment", "test")),
        ("select.patience", config.select.patience, 0),
        ("select.stop_collapsed", config.select.stop_collapsed, 0),
    )
    yield from ((key, found) for key, found, same in wanted if found != same)
    if (device := choose_device(train).type) != "cpu":
        yield "train.device", f"{device} here"


def _seeded(config: RunConfig, number: int) -> dict[str, Any]:
    """The run of repeat `number`, as JSON."""
    told = config.model_dump(mode="json")
    return {**told, "train": {**told["train"], "seed": config.train.seed + number}}


def _prepare_plain(config: RunConfig, split: SplitData, scratch: Path) -> dict[str, list[float]]:
    """Label folders, and the pixels' mean and deviation: a user has computed these once."""
    for part in ("train", "val"):
        write_folders(getattr(split, part), scratch / part)
    moments = Moments()
    with closing(open_decoder("simplejpeg", config.data.size, config.data.fit, 0, "cpu")) as decoder:
        scan(split.train, "train", decoder, moments=moments)
    mean, std = moments.mean_and_std()
    return {"mean": mean, "std": std}


def _run(name: str, wish: dict[str, Any]) -> dict[str, Any]:
    module = {"ours": "bench.train_worker", "plain": "bench.plain_loop"}[name]
    wish = {**wish, "started": time.monotonic()}
    done = watch([sys.executable, "-m", module, json.dumps(wish)])
    if done.code:
        raise ContenderFailed(name, done.complained.strip().rpartition("\n")[2])
    run: dict[str, Any] = json.loads(done.said.strip().rpartition("\n")[2])
    return {**run, "wall_s": done.wall_s, "cpu_s": done.cpu_s, "peak_mib": done.peak_mib}


def _rate(run: dict[str, Any]) -> float:
    """Training images/s over the epochs after the first."""
    later = run["epochs"][1:]
    return float(sum(line["images"] for line in later) / sum(line["seconds"] for line in later))


def _parts(run: dict[str, Any]) -> dict[str, float]:
    if "result" not in run:
        train, validate = (sum(line[key] for line in run["epochs"]) for key in ("seconds", "validate_s"))
        return {"start": run["start_s"], "import": run["import_s"], "train": train, "validate": validate}
    spent = dict(run["result"]["time_s"])
    spent["start"] -= run["import_s"]
    return {"import": run["import_s"], **spent}


def _record(
    config: RunConfig, runs: dict[str, list[dict[str, Any]]], steps: list[float], settings: dict[str, Any]
) -> Record:
    rates = {name: [_rate(run) for run in each] for name, each in runs.items()}
    bests = {name: [best_of(run["epochs"]) for run in each] for name, each in runs.items()}
    measurements: dict[str, Any] = {}
    for name, each in runs.items():
        parts = [_parts(run) for run in each]
        measurements[f"epochs {name}"] = measured(
            "images/s",
            summarise(rates[name]),
            by_epoch=[
                statistics.median(run["epochs"][at]["images"] / run["epochs"][at]["seconds"] for run in each)
                for at in range(min(len(run["epochs"]) for run in each))
            ],
            best_val_loss=statistics.median(best.loss for best in bests[name]),
            cpu_s=statistics.median(run["cpu_s"] for run in each),
            peak_mib=statistics.median(run["peak_mib"] for run in each),
        )
        measurements[f"to best {name}"] = measured(
            "s",
            summarise([best.ended_s for best in bests[name]]),
            best_val_losses=[best.loss for best in bests[name]],
            best_epochs=[best.epoch for best in bests[name]],
            parts_s={key: statistics.median(part[key] for part in parts) for key in parts[0]},
        )
    bare = [run["result"]["bare_images_per_s"] for run in runs["ours"]]
    ordered = sorted(steps)
    measurements["step"] = measured(  # steps of one process are no repeats: one value a process, and how one's spread
        "s",
        summarise([config.train.batch / rate for rate in bare] if all(bare) else [statistics.median(steps)]),
        percentiles={str(share): ordered[min(len(ordered) - 1, len(ordered) * share // 100)] for share in (50, 90, 99)},
        slowest=ordered[-1],
    )
    ratios: dict[str, Summary] = {}
    if all(bare):  # null where a run was too short to measure its step
        ratios["epochs/step"] = ratio(rates["ours"], bare)
    common = None
    if "plain" in runs:
        common = common_loss(*([run["epochs"] for run in runs[name]] for name in ("ours", "plain")))
        for name, spent in (("ours", common.ours_s), ("plain", common.theirs_s)):
            measurements[f"to common loss {name}"] = measured("s", spent, losses=list(common.losses))
        ratios["epochs ours/plain"] = ratio(rates["ours"], rates["plain"])
        ratios["to common loss plain/ours"] = common.sooner
    result = runs["ours"][0]["result"]
    return Record(
        kind="train",
        settings={
            **settings, "run": config.name, "config_hash": config_hash(config), "size": config.data.size,
            "batch": config.train.batch, "epochs": config.train.epochs, "repeats": len(runs["ours"]),
            "seeding": "the run's seed plus the repeat's number",
            "seeds": [config.train.seed + number for number in range(len(runs["ours"]))],
            **{key: result[key] for key in ("device", "precision", "executor", "decoder", "mode")},
        },
        measurements=measurements,
        ratios={
            **{name: measured("ratio", found) for name, found in ratios.items()},
            **({"best loss ours-plain": measured("nats", common.apart)} if common else {}),
        },
        verdict=judge(ratios, len(runs["ours"]), common, size=config.data.size),
    )  # fmt: skip


def judge(ratios: Mapping[str, Summary], repeats: int, common: Common | None, *, size: int) -> dict[str, Any]:
    """The verdict of a record. Pure.

    Args:
        ratios: those of TARGETS that were measured.
        common: both sides' curves; None: there was no peer, and its targets are left out.
        size: pixels a side.

    Returns:
        `name`: MET, MISSED, NOT PROVEN, or INSUFFICIENT where something is lacking; `sentence`; `targets`.
    """
    targets = {name: target for name, target in TARGETS.items() if common or name == "epochs/step"}
    if common and size <= 64:
        targets["epochs ours/plain"] = Target(3.0)
    found = {name: target.to_json(ratios.get(name)) for name, target in targets.items()}
    told = []
    if common:
        rate = ratios["epochs ours/plain"].median
        told += [f"epochs after the first run at {rate:.2f} times the plain loop's rate", common.sentence]
    if "epochs/step" in ratios:
        told.append(f"epochs after the first run at {ratios['epochs/step'].median:.0%} of the bare step")
    lacking = [
        f"{name} was not measured (the run is too short: --epochs)"
        for name, target in found.items()
        if target["verdict"] == NOT_MEASURED
    ]
    if repeats < REPEATS:
        lacking.append(f"{repeats} repeats, a claim needs {REPEATS}")
    name = "INSUFFICIENT" if lacking else together(target["verdict"] for target in found.values()).upper()
    return {"name": name, "sentence": f"{name}: {'; '.join([*told, *(lacking or shortfall(found))])}", "targets": found}


def trace_steps(config: RunConfig, data: Path, out: Path, *, seconds: float = 1.0) -> list[dict[str, Any]]:
    """Writes a Chrome trace of some steps, feed included, and gives the longest gaps (see `gaps_of`).

    Raises:
        As the trainer for the run.
    """
    with Pace(config, data) as pace:
        pace.epochs(seconds / 4)
        kinds = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            kinds.append(torch.profiler.ProfilerActivity.CUDA)
        with torch.profiler.profile(activities=kinds) as profile:
            pace.traced(seconds)
        profile.export_chrome_trace(str(out))
    return gaps_of(json.loads(out.read_text(encoding="utf-8"))["traceEvents"])


def trace_job(job: dict[str, Any]) -> dict[str, Any]:
    """`trace_steps` for `bench.zygote`: a profiler leaves things behind that a process complains of as it ends.

    Args:
        job: `config`, `data`, `out`.
    """
    return {"gaps": trace_steps(resolve(job["config"]), Path(job["data"]), Path(job["out"]))}


def gaps_of(events: list[dict[str, Any]], count: int = 5) -> list[dict[str, Any]]:
    """The longest times in which nothing ran: on the GPU where the trace has one, else on the thread that ran most.

    Args:
        events: a Chrome trace's complete events ("ph" X; "ts" and "dur" in microseconds).

    Returns:
        Longest first: {"us", "at_us" since the first event, "during", "after", "before"}: the mark it lies in ("next
        batch" or "step"; empty: none), and the operations on either side.
    """
    whole = [event for event in events if event.get("ph") == "X" and "dur" in event]
    work = [event for event in whole if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    if not work:
        lanes: dict[Any, list[dict[str, Any]]] = {}
        for event in whole:
            if event.get("cat") == "cpu_op":
                lanes.setdefault((event.get("pid"), event.get("tid")), []).append(event)
        work = max(lanes.values(), key=lambda lane: sum(event["dur"] for event in lane), default=[])
    marks = [event for event in whole if event.get("cat") == "user_annotation"]
    ordered = sorted(work, key=lambda event: (event["ts"], -event["dur"]))
    found, end, last = [], None, ""
    for event in ordered:
        if end is not None and event["ts"] > end:
            at = end - ordered[0]["ts"]
            during = max(marks, key=partial(_shared, end, event["ts"]), default={"name": "", "ts": 0, "dur": 0})
            name = during["name"] if _shared(end, event["ts"], during) > 0 else ""
            found.append({"us": event["ts"] - end, "at_us": at, "during": name, "after": last, "before": event["name"]})
        if end is None or event["ts"] + event["dur"] >= end:
            end, last = event["ts"] + event["dur"], event["name"]
    return sorted(found, key=lambda gap: -gap["us"])[:count]


def _shared(begin: float, end: float, event: dict[str, Any]) -> float:
    """Microseconds of [begin, end] that the event lasted."""
    return float(min(end, event["ts"] + event["dur"]) - max(begin, event["ts"]))
