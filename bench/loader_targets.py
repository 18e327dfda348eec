"""What our loaders have to reach beside the others, and whether they do. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.stats import Summary, ratio, summarise
from bench.targets import REACHED, Target

__all__ = ["judge"]

STREAM, RESIDENT = "stream-simplejpeg", "resident"  # what `auto` takes on a CPU
DECODE = "decode"  # decoding alone, which nothing that decodes every epoch can be faster than

# (ours, theirs, at least); ImageFolder as FACTS.md measured it and most people use it, normalised float32
_RATIOS = (
    (STREAM, "imagefolder-float32", 6.0),
    (STREAM, "dali", 1.2),
    (STREAM, "ffcv", 0.9),
    (RESIDENT, STREAM, 5.0),
    (RESIDENT, "tensor", 0.9),
)
# Where each is measured as it is used, and so does other work: the ratios of the same work, to be told beside.
_UNLIKE = {(STREAM, "imagefolder-float32"): ((STREAM, "imagefolder"), ("stream-float32", "imagefolder-float32"))}
_RATE = 12_000.0  # images/s of the stream, or 1.2 times DALI's own pipeline
_FIRST_BATCH_S = 0.5  # after torch's import
_EXTRA_MIB = 250e6 / 2**20  # over what torch's import takes, where DALI is not used


def judge(rates: Mapping[str, Sequence[float]], first: Sequence[float], extra: Sequence[float]) -> dict[str, Any]:
    """The verdict of a record.

    Args:
        rates: images/s of warm epochs after the first, by contender, one value a repeat, paired by repeat.
        first, extra: seconds to the stream's first batch and its extra MiB, one a repeat; empty: not measured.

    Returns:
        `targets`: each with `wanted`, `found`, `ci95` and `verdict` (`bench.targets`);
        `ceiling` of the stream's ratios, where decoding alone was measured; `alike`, where it compares uint8 with
        float32 as each is used: the ratios of the same work that were measured; `sentence`, which says these too.
    """
    found = []
    for ours, theirs, least in _RATIOS:
        if ours in rates and theirs in rates:
            target = _target(f"{ours} / {theirs}", "ratio", least, ratio(rates[ours], rates[theirs]))
            if (ours, theirs) in _UNLIKE:
                pairs = [pair for pair in _UNLIKE[ours, theirs] if rates.keys() >= set(pair)]
                target["alike"] = {" / ".join(pair): ratio(*(rates[name] for name in pair)).median for pair in pairs}
            if ours == STREAM and DECODE in rates:
                target["ceiling"] = ratio(rates[DECODE], rates[theirs]).median
            found.append(target)
    if STREAM in rates:
        rate = _target(STREAM, "images/s", _RATE, summarise(rates[STREAM]))
        beside = next((target for target in found if target["name"] == f"{STREAM} / dali"), None)
        if rate["verdict"] != REACHED and beside is not None and beside["verdict"] == REACHED:
            rate = {**rate, "verdict": REACHED, "by": beside["name"]}
        found.append(rate)
    if first:
        found.append(_target(f"{STREAM}: first batch", "s", _FIRST_BATCH_S, summarise(first), most=True))
    if extra:
        found.append(_target(f"{STREAM}: extra memory", "MiB", round(_EXTRA_MIB), summarise(extra), most=True))
    short = [
        f"{target['name']} ({target['verdict']}{_beyond(target)})" for target in found if target["verdict"] != REACHED
    ]
    unlike = [_unlike(target) for target in found if "alike" in target]
    reached = f"{len(found) - len(short)} of {len(found)} targets reached"
    sentence = "; ".join([reached, *filter(None, [", ".join(short)]), *unlike])
    return {"sentence": sentence if found else "no target: they are about loaders that were left out", "targets": found}


def _beyond(target: Mapping[str, Any]) -> str:
    ceiling = target.get("ceiling")
    if ceiling is None or ceiling >= target["wanted"]:
        return ""
    return f": decoding alone would be {ceiling:.2f}"


def _unlike(target: Mapping[str, Any]) -> str:
    """What the sentence says of a target between unlike works."""
    alike = [f"{found:.1f} as {'float32' if 'float32' in pair else 'uint8'}" for pair, found in target["alike"].items()]
    return f"{target['name']} is as each is used; the same work: {', '.join(alike) or 'not measured'}"


def _target(name: str, unit: str, bound: float, found: Summary, *, most: bool = False) -> dict[str, Any]:
    return {
        "name": name, "unit": unit, "wanted": bound, "at": "most" if most else "least", "found": found.median,
        "ci95": found.to_json()["ci95"], "verdict": Target(bound, below=most).verdict(found),
    }  # fmt: skip
