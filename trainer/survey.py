"""What a net looks at over many images: which are worth showing, their maps, the mean maps of each label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.explain import Explainer, Filters, Floats
from trainer.nets import build_net
from trainer.predict import Model
from trainer.sanity import Sanity, judge

__all__ = ["Group", "LabelMaps", "Seen", "Subjects", "Survey", "survey"]

SANITY_IMAGES, SANITY_STEPS = 8, 8
"""Images, and points of the integral, by which maps are held against random weights: a mean over eight says enough."""

PER_LABEL = {"gradcam": 60, "hirescam": 60, "ig": 12}
"""Images of a label that its mean map is over, at most: integrated gradients cost some forty times a CAM."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """Images that can be read.

    Args:
        names: keys or file names.
        squares: uint8 (N, size, size, 3).
        truth: numbers of their labels, None where they are not known.
        probabilities: float32 (N, labels).
    """

    names: tuple[str, ...]
    squares: torch.Tensor
    truth: NDArray[np.int64] | None
    probabilities: Floats

    @property
    def answers(self) -> NDArray[np.int64]:
        """Numbers of the likeliest labels."""
        likeliest: NDArray[np.int64] = self.probabilities.argmax(1)
        return likeliest


@dataclass(frozen=True, slots=True)
class Seen:
    """One image and its maps.

    Args:
        number: its place among the subjects.
        maps: by method, for the answer.
        for_truth: the CAM for the true label, where the answer is another.
    """

    number: int
    maps: dict[str, Floats]
    for_truth: Floats | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Images that are shown together, and why."""

    title: str
    images: list[Seen]


@dataclass(frozen=True, slots=True)
class LabelMaps:
    """The mean image of a label, float32 (size, size, 3), and its mean maps for that label; over how many images."""

    label: str
    images: int
    picture: Floats
    maps: dict[str, Floats]


@dataclass(slots=True)
class Survey:
    """What was found; `single_class` is the only label ever answered, where the images' labels are several.

    `gap`: the median share of the answer that integrated gradients miss.
    """

    subjects: Subjects
    groups: list[Group] = field(default_factory=list)
    labels: list[LabelMaps] = field(default_factory=list)
    sanity: list[Sanity] = field(default_factory=list)
    filters: Filters | None = None
    shown_filters: list[int] = field(default_factory=list)
    single_class: str | None = None
    gap: float | None = None


def survey(
    explainer: Explainer,
    subjects: Subjects,
    *,
    images: int = 24,
    draws: int = 3,
    whole: bool = True,
    per_label: Mapping[str, int] = PER_LABEL,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Survey:
    """Explains the images worth showing.

    Args:
        images: how many, in all.
        draws: of random weights; 0 leaves the sanity check out.
        whole: with mean maps and filters.
        per_label: images a mean map is over, by method; one that is not named gets none.
        on_progress: called with what is done, of how much, and what comes.
    """
    model, found = explainer.model, Survey(subjects)
    chosen = _choose(subjects, images)
    steps = len(chosen) + len(model.labels) * (whole and subjects.truth is not None) + len(explainer.methods)
    done = 0

    def tell(what: str) -> None:
        nonlocal done
        if on_progress is not None:
            on_progress(done, steps, what)
        done += 1

    answers = subjects.answers
    if subjects.truth is not None and len(np.unique(subjects.truth)) > 1 and len(np.unique(answers)) == 1:
        found.single_class = model.labels[int(answers[0])]
    gaps: list[float] = []
    for title, numbers in chosen:
        tell(title.lower())
        found.groups.append(Group(title, _explain(explainer, subjects, numbers, gaps)))
    found.gap = float(np.median(gaps)) if gaps else None
    if whole and subjects.truth is not None:
        for label, name in enumerate(model.labels):
            tell(f"the mean map of {name}")
            members = np.flatnonzero(subjects.truth == label)
            if len(members):
                found.labels.append(_mean_maps(explainer, subjects, name, label, members, per_label))
    if whole:
        found.shown_filters = [group[0] for _, group in chosen if group][:3] or [0]
        found.filters = explainer.filters(subjects.squares[found.shown_filters])
    if draws:
        found.sanity = _sanity(explainer, subjects, draws, tell)
    return found


def _choose(subjects: Subjects, images: int) -> list[tuple[str, list[int]]]:
    """Titles and numbers of the images to show; of few images all, in their order."""
    count, certainty, truth = len(subjects.names), subjects.probabilities.max(1), subjects.truth
    if truth is None or count <= images:
        return [("The images", list(range(min(count, images))))]
    right = subjects.answers == truth
    wrong = np.flatnonzero(~right)
    wrong = wrong[np.argsort(-certainty[wrong], kind="stable")]
    sure = np.flatnonzero(right)
    sure = sure[np.argsort(-certainty[sure], kind="stable")]
    unsure = np.argsort(certainty, kind="stable")
    third = max(1, images // 3)
    picked: list[tuple[str, list[int]]] = [
        ("Where it looks when it errs: the surest mistakes", wrong[:third].tolist()),
        ("The most certain", _spread(sure, truth, third)),
    ]
    taken = {number for _, numbers in picked for number in numbers}
    picked.append(("The least certain", [int(i) for i in unsure if int(i) not in taken][:third]))
    return [(title, numbers) for title, numbers in picked if numbers]


def _spread(order: NDArray[np.int64], truth: NDArray[np.int64], count: int) -> list[int]:
    """The first of each label in turns, in the order given: otherwise one easy label fills the page."""
    by_label: dict[int, list[int]] = {}
    for number in order.tolist():
        by_label.setdefault(int(truth[number]), []).append(number)
    rounds = max((len(each) for each in by_label.values()), default=0)
    turns = [each[turn] for turn in range(rounds) for each in by_label.values() if turn < len(each)]
    return turns[:count]


def _explain(explainer: Explainer, subjects: Subjects, numbers: Sequence[int], gaps: list[float]) -> list[Seen]:
    squares, answers = subjects.squares[list(numbers)], subjects.answers[list(numbers)].tolist()
    maps = {}
    for method in explainer.methods:
        made = explainer.maps(method, squares, answers)
        maps[method] = made.values
        gaps.extend([] if made.gap is None else made.gap.tolist())
    cam = next((method for method in ("hirescam", "gradcam") if method in maps), None)
    wrong = [] if subjects.truth is None else [
        row for row, number in enumerate(numbers) if subjects.truth[number] != answers[row]
    ]  # fmt: skip
    others: dict[int, Floats] = {}
    if cam and wrong:
        assert subjects.truth is not None
        goals = [int(subjects.truth[numbers[row]]) for row in wrong]
        others = dict(zip(wrong, explainer.maps(cam, squares[wrong], goals).values, strict=True))
    return [
        Seen(number, {method: values[row] for method, values in maps.items()}, others.get(row))
        for row, number in enumerate(numbers)
    ]


def _mean_maps(
    explainer: Explainer,
    subjects: Subjects,
    name: str,
    label: int,
    members: NDArray[np.int64],
    per_label: Mapping[str, int],
) -> LabelMaps:
    maps = {}
    for method, most in per_label.items():
        if method in explainer.methods:
            few = members[np.linspace(0, len(members) - 1, min(most, len(members))).astype(int)]
            values = explainer.maps(method, subjects.squares[few], [label] * len(few)).values
            maps[method] = values.mean(0)
    picture = subjects.squares[members].float().mean(0).numpy()
    return LabelMaps(name, len(members), picture, maps)


def _sanity(explainer: Explainer, subjects: Subjects, draws: int, tell: Callable[[str], None]) -> list[Sanity]:
    """Occlusion is left out: it asks the net itself about a changed image, so it cannot be blind to the weights."""
    model, count = explainer.model, len(subjects.names)
    numbers = np.linspace(0, count - 1, min(SANITY_IMAGES, count)).astype(int).tolist()
    squares, targets = subjects.squares[numbers], subjects.answers[numbers].tolist()
    touched = (explainer.planes(squares) - explainer.blank).abs().amax(1).gt(1e-3).cpu().numpy()
    judged = []
    for method in explainer.methods:
        if method == "occlusion":
            continue
        tell(f"{method} of random weights")
        judged.append(
            judge(
                method,
                lambda net, method=method: explainer.maps(method, squares, targets, net, SANITY_STEPS).values,  # type: ignore[misc]
                model.net,
                lambda seed: fresh_net(model, seed),
                counted=touched if method == "ig" else None,
                draws=draws,
            )
        )
    return judged


def fresh_net(model: Model, seed: int) -> torch.nn.Module:
    """A net like the model's, as before training; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_net(model.card.net, len(model.labels), model.card.size).to(model.device).eval()
