"""Pictures for the report as inline SVG and HTML: no script, no outside asset, readable in light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

__all__ = ["Point", "Series", "bars", "line_chart", "point_chart", "stacked_bar"]

_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 14, 34
_TONES = 9
"""Colours of the theme: as many as a run's time has parts."""


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: `values[i]` belongs to epoch `first + i`; None is a gap. `tone` 1..9 picks the colour of the theme."""

    name: str
    values: Sequence[float | None]
    tone: int
    first: int = 1
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """A value at x with its interval (low and high equal value where there is none) and its tooltip."""

    x: float
    value: float
    low: float
    high: float
    said: str


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round tick positions that cover [low, high]: steps of 1, 2 or 5 times a power of ten."""
    span = max(high - low, 1e-9)
    raw = span / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    start = math.floor(low / step + 1e-9)
    end = math.ceil(high / step - 1e-9)
    return [index * step for index in range(start, end + 1)]


def _text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 and value == round(value) else f"{value:.4g}"


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    mark: tuple[int, str] | None = None,
    percent: bool = False,
    low: float | None = None,
    high: float | None = None,
    axis: str = "epoch",
) -> Markup:
    """Curves over epochs, or what `axis` says.

    Args:
        title: what the y axis is.
        series: the curves; each point carries its value as a tooltip.
        mark: an epoch to mark with a vertical line, and its label.
        percent: y values are fractions, shown as per cent.
        low, high: limits of the y axis; by default those of the data.
    """
    points = [value for line in series for value in line.values if value is not None and math.isfinite(value)]
    if not points:
        return Markup("")
    ticks = _ticks(min(points) if low is None else low, max(points) if high is None else high)
    bottom, top = ticks[0], ticks[-1] if ticks[-1] > ticks[0] else ticks[0] + 1
    last = max(line.first + len(line.values) - 1 for line in series)
    first = min(line.first for line in series)

    def x(epoch: float) -> float:
        return _LEFT + (epoch - first) / max(last - first, 1) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        share = (min(max(value, bottom), top) - bottom) / (top - bottom)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in ticks:
        label = f"{tick * 100:.4g} %" if percent else _text(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{label}</text>')
    for tick in _ticks(first, last, 6):
        if first <= tick <= last and tick == round(tick):
            parts.append(f'<text x="{x(tick):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:.0f}</text>')
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end" class="axis">{escape(axis)}</text>')
    if mark:
        at = x(mark[0])
        anchor, shift = ("end", -5) if at > _WIDTH * 0.7 else ("start", 5)
        parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        place = f'x="{at + shift:.1f}" y="{_HEIGHT - _BOTTOM - 6}" text-anchor="{anchor}"'
        parts.append(f'<text class="marked" {place}>{escape(mark[1])}</text>')
    for line in series:
        known = [(line.first + i, v) for i, v in enumerate(line.values) if v is not None and math.isfinite(v)]
        path = " ".join(f"{x(epoch):.1f},{y(value):.1f}" for epoch, value in known)
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(f'<polyline class="tone{line.tone}" points="{path}"{dash}/>')
        if len(known) <= 120 and not line.dashed:
            for epoch, value in known:
                shown = f"{value * 100:.2f} %" if percent else f"{value:.4f}"
                parts.append(
                    f'<circle class="dot{line.tone}" cx="{x(epoch):.1f}" cy="{y(value):.1f}" r="2.6">'
                    f"<title>{escape(line.name)}, {escape(axis)} {epoch}: {shown}</title></circle>"
                )
    parts.append("</svg>")
    legend = "".join(f'<span class="key"><i class="fill{line.tone}"></i>{escape(line.name)}</span>' for line in series)
    caption = f'<figcaption>{escape(title)} <span class="legend">{legend}</span></figcaption>'
    return Markup(f"<figure>{caption}{''.join(parts)}</figure>")


def point_chart(
    title: str,
    points: Sequence[Point],
    axis: str,
    *,
    percent: bool = False,
    low: float | None = None,
    log: bool = False,
    joined: bool = True,
    line: tuple[float, str] | None = None,
    tone: int = 1,
) -> Markup:
    """Points with intervals against a number.

    Args:
        title: what the y axis is.
        points: in any order.
        axis: what the x axis is.
        percent: y values are fractions, shown as per cent.
        low: where the y axis starts; by default at the data.
        log: x on a logarithmic scale.
        joined: a line through the points.
        line: a value to compare with, dashed, and its name.
        tone: the theme's colour, 1 to 9.
    """
    shown = sorted((point for point in points if math.isfinite(point.value)), key=lambda point: point.x)
    if not shown:
        return Markup("")
    ends = [end for point in shown for end in (point.low, point.high)] + ([line[0]] if line else [])
    ticks = _ticks(min(ends) if low is None else low, max(ends))
    bottom, top = ticks[0], ticks[-1] if ticks[-1] > ticks[0] else ticks[0] + 1
    first, last = _scaled(shown[0].x, log), _scaled(shown[-1].x, log)

    def x(value: float) -> float:
        return _LEFT + 14 + (_scaled(value, log) - first) / ((last - first) or 1) * (_WIDTH - _LEFT - _RIGHT - 28)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - bottom) / (top - bottom) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in ticks:
        label = f"{tick * 100:.4g} %" if percent else _text(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{label}</text>')
    under = -100.0
    for value in dict.fromkeys(point.x for point in shown):
        if x(value) - under >= 34:  # what would run into its neighbour is left out
            under = x(value)
            parts.append(f'<text x="{under:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{value:.4g}</text>')
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end" class="axis">{escape(axis)}</text>')
    if line:
        where = f'x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(line[0]):.1f}" y2="{y(line[0]):.1f}"'
        parts.append(f'<line class="tone6" stroke-dasharray="5 4" {where}/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{y(line[0]) - 5:.1f}" text-anchor="end">{escape(line[1])}</text>')
    if joined:
        path = " ".join(f"{x(point.x):.1f},{y(point.value):.1f}" for point in shown)
        parts.append(f'<polyline class="tone{tone}" points="{path}"/>')
    for point in shown:
        at, up, down = x(point.x), y(point.high), y(point.low)
        if point.high > point.low:
            bar = f"M{at:.1f} {up:.1f}V{down:.1f}M{at - 4:.1f} {up:.1f}h8M{at - 4:.1f} {down:.1f}h8"
            parts.append(f'<path class="tone{tone}" fill="none" d="{bar}"/>')
        parts.append(
            f'<circle class="dot{tone}" cx="{at:.1f}" cy="{y(point.value):.1f}" r="3.6">'
            f"<title>{escape(point.said)}</title></circle>"
        )
    parts.append("</svg>")
    return Markup(f"<figure><figcaption>{escape(title)}</figcaption>{''.join(parts)}</figure>")


def _scaled(value: float, log: bool) -> float:
    return math.log10(value) if log else value


def stacked_bar(parts: Sequence[tuple[str, float]], unit: str = "s") -> Markup:
    """One horizontal bar cut into named shares, with a legend that gives each part's amount and share."""
    total = sum(amount for _, amount in parts)
    if total <= 0:
        return Markup("")
    digits = 1 if total >= 10 else 2 if total >= 1 else 3
    cells, keys = [], []
    for index, (name, amount) in enumerate(parts):
        share, tone = amount / total, index % _TONES + 1
        said = f"{escape(name)} {amount:.{digits}f} {unit}, {share:.1%}"
        cells.append(f'<i class="fill{tone}" style="width:{share * 100:.3f}%" title="{said}"></i>')
        keys.append(
            f'<span class="key"><i class="fill{tone}"></i>{escape(name)} <b>{amount:.{digits}f} {unit}</b> '
            f'<span class="dim">{share:.0%}</span></span>'
        )
    return Markup(f'<div class="stack">{"".join(cells)}</div><div class="keys">{"".join(keys)}</div>')


def bars(rows: Sequence[tuple[str, float, str]], tone: int = 1) -> Markup:
    """Horizontal bars on a logarithmic scale from 1: (name, value, text beside the bar). For rates orders apart."""
    top = max((value for _, value, _ in rows), default=0.0)
    if top <= 1:
        return Markup("")
    made = []
    for name, value, text in rows:
        width = 100 * max(math.log10(max(value, 1.0)), 0.02) / math.log10(top)
        made.append(
            f'<div class="bar"><span class="name">{escape(name)}</span>'
            f'<span class="rail"><i class="fill{tone}" style="width:{width:.1f}%"></i></span>'
            f'<span class="value">{escape(text)}</span></div>'
        )
    return Markup(f'<div class="bars">{"".join(made)}</div>')
