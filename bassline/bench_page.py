"""A stalls record as one HTML page: the decomposition stacked, the roofline, and the steps of a window as curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bassline import chart
from shards.files import write_atomic

__all__ = ["tax_told", "verified_told", "write_page"]

_CURVES = (
    ("warm", "takes_ms", "warm: the whole step", 1),
    ("warm", "waits_ms", "warm: waiting for the batch", 2),
    ("cold", "waits_ms", "cold: waiting for the batch", 4),
    ("synthetic", "takes_ms", "synthetic", 3),
)
_SAID = {
    "agrees": "the prediction agrees",
    "too high": "predicted too high",
    "too low": "predicted too low",
    "cannot tell": "too wide to tell whether the prediction holds",
}
_PARTS = ("step", "contention", "copy", "preparation", "unexplained")


def write_page(record: dict[str, Any], path: Path) -> None:
    """Writes the page, whole or not at all."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bassline"), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    verdict, settings = record["verdict"], record["settings"]
    samples = verdict["decomposition"]["samples"]
    roofs, machine = verdict["roofline"], record["environment"]
    what = settings.get("run") or settings.get("loader")
    slack = ""
    if len(roofs) > 1:
        faster = f"{verdict['slack']:.3g} times as fast"
        slack = f"The {roofs[0]['name']} binds; the next is the {roofs[1]['name']}, {faster}."
    html = environment.get_template("bench.html.j2").render(
        title=f"Where the time of {what} goes",
        lead=f"{settings['mode']}, batches of {settings['batch']} on {settings['device']}, "
        f"{settings['repeats']} processes a mode, {record['made_at']}",
        sentence=verdict["sentence"],
        epoch=f"an epoch of {samples:,} images" if samples else "the time of 1,000 images",
        stacks=_stacks(verdict["decomposition"]["parts"], samples or 1000),
        roofline=chart.bars([(roof["name"], roof["rate"], f"{roof['rate']:,.0f} images/s") for roof in roofs]),
        slack=slack,
        curves=_curves(verdict["series"]),
        what_if=verdict["what_if"],
        verified=verified_told(verdict),
        tax=tax_told(verdict),
        rows=[
            (name, f"{each['median']:,.0f}", _interval(each["ci95"]), each["unit"], _noise(record["noise"].get(name)))
            for name, each in record["measurements"].items()
        ],
        environment=f"{machine['cpu']}, {machine['cores']} cores, {machine['gpu'] or 'no GPU'}, Python "
        f"{machine['python']}, torch {machine['packages']['torch']}",
    )
    write_atomic(path, [html.encode()])


def _stacks(parts: dict[str, Any], images: int) -> list[tuple[str, Any]]:
    """A bar for warm epochs, and one for cold ones where they were measured; a part below zero is noise."""
    warm = [(name, max(parts[name]["median"], 0.0) * images) for name in _PARTS if parts[name]]
    made = [("warm", chart.stacked_bar(warm))] if warm else []
    if parts["fetch"]:
        fetch = ("fetch", max(parts["fetch"]["median"], 0.0) * images)
        made.append(("cold page cache", chart.stacked_bar([*warm, fetch])))
    return made


def _curves(series: dict[str, Any]) -> Any:
    lines = [
        chart.Series(name, series[mode][key], tone)
        for mode, key, name, tone in _CURVES
        if mode in series and series[mode][key]
    ]
    return chart.line_chart("milliseconds", lines, low=0.0, axis="step")


def _noise(share: float | None) -> str:
    return "" if share is None else f"± {share:.0%}"


def _interval(bounds: list[float | None]) -> str:
    low, high = bounds
    return "-" if low is None or high is None else f"{low:,.0f} to {high:,.0f}"


def tax_told(verdict: dict[str, Any]) -> str:
    """What measuring cost, in words; empty where it was not measured."""
    if not verdict.get("tax"):
        return ""
    low, high = verdict["tax_beside"]["ci95"]
    share = verdict["tax"]["median"]
    own = "under 0.01 %" if share < 1e-4 else f"{share:.2%}"
    spread = "" if low is None else f" ({low:+.1%} to {high:+.1%})"
    beside = f"timed blocks beside bare ones took {verdict['tax_beside']['median']:+.1%}{spread}"
    return f"The tool's own tax: its timers take {own} of a step; {beside}."


def verified_told(verdict: dict[str, Any]) -> str:
    """What trying the best change brought, in words; or why nothing was tried; empty where nobody asked."""
    if (found := verdict["verified"]) is None:
        return str(verdict.get("unverified", ""))
    predicted, measured = found["predicted"], found["gain"]
    said = f"measured {measured['median']:.2f} x now{_gain(*measured['ci95'])}"
    held = f"predicted {predicted['gain']:.2f} x{_gain(predicted.get('gain_low'), predicted.get('gain_high'))}"
    # Records of before judged the rate, which says less: theirs is not repeated.
    judged = f": {_SAID[found['said']]}" if "said" in found else ""
    return f"tried: {found['name']}, {held}, {said}{judged}"


def _gain(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
