"""A table laid for a game: the set, the model, the network's answers taken beforehand, and the pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bassline import places
from bassline.predict import choose_part
from shards.errors import BasslineError, ConfigError
from shards.shard_set import ShardSet
from trainer.game import Game, Question, deal, hardest

if TYPE_CHECKING:
    from trainer.predict import Model

__all__ = ["NothingToPlay", "Table", "lay"]

_BATCH = 256


class NothingToPlay(BasslineError):
    """The set has no image that can be shown."""


@dataclass(slots=True)
class Table:
    """What a game is played with.

    Attributes:
        game: the game.
        run: the model's name.
        source: the set the images are from.
        part: its name in its split, or the set's own.
        model, data: what the model and the set are known by among high scores.
        network_size: pixels a side that the network sees.
        seed, hard, rounds: as the game was asked for; rounds may be more than there are images.
        unread: images that were passed over because they cannot be read.
    """

    game: Game
    run: str
    source: ShardSet
    part: str
    model: str
    data: str
    network_size: int
    seed: int
    hard: bool
    rounds: int
    unread: int
    _network: Model
    _same_pixels: bool

    def pixels(self, question: Question) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The picture upright, uint8 RGB (H, W, 3): the shop's own pixels, or those that the network sees."""
        from trainer.decode import read_rgb

        data = self.source.image(question.number)
        if self._same_pixels:
            squares, _ = self._network.squares([data])
            return np.asarray(squares[0].numpy())
        return read_rgb(data)

    def title(self, question: Question) -> str:
        """What the shop called it, "" if it is not known; it gives the answer away."""
        from shards.shard_errors import ShardError

        try:
            meta = self.source.meta(question.number)
        except ShardError:
            return ""
        words = [str(meta[name]) for name in ("maker", "title") if isinstance(meta.get(name), str)]
        return " ".join(" ".join(words).split())[:120]


def lay(
    model: Model,
    data: Path,
    part: str,
    *,
    rounds: int,
    seed: int,
    hard: bool,
    same_pixels: bool,
    on_progress: Callable[[int, int], None],
) -> Table:
    """Deals a game. The network answers before the person does, in batches; images it cannot read are not dealt.

    Raises:
        ConfigError: no such part; a label of the set is none of the model's.
        NothingToPlay: not one image can be read.
    """
    folder = choose_part(data, part)
    source = ShardSet.open(folder)
    unknown = [label for label in source.labels if label not in model.labels]
    if unknown:
        known = ", ".join(model.labels)
        raise ConfigError("--data", unknown[0], f"a label of the set that the model does not know; it knows {known}")
    numbers = [model.labels.index(label) for label in source.labels]
    asked: list[Question] = []
    unread = 0
    order = deal(len(source), seed)
    total = len(order) if hard else min(rounds, len(order))
    for question in _answered(model, source, order.tolist(), numbers, total):
        if question is None:
            unread += 1
            continue
        asked.append(question)
        on_progress(min(len(asked), total), total)
        if not hard and len(asked) == rounds:
            break
    if not asked:
        raise NothingToPlay(f"{places.shown(folder)}: no image of {len(source):,} can be read; give another set")
    if hard:
        shares = np.array([question.probabilities for question in asked], np.float32)
        asked = [asked[place] for place in hardest(shares, rounds, seed).tolist()]
    card = model.card
    known_by = hashlib.sha256(f"{card.config_hash} {card.data_digest} {card.epoch}".encode()).hexdigest()[:16]
    game = Game(model.labels, tuple(asked))
    name = source.manifest.split or folder.name
    return Table(
        game, card.run, source, name, known_by, source.digest[:16], card.size, seed, hard, rounds, unread, model,
        same_pixels,
    )  # fmt: skip


def _answered(
    model: Model, source: ShardSet, order: list[int], numbers: list[int], first: int
) -> Iterator[Question | None]:
    """Questions in an order; None for an image that cannot be read. The first batch is what is surely wanted."""
    start = 0
    while start < len(order):
        chunk = order[start : start + min(_BATCH, max(first - start, 16))]
        start += len(chunk)
        answers = model.predict([source.image(i) for i in chunk])
        for i, answer in zip(chunk, answers, strict=True):
            if answer.error is not None:
                yield None
            else:
                truth = numbers[int(source.label_ids[i])]
                yield Question(i, source.key(i), truth, tuple(answer.probabilities[label] for label in model.labels))
