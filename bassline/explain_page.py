"""What `bassline explain` leaves: one self-contained page, and the same pictures as PNG files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from bassline import chart, heat
from shards.files import write_atomic

if TYPE_CHECKING:
    from trainer.explain import Explainer
    from trainer.survey import Seen, Survey

__all__ = ["section", "write"]

_FILTERS = 16
"""Filters shown; a net of more shows its first."""
_LOOKS = {"learned": "good", "partly": "doubt", "image": "bad", "empty": "bad"}


def write(folder: Path, page: str, explainer: Explainer, found: Survey) -> list[str]:
    """Writes the page and the PNG files into `folder`; gives the files' names."""
    import jinja2

    files: list[str] = []

    def keep(name: str, picture: Image.Image) -> None:
        picture.save(folder / name)
        files.append(name)

    view = section(explainer, found, keep)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bassline"), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    card = explainer.model.card
    html = environment.get_template("explain.html.j2").render(
        title=f"What {card.run} looks at", cards=_cards(found), **view
    )
    write_atomic(folder / page, [html.encode()])
    return [page, *files]


def _cards(found: Survey) -> list[tuple[str, str]]:
    subjects = found.subjects
    cards = [(f"{len(subjects.names):,}", f"image{'s' * (len(subjects.names) != 1)} looked at")]
    if subjects.truth is not None:
        right = float((subjects.answers == subjects.truth).mean())
        majority = float(np.bincount(subjects.truth).max() / len(subjects.truth))
        cards += [(f"{right:.2%}", "of them named right"), (f"{majority:.2%}", "by always naming the commonest")]
    return cards


def section(explainer: Explainer, found: Survey, keep: Any = None) -> dict[str, Any]:
    """The pictures and words for a template; `keep(name, picture)` gets each picture that is worth a file."""
    from trainer.explain import METHODS

    keep = keep or (lambda name, picture: None)
    card = explainer.model.card
    heads = ["image", *(METHODS[method] for method in explainer.methods)]
    groups = [
        {"title": group.title, "rows": [_row(explainer, found, each, keep, heads) for each in group.images]}
        for group in found.groups
    ]
    names = ("hirescam", "gradcam", "ig")
    shown = [method for method in names if any(method in each.maps for each in found.labels)]
    labels = []
    for each in found.labels:
        mean = np.clip(each.picture, 0, 255).astype(np.uint8)
        pictures = [heat.photo(mean), *(_drawn(method, mean, each.maps[method]) for method in shown)]
        labels.append({"label": each.label, "images": each.images, "uris": [heat.uri(made) for made in pictures]})
        keep(f"mean-{_safe(each.label)}.png", heat.strip(pictures, ["mean image", *(METHODS[m] for m in shown)]))
    return {
        "heads": heads,
        "groups": groups,
        "labels": labels,
        "label_heads": ["mean image", *(METHODS[method] for method in shown)],
        "sanity": [{"name": METHODS[each.method], "look": _LOOKS[each.verdict], "json": each} for each in found.sanity],
        "sanity_chart": _sanity_chart(found),
        "filters": _filters(found, keep),
        "single_class": found.single_class,
        "left_out": explainer.left_out,
        "facts": _facts(explainer, found),
        "run": card.run,
    }


def _drawn(method: str, square: Any, values: Any) -> Image.Image:
    return heat.heat(square, values) if method in ("gradcam", "hirescam") else heat.signed(square, values)


def _row(explainer: Explainer, found: Survey, each: Seen, keep: Any, heads: list[str]) -> dict[str, Any]:
    subjects, labels = found.subjects, explainer.model.labels
    square, number = subjects.squares[each.number].numpy(), each.number
    answer = int(subjects.answers[number])
    truth = None if subjects.truth is None else labels[int(subjects.truth[number])]
    pictures = [heat.photo(square), *(_drawn(method, square, values) for method, values in each.maps.items())]
    names = list(heads)
    if each.for_truth is not None:
        pictures.append(heat.heat(square, each.for_truth))
        names.append(f"CAM for {truth}")
    keep(f"image-{number:05d}-{_safe(Path(subjects.names[number]).stem)}.png", heat.strip(pictures, names))
    return {
        "name": subjects.names[number],
        "answer": labels[answer],
        "sure": f"{subjects.probabilities[number, answer]:.1%}",
        "truth": truth,
        "wrong": truth is not None and truth != labels[answer],
        "pictures": [(name, heat.uri(made)) for name, made in zip(names, pictures, strict=True)],
    }


def _sanity_chart(found: Survey) -> Any:
    from trainer.explain import METHODS

    curves = [
        chart.Series(METHODS[each.method], [1.0, *(step.correlation for step in each.steps)], tone, first=0)
        for tone, each in enumerate(found.sanity, 1)
        if each.steps
    ]
    if not curves:
        return ""
    return chart.line_chart(
        "Rank correlation with the trained net's map",
        curves,
        axis="modules drawn anew, from the head",
        low=-0.2,
        high=1.0,
    )


def _filters(found: Survey, keep: Any) -> dict[str, Any] | None:
    if found.filters is None:
        return None
    weights, responses = found.filters.weights[:_FILTERS], found.filters.responses[:, :_FILTERS]
    if weights.shape[1] == 3:
        drawn = [heat.pixels(each.transpose(1, 2, 0), 80) for each in weights]
    else:
        drawn = [heat.pixels(each.mean(0), 80) for each in weights]
    squares = found.subjects.squares
    rows = [
        [heat.photo(squares[number].numpy(), 80), *(heat.pixels(each, 80) for each in responses[row])]
        for row, number in enumerate(found.shown_filters)
    ]
    blank = Image.new("RGB", (80, 80), "white")
    keep("filters.png", heat.grid([[blank, *drawn], *rows]))
    return {
        "name": found.filters.name,
        "more": max(0, len(found.filters.weights) - _FILTERS),
        "weights": [heat.uri(each) for each in drawn],
        "rows": [[heat.uri(each) for each in row] for row in rows],
    }


def _facts(explainer: Explainer, found: Survey) -> list[tuple[str, str]]:
    card = explainer.model.card
    rows = [
        ("explained number", "the label's logit less the mean of all logits"),
        ("Grad-CAM's layer", f"{explainer.layer}, {explainer.places} places across" if explainer.layer else "none"),
        ("blank image", explainer.baseline_name),
        ("integrated gradients", f"{explainer.steps} points"),
    ]
    if found.gap is not None:
        rows.append(("completeness", f"their sum misses {found.gap:.1%} of the answer's change (median)"))
    if "occlusion" in explainer.methods:
        rows.append(("occlusion", f"squares of {explainer.window} pixels, every {explainer.stride}"))
    rows += [("size", f"{card.size} pixels"), ("configuration", card.config_hash), ("data", card.data_digest)]
    return rows


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)[:60] or "_"
