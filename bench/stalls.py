"""Where an epoch's time goes: the differential set, its parts, a verdict, what would help, and whether it does."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

from bench.model import (
    AGREES,
    PARTS,
    Change,
    Evidence,
    Prediction,
    agreement,
    decompose,
    exposed,
    predict,
    resupplied,
    roofline,
)
from bench.record import Record, measured
from bench.runs import Plan, Runs, evidence_of, measure_runs
from bench.stats import Summary, ratio, summarise
from bench.verdict import COLD, OPEN, judge
from bench.zygote import MeasurementFailed, Zygote
from shards.errors import ConfigError
from trainer.config import config_hash, resolve

__all__ = ["PRELOAD", "find_stalls", "noise_of", "record_of"]

PRELOAD = ("torch", "bench.window", "bench.own_run", "bench.foreign")
"""What a zygote for this imports once."""

_WORTH = 1.02  # a smaller gain is not tried

Tell = Callable[[int, int, str], None] | None


def find_stalls(
    plan: Plan, *, what_if: bool = True, verify: bool = False, zygote: Zygote | None = None, on_progress: Tell = None
) -> Record:
    """Measures a run, or someone's loader, and judges it.

    Args:
        plan: what to measure.
        what_if: predict what changes would bring; only for runs of ours.
        verify: measure the best prediction.
        zygote: forks the measuring processes; by default one of its own.
        on_progress: called with (done, total, what).

    Raises:
        ConfigError: as the plan, the run or the loader.
        MeasurementFailed: a measuring process failed.
    """
    if verify and plan.loader:
        raise ConfigError("--verify", "", "changes a run of ours; of a loader it knows no setting")
    with nullcontext(zygote) if zygote else Zygote(PRELOAD) as mother:
        runs = measure_runs(mother, plan, on_progress, is_open=lambda runs: judge(evidence_of(runs)).name in OPEN)
        evidence = evidence_of(runs, disk=_disk(mother, plan, runs))
        told = judge(evidence).name != "INSUFFICIENT"  # else a prediction would be a guess
        changes = _changes(mother, plan, runs, evidence, on_progress) if what_if and told and not plan.loader else []
        found = predict(evidence, changes) if changes else []
        verified, why = None, ""
        if not told:
            why = "nothing is predicted from a measurement that is INSUFFICIENT" if what_if and not plan.loader else ""
        elif verify and not (found and found[0].gain >= _WORTH):
            why = f"nothing to verify: no change is predicted to bring {_WORTH - 1:.0%}"
        elif verify:
            verified = _verify(mother, plan, found[0], on_progress)
    return record_of(plan, runs, evidence, found, verified, why)


def _disk(zygote: Zygote, plan: Plan, runs: Runs) -> float | None:
    """Images/s of the shards read in a row out of a cold cache; None where the cache could not be emptied."""
    if not plan.tars or not plan.apart:
        return None
    found = zygote.run("bench.probe:disk_rate", {"paths": [str(p) for p in plan.tars], "seconds": plan.seconds})
    if found["share"] < COLD:
        return None
    samples, total = runs.about["samples"], sum(path.stat().st_size for path in plan.tars)
    return float(found["bytes_per_s"] / (total / samples))


def _changes(zygote: Zygote, plan: Plan, runs: Runs, evidence: Evidence, on_progress: Tell) -> list[Change]:
    """What might help this run, with what was measured of each."""
    config, about = plan.config, runs.about
    if config is None or plan.data is None or not {"synthetic", "drained"} <= evidence.seconds.keys():
        return []
    if on_progress:
        on_progress(0, 0, "what would help")
    changes = []
    seconds = plan.seconds / 2
    supply = statistics.median(evidence.seconds["drained"])
    if not evidence.resident and (decode := evidence.ladder.get("decode")):
        here = (about["decoder"].split(" ")[0], about["threads"])
        names = ("dali", "simplejpeg", "torchvision")
        variants = [(name, here[1]) for name in names] + [(here[0], n) for n in {2 * here[1], evidence.cores}]
        job = {
            "data": str(plan.data / "train"), "size": config.data.size, "fit": config.data.fit, "batch": about["batch"],
            "device": about["device"], "workers": "threads" if plan.hook else config.data.workers,
            "variants": [list(one) for one in dict.fromkeys([here, *variants])], "seconds": seconds / 2,
        }  # fmt: skip
        rates = zygote.run("bench.decode_rate:decode_rates", job)["rates"]
        own = rates.pop(f"{here[0]}/{here[1]}")
        for variant, rate in rates.items():
            name, _, threads = variant.partition("/")
            # The ladder's decode has the run's hook in it; the variant is as much faster as it is without.
            after = resupplied(supply, decode, own / rate)
            beside = min(own / rate, 1.0)
            cpu = evidence.cpu["synthetic"] + evidence.cpu["drained"] * beside
            where = ", on the GPU" if about["device"] == "cuda" and name in ("dali", "torchvision") else ""
            told = f"decoding by {threads}, not {here[1]}" if name == here[0] else f"decoder {name}{where}"
            settings = {"data.threads": int(threads)} if name == here[0] else {"data.decoder": name}
            if name == here[0]:  # more threads spend what fewer spend
                changes.append(Change(told, settings, supply=after))
            else:
                changes.append(Change(told, settings, supply=after, cpu=cpu, beside=beside))
        job = {
            "size": config.data.size, "batch": about["batch"], "samples": about["samples"], "device": about["device"],
            "seconds": seconds / 2,
        }  # fmt: skip
        gather = zygote.run("bench.probe:gather_rate", job)
        if about["samples"] * config.data.size**2 * 3 < gather["free_bytes"] // 2:
            changes.append(
                Change(
                    "a resident set, decoded once", {"data.mode": "resident"}, copy=0.0, supply=1 / gather["rate"],
                    step=statistics.median(evidence.seconds["synthetic"]) + 1 / gather["rate"],
                    cpu=evidence.cpu["synthetic"], beside=0.0,
                )
            )  # fmt: skip
    larger = 2 * config.train.batch
    if larger <= about.get("samples", 0) and not plan.compute:
        changed = replace(plan, config=resolve(config.model_dump(mode="json"), [f"train.batch={larger}"]))
        try:
            window = zygote.run("bench.window:measure", changed.job(["synthetic"]))["synthetic"]
        except MeasurementFailed:
            return changes  # it does not fit
        each, cpu = window["seconds"] / window["images"], window["cpu_s"] / window["images"]
        changes.append(
            Change(
                f"batches of {larger}", {"train.batch": larger}, step=each, cpu=cpu + evidence.cpu["drained"]
            )
        )  # fmt: skip
    return changes


def _verify(zygote: Zygote, plan: Plan, best: Prediction, on_progress: Tell) -> dict[str, Any]:
    """Runs the run as it is and as it would be, in turns, and holds the predicted gain against the measured one.

    Both rates of a pair share the machine's mood; that of the prediction is minutes old, so its rate proves nothing.
    """
    if plan.config is None:
        raise ConfigError("--verify", "", "needs a run of ours")
    overrides = [f"{key}={value}" for key, value in best.settings.items()]
    changed = replace(plan, config=resolve(plan.config.model_dump(mode="json"), overrides))
    rates: dict[str, list[float]] = {"now": [], "then": []}
    for number in range(plan.repeats):
        pair = [("now", plan), ("then", changed)]
        for name, each in pair if number % 2 == 0 else pair[::-1]:
            if on_progress:
                on_progress(2 * number, 2 * plan.repeats, f"verifying: {best.name}")
            window = zygote.run("bench.window:measure", each.job(["warm"]))["warm"]
            rates[name].append(window["images"] / window["seconds"])
    then, gain = summarise(rates["then"]), ratio(rates["then"], rates["now"])
    said = agreement((best.gain_low, best.gain_high), gain)
    return {
        "name": best.name, "settings": dict(best.settings),
        "predicted": {"rate": best.rate, "low": best.low, "high": best.high, "gain": best.gain,
                      "gain_low": best.gain_low, "gain_high": best.gain_high},
        "measured": {"unit": "images/s", **then.to_json()}, "gain": {"unit": "ratio", **gain.to_json()},
        "said": said, "inside": said == AGREES,
    }  # fmt: skip


def noise_of(runs: Runs) -> dict[str, float]:
    """By mode, how far two measurements of the same thing may lie apart: the far end of the A/A ratio's interval.

    The repeats of the two were taken in turns, each in a process of its own.
    """
    noise = {}
    for mode, windows in runs.again.items():
        again = [window["images"] / window["seconds"] for window in windows]
        apart = ratio(again, runs.rates(mode))
        if len(again) > 1:
            noise[mode] = max(abs(apart.low - 1), abs(apart.high - 1))
    return noise


def record_of(
    plan: Plan,
    runs: Runs,
    evidence: Evidence,
    predictions: list[Prediction],
    verified: dict[str, Any] | None,
    unverified: str = "",
) -> Record:
    """What was measured and what it says, as a record; `unverified` says why nothing was predicted or verified."""
    found, parts, about = judge(evidence), decompose(evidence), runs.about
    proven = {mode: mode in evidence.seconds or mode != "cold" for mode in runs.windows}
    measurements: dict[str, Any] = {
        mode if proven[mode] else f"{mode}, cache_unverified": measured(
            "images/s", summarise(runs.rates(mode)), steps=min(window["steps"] for window in windows)
        )
        for mode, windows in runs.windows.items()
    }
    for stage, values in runs.ladder.items():
        rates = [about["batch"] / value for value in values if value > 0]
        if rates:
            measurements[f"ladder {stage}"] = measured("images/s", summarise(rates))
    ratios = {}
    if {"warm", "synthetic"} <= runs.windows.keys():
        ratios["warm/synthetic"] = measured("ratio", ratio(runs.rates("warm"), runs.rates("synthetic")))
        ratios["exposed wait"] = measured("share", exposed(evidence))
    tax: Summary | None = None
    beside: Summary | None = None
    if "bare" in runs.windows:
        tax, beside = (summarise([each[key] for each in runs.windows["bare"]]) for key in ("tax", "beside"))
    roofs = roofline(evidence)
    samples = about.get("samples")
    hashed = {"run": plan.config.name, "config_hash": config_hash(plan.config)} if plan.config else {}
    return Record(
        kind="stalls",
        settings={
            **hashed, **about, "compute": plan.compute or None, "hook": plan.hook or None, "repeats": evidence.repeats,
            "seconds": plan.seconds, "apart": plan.apart,
        },
        measurements=measurements,
        ratios=ratios,
        verdict={
            **asdict(found),
            "evidence": {
                "steps": evidence.steps, "repeats": evidence.repeats, "warm_read": evidence.warm_read,
                "cold_read": evidence.cold_read, "cold_verified": evidence.cold_read is not None
                and evidence.cold_read >= COLD, "idle_workers": evidence.workers, "shards": evidence.shards,
                "cpu_s_per_image": dict(evidence.cpu),
            },
            "decomposition": {
                "unit": "s/image", "samples": samples,
                "parts": {name: parts[name].to_json() if parts[name] else None for name in (*PARTS, "fetch", "epoch")},  # type: ignore[union-attr]
            },
            "fill_s": statistics.median(runs.fill_s) if runs.fill_s else None,
            "roofline": [asdict(roof) for roof in roofs],
            "slack": roofs[1].rate / roofs[0].rate if len(roofs) > 1 else None,
            "what_if": [{**asdict(each), "settings": dict(each.settings)} for each in predictions],
            "verified": verified,
            "unverified": unverified,
            "tax": tax.to_json() if tax else None,
            "tax_beside": beside.to_json() if beside else None,
            "series": {
                mode: {"waits_ms": each[0]["waits"], "takes_ms": each[0]["takes"]}
                for mode, each in runs.windows.items() if mode in ("warm", "cold", "synthetic") and proven[mode]
            },
        },
        noise=noise_of(runs),
    )  # fmt: skip
