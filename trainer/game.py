"""A game of person against network: which images, in what order, who is ahead, who won. Reads no clock and no file."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.read import permutation
from trainer.compare import mcnemar
from trainer.metrics import wilson

__all__ = ["Game", "LabelScore", "Question", "Score", "Turn", "deal", "hardest", "keys_for", "meant"]

QUIT = "q"


@dataclass(frozen=True, slots=True)
class Question:
    """One image of a game.

    Args:
        number: of the sample in its set.
        key: of the sample; it may give the label away, so it is shown with the answer only.
        truth: number of its label.
        probabilities: the network's, by label number.
    """

    number: int
    key: str
    truth: int
    probabilities: tuple[float, ...]

    @property
    def network(self) -> int:
        """The network's answer; of equals the first."""
        return max(range(len(self.probabilities)), key=self.probabilities.__getitem__)

    @property
    def certainty(self) -> float:
        """The probability of the network's answer."""
        return self.probabilities[self.network]


@dataclass(frozen=True, slots=True)
class Turn:
    """A question with the person's answer, a label's number, and the seconds it took."""

    question: Question
    person: int
    seconds: float = 0.0

    @property
    def person_right(self) -> bool:
        """Whether the person named the truth."""
        return self.person == self.question.truth

    @property
    def network_right(self) -> bool:
        """Whether the network did."""
        return self.question.network == self.question.truth

    @property
    def differs(self) -> bool:
        """Whether the two gave different answers."""
        return self.person != self.question.network


@dataclass(frozen=True, slots=True)
class LabelScore:
    """Of one label: images of it that were asked, and how many of them the person and the network named right."""

    label: str
    images: int
    person: int
    network: int


@dataclass(frozen=True, slots=True)
class Score:
    """How a game stands.

    Args:
        images: answered so far.
        person, network: of these, right.
        only_person, only_network: right where the other was wrong.
        commonest: images of the label that was asked most: what always saying it would have got right.
        single: the only label that the network said over several images, "" if it said others too.
        by_label: of labels that were asked, in the labels' order.
        seconds: the person took in all.
    """

    images: int
    person: int
    network: int
    only_person: int
    only_network: int
    commonest: int
    single: str
    by_label: tuple[LabelScore, ...]
    seconds: float

    @property
    def winner(self) -> str:
        """ "person", "network" or "draw"; "nobody" of a game without answers."""
        if not self.images:
            return "nobody"
        return "draw" if self.person == self.network else "person" if self.person > self.network else "network"

    @property
    def luck(self) -> float:
        """How likely so uneven a result is between equals: McNemar's p-value over images that only one named right."""
        return mcnemar(self.only_person, self.only_network)[0]

    def to_json(self) -> dict[str, Any]:
        """Both scores with what they mean, as plain values."""

        def side(right: int, by_label: list[float]) -> dict[str, Any]:
            return {
                "right": right,
                "accuracy": right / self.images if self.images else None,
                "ci95": list(wilson(right, self.images)),
                "balanced_accuracy": sum(by_label) / len(by_label) if by_label else None,
            }

        return {
            "images": self.images,
            "person": side(self.person, [one.person / one.images for one in self.by_label]),
            "network": side(self.network, [one.network / one.images for one in self.by_label]),
            "winner": self.winner,
            "p_value": self.luck,
            "only_person_right": self.only_person,
            "only_network_right": self.only_network,
            "majority": self.commonest,
            "network_single_label": self.single or None,
            "by_label": {
                one.label: {"images": one.images, "person": one.person, "network": one.network} for one in self.by_label
            },
            "seconds": round(self.seconds, 3),
        }


@dataclass(slots=True)
class Game:
    """A game in progress.

    Attributes:
        labels: by number.
        questions: in the order they are asked.
        turns: played so far; turn i answers question i.
    """

    labels: tuple[str, ...]
    questions: tuple[Question, ...]
    turns: list[Turn] = field(default_factory=list)

    @property
    def question(self) -> Question | None:
        """The one to be answered next; None when all are."""
        return self.questions[len(self.turns)] if len(self.turns) < len(self.questions) else None

    @property
    def finished(self) -> bool:
        """Whether every question was answered."""
        return self.question is None

    def answer(self, label: int, seconds: float = 0.0) -> Turn:
        """Answers the question that is due.

        Raises:
            ValueError: there is none, or `label` is none of the labels.
        """
        if self.question is None:
            raise ValueError("the game is over")
        if not 0 <= label < len(self.labels):
            raise ValueError(f"label {label} of {len(self.labels)}")
        self.turns.append(Turn(self.question, label, max(0.0, seconds)))
        return self.turns[-1]

    @property
    def differences(self) -> list[Turn]:
        """The turns where person and network gave different answers."""
        return [turn for turn in self.turns if turn.differs]

    def score(self) -> Score:
        """How it stands."""
        turns = self.turns
        said = {turn.question.network for turn in turns}
        by_label = []
        for number, label in enumerate(self.labels):
            asked = [turn for turn in turns if turn.question.truth == number]
            if asked:
                person, network = (sum(turn.person_right for turn in asked), sum(turn.network_right for turn in asked))
                by_label.append(LabelScore(label, len(asked), person, network))
        return Score(
            images=len(turns),
            person=sum(turn.person_right for turn in turns),
            network=sum(turn.network_right for turn in turns),
            only_person=sum(turn.person_right and not turn.network_right for turn in turns),
            only_network=sum(turn.network_right and not turn.person_right for turn in turns),
            commonest=max((one.images for one in by_label), default=0),
            single=self.labels[said.pop()] if len(said) == 1 and len(turns) > 1 and len(self.labels) > 1 else "",
            by_label=tuple(by_label),
            seconds=sum(turn.seconds for turn in turns),
        )

    def told(self, turn: Turn) -> dict[str, Any]:
        """A turn as plain values, names for numbers."""
        question = turn.question
        return {
            "key": question.key,
            "truth": self.labels[question.truth],
            "person": self.labels[turn.person],
            "network": self.labels[question.network],
            "certainty": question.certainty,
            "seconds": round(turn.seconds, 3),
        }


def deal(samples: int, seed: int) -> NDArray[np.int64]:
    """The order in which a game asks a set's samples, int64 (samples,): each once, the same for a seed."""
    return permutation(samples, seed, 0)


def hardest(probabilities: NDArray[np.float32], rounds: int, seed: int) -> NDArray[np.int64]:
    """The samples whose two likeliest labels lie closest, each once, in an order that does not tell how close.

    Args:
        probabilities: the network's over all samples, (N, labels).
        rounds: images at most.
        seed: decides the order, and who is taken of equals.

    Returns:
        int64 (min(rounds, N),).
    """
    order = deal(len(probabilities), seed)
    if probabilities.shape[1] < 2:
        return order[:rounds]
    two = np.partition(probabilities.astype(np.float64), -2, axis=1)[:, -2:]
    margin = two[:, 1] - two[:, 0]
    found = order[np.argsort(margin[order], kind="stable")][:rounds]
    return found[permutation(len(found), seed, 1)]


def keys_for(labels: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The keys that answer each label at once, the number first where there is one.

    Up to nine labels have their numbers, 1 to 9; with more, a number is typed and ended by Enter. Besides, a label has
    its first letter where no other begins with it, or else another letter of its name that is free and begins none of
    several names, as long as there is one. `q` is never taken: it ends the game.
    """
    names = [[letter for letter in label.lower() if letter in string.ascii_lowercase] for label in labels]
    first = [name[0] if name else "" for name in names]
    letters: dict[int, str] = {
        place: letter for place, letter in enumerate(first) if letter and letter != QUIT and first.count(letter) == 1
    }
    shared = {letter for letter in first if first.count(letter) > 1}  # pressed for one, it would answer another
    for place, name in enumerate(names):
        taken = {QUIT, *letters.values(), *shared}
        free = next((letter for letter in name if letter not in taken), None)
        if place not in letters and free is not None:
            letters[place] = free
    return tuple(
        (*([str(place + 1)] if len(labels) <= 9 else []), *([letters[place]] if place in letters else []))
        for place in range(len(labels))
    )


def meant(labels: Sequence[str], text: str) -> int | None:
    """The label that a typed answer means: its name, its number from 1, its key, or the one name that begins so.

    Returns:
        None where it means none, or could mean several.
    """
    text = text.strip().casefold()
    names = [label.casefold() for label in labels]
    if text in names:
        return names.index(text) if names.count(text) == 1 else None
    if text.isascii() and text.isdigit():
        return int(text) - 1 if len(text) < 9 and 1 <= int(text) <= len(labels) else None
    for place, keys in enumerate(keys_for(labels)):
        if text in keys:
            return place
    begun = [place for place, name in enumerate(names) if text and name.startswith(text)]
    return begun[0] if len(begun) == 1 else None
