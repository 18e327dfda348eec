"""The card that travels with an exported model: what it is, what it was made from, how good it is, where it ends."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bassline import __version__
from bassline.results import net_summary
from bassline.run_folder import Run
from shards.files import write_atomic

if TYPE_CHECKING:
    from trainer.checkpoint import ModelCard
    from trainer.parity import Parity

__all__ = ["card_text", "write_card"]

_LOOKED_AT = 2_000
"""Test samples whose provenance is read: hosts are few and soon seen."""

EMBEDDED = "the embedded shop"

_CALLS = {
    "model.onnx": """```python
import json

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("model.onnx")
labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
images = np.asarray(Image.open("photo.jpg").convert("RGB"))[None]  # uint8 (N, height, width, 3), any size
(probabilities,) = session.run(["probabilities"], {"images": images})
print(labels[probabilities[0].argmax()], probabilities[0].max())
```""",
    "model.pt2": """```python
import json

import numpy as np
import torch
from PIL import Image

files = {"labels": ""}
model = torch.export.load("model.pt2", extra_files=files).module()
labels = json.loads(files["labels"])
images = torch.from_numpy(np.array(Image.open("photo.jpg").convert("RGB"))[None])  # uint8 (N, height, width, 3)
with torch.no_grad():
    probabilities = model(images)
print(labels[int(probabilities[0].argmax())], float(probabilities[0].max()))
```""",
}


def write_card(path: Path, run: Run, card: ModelCard, data: Path, parity: Mapping[str, Parity]) -> None:
    """Writes the card, whole or not at all."""
    write_atomic(path, [card_text(run, card, _parts(data), _origins(data), parity).encode()])


def card_text(
    run: Run,
    card: ModelCard,
    parts: Mapping[str, Mapping[str, int]],
    origins: Mapping[str, int],
    parity: Mapping[str, Parity],
) -> str:
    """The card as Markdown.

    Args:
        parts: images by part and label.
        origins: where the images come from (a host, or what stands for one), and how many.
        parity: by exported file.
    """
    test, result = run.result["test"], run.result
    low, high = test["ci95"]
    sections = [
        f"# {run.name}: {_listed(card.labels)}",
        f"A network of {result['parameters']:,} parameters ({net_summary(run.config['net'])}) that gives each of "
        f"{len(card.labels)} labels a probability. It looks at images of {card.size}x{card.size} pixels; the file "
        f"takes RGB images of any size and {_FITS[card.fit]}. "
        + ("An answer is the mean over the image and its mirror image. " if card.flip else "")
        + f"Made by Bassline {__version__}.",
        *_warning(run),
        "## How to call it",
        *(_CALLS[name] for name in parity),
        f"In: `images`, uint8 RGB, (N, height, width, 3). Out: `probabilities`, float32, (N, {len(card.labels)}), each "
        "row sums to 1. All images of a call have one size. Turn photographs upright and put transparent ones on white "
        "first: the network was trained on such.",
        "## How good it is",
        f"Tested once, on {test['samples']:,} images it was neither trained nor selected on.",
        _table(
            [
                ["measure", "value"],
                ["accuracy", f"{test['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}, Wilson)"],
                ["always naming the commonest label", f"{test['majority_rate']:.2%}"],
                ["balanced accuracy", f"{test['balanced_accuracy']:.2%}"],
                ["macro F1", f"{test['macro_f1']:.3f}"],
                *_measured(test, "auroc", "AUROC, label against rest"),
                *_measured(test, "calibration_error", "calibration error (15 bins)"),
                *_measured(test, "brier", "Brier score (0 is best, 2 worst)"),
            ]
        ),
        _per_label(test["per_label"]),
        *_parity_lines(parity),
        "## What it was made from",
        _counts(card.labels, parts),
        f"Trained for {result['epochs']:,} epochs, the one of the best {_SELECTED[run.config['select']['metric']]} "
        f"kept (epoch {card.epoch:,}), on {result['device']} in {result['precision']}. Configuration "
        f"`{card.config_hash}`, data `{card.data_digest}`.",
        "## Where it ends",
        "\n".join(f"- {line}" for line in _limits(run, card, parts)),
        "## Licence",
        _licence(origins),
    ]
    return "\n\n".join(sections) + "\n"


_FITS = {
    "pad": "fits them into that square on white",
    "crop": "cuts their middle square out",
    "stretch": "stretches them to that square",
}
_SELECTED = {
    "val_loss": "validation loss", "val_accuracy": "validation accuracy", "val_auroc": "validation AUROC",
    "val_balanced_accuracy": "balanced validation accuracy", "val_macro_f1": "validation macro F1",
}  # fmt: skip


def _warning(run: Run) -> list[str]:
    said = f'**It learned only to say "{run.single_class}".** It is of no use but as a warning.'
    return [said] if run.single_class else []


def _listed(labels: tuple[str, ...]) -> str:
    return ", ".join(labels[:-1]) + f" or {labels[-1]}" if len(labels) > 1 else labels[0]


def _table(rows: list[list[str]]) -> str:
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    rule = ["---"] + ["---:" for _ in head[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *body])


def _measured(test: Mapping[str, Any], key: str, name: str) -> list[list[str]]:
    return [[name, f"{test[key]:.4f}"]] if test.get(key) is not None else []


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _per_label(per_label: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [name, f"{told['support']:,}", _share(told["recall"]), _share(told["precision"]), _share(told["f1"])]
        for name, told in per_label.items()
    ]
    return _table([["label", "test images", "recall", "precision", "F1"], *rows])


def _parity_lines(parity: Mapping[str, Parity]) -> list[str]:
    return [
        f"`{name}` gave the run's own label for {each.same:,} of {each.samples:,} test images when it was made; its "
        f"probabilities differ by {each.largest:.1e} at most."
        for name, each in parity.items()
    ]


def _counts(labels: tuple[str, ...], parts: Mapping[str, Mapping[str, int]]) -> str:
    rows = [[label, *(f"{counts.get(label, 0):,}" for counts in parts.values())] for label in labels]
    total = ["all", *(f"{sum(counts.values()):,}" for counts in parts.values())]
    return _table([["images", *parts], *rows, total])


def _limits(run: Run, card: ModelCard, parts: Mapping[str, Mapping[str, int]]) -> list[str]:
    test = run.result["test"]
    said = [
        f"Whatever it is shown, it answers with one of {len(card.labels)} labels; it has no word for anything else.",
        f"It was tested on images from where it was trained on, at {card.size} pixels; elsewhere it may do worse.",
    ]
    if run.single_class:
        said.append(
            f'It said "{run.single_class}" to every test image: its accuracy is no skill, but that label\'s share.'
        )
    elif test["ci95"][0] <= test["majority_rate"]:
        said.append("It is not shown to be better than always naming the commonest label: the interval reaches it.")
    train = {label: n for label, n in parts.get("train", {}).items() if n}
    if train and max(train.values()) >= 3 * min(train.values()):
        rare, common = min(train, key=train.__getitem__), max(train, key=train.__getitem__)
        said.append(
            f'Its labels are uneven: {train[common]:,} training images of "{common}", {train[rare]:,} of "{rare}".'
        )
    weak = {name: each for name, each in test["per_label"].items() if each["recall"] is not None}
    if weak and not run.single_class:
        worst = min(weak, key=lambda name: float(weak[name]["recall"]))
        said.append(f'It finds "{worst}" least often: {weak[worst]["recall"]:.1%} of {weak[worst]["support"]:,}.')
    error = test.get("calibration_error")
    if error is not None:
        word = "may be read as chances" if error < 0.03 else "are no chances"
        said.append(f"Its probabilities {word}: certainty and accuracy are {100 * error:.1f} points apart on average.")
    if run.result.get("bad_samples"):
        said.append(f"{len(run.result['bad_samples']):,} images of the set could not be read and took no part.")
    return said


def _licence(origins: Mapping[str, int]) -> str:
    if set(origins) == {EMBEDDED}:
        return (
            "The images come from Bassline's own shop. Those it draws are under Bassline's licence, Apache-2.0, and so "
            "are weights learned from them; if it sold a folder of photographs (`--images`), they are their makers'."
        )
    known = _listed(tuple(origins)) if origins else "a source the set does not name"
    return (
        f"The images come from {known}. They belong to those who made them: this file holds none of them, and says "
        "nothing of what you may do with them. Whether weights learned from them may be passed on or used for trade is "
        "for you to find out before you do. Bassline itself is under Apache-2.0, which does not reach to the images."
    )


def _parts(data: Path) -> dict[str, dict[str, int]]:
    """Images by part and label, of the parts that are there."""
    found = {}
    for name in ("train", "val", "test"):
        path = data / name / "dataset.json"
        if path.is_file():
            found[name] = dict(json.loads(path.read_text(encoding="utf-8"))["counts"])
    return found


def _origins(data: Path) -> dict[str, int]:
    """Hosts the test images came from, most frequent first; EMBEDDED for our own shop."""
    from shards.shard_set import ShardSet

    counts: Counter[str] = Counter()
    with ShardSet.open(data / "test") as test:
        for i in range(min(len(test), _LOOKED_AT)):
            meta = test.meta(i)
            host = urlsplit(str(meta.get("image_url") or meta.get("url") or "")).hostname
            counts[EMBEDDED if meta.get("site") == "embedded" else host or "folders of files"] += 1
    return dict(counts.most_common(10))
