"""The game's rules: what is asked, who is ahead, which key means what."""

from __future__ import annotations

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.game import Game, Question, deal, hardest, keys_for, meant

LABELS = st.lists(st.text(string.ascii_letters + string.digits + " -ä", max_size=8), min_size=1, max_size=30)


@st.composite
def games(draw: st.DrawFn) -> tuple[Game, list[int]]:
    labels = tuple(f"label {n}" for n in range(draw(st.integers(2, 5))))
    number = st.integers(0, len(labels) - 1)
    rounds = draw(st.integers(1, 30))
    questions = []
    for i in range(rounds):
        shares = draw(st.lists(st.floats(0.01, 1), min_size=len(labels), max_size=len(labels)))
        questions.append(Question(i, f"key{i}", draw(number), tuple(share / sum(shares) for share in shares)))
    return Game(labels, tuple(questions)), draw(st.lists(number, min_size=0, max_size=rounds))


@settings(max_examples=50)
@given(games())
def test_a_score_is_what_was_answered(made: tuple[Game, list[int]]) -> None:
    game, answers = made
    for number, label in enumerate(answers):
        assert game.question is game.questions[number]
        turn = game.answer(label, 0.5)
        assert turn.person == label
    score = game.score()
    truths = [question.truth for question in game.questions[: len(answers)]]
    said = [int(np.argmax(question.probabilities)) for question in game.questions[: len(answers)]]
    assert score.images == len(answers)
    assert score.person == sum(a == t for a, t in zip(answers, truths, strict=True))
    assert score.network == sum(s == t for s, t in zip(said, truths, strict=True))
    assert score.only_person - score.only_network == score.person - score.network
    assert sum(one.images for one in score.by_label) == len(answers)
    assert sum(one.person for one in score.by_label) == score.person
    assert sum(one.network for one in score.by_label) == score.network
    assert score.commonest == max((truths.count(label) for label in truths), default=0)
    assert score.seconds == pytest.approx(0.5 * len(answers))
    assert [turn.question.number for turn in game.differences] == [
        n for n, (a, s) in enumerate(zip(answers, said, strict=True)) if a != s
    ]
    ahead = score.person - score.network
    expected = "nobody" if not answers else "draw" if not ahead else "person" if ahead > 0 else "network"
    assert score.winner == expected
    assert 0 <= score.luck <= 1
    assert game.finished == (len(answers) == len(game.questions))


@settings(max_examples=50)
@given(games())
def test_whoever_answers_as_the_network_does_draws(made: tuple[Game, list[int]]) -> None:
    game, _ = made
    while (question := game.question) is not None:
        game.answer(question.network)
    score = game.score()
    assert (score.winner, score.luck, game.differences) == ("draw", 1.0, [])
    assert (score.single != "") == (len({q.network for q in game.questions}) == 1 and len(game.questions) > 1)


def test_an_answer_is_one_of_the_labels_and_in_time() -> None:
    game = Game(("a", "b"), (Question(0, "k", 0, (0.4, 0.6)),))
    with pytest.raises(ValueError, match="label 2 of 2"):
        game.answer(2)
    game.answer(0, -1.0)
    assert game.told(game.turns[0]) == {
        "key": "k", "truth": "a", "person": "a", "network": "b", "certainty": 0.6, "seconds": 0.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match="over"):
        game.answer(0)


@settings(max_examples=50)
@given(st.integers(0, 200), st.integers(0, 2**24))
def test_a_deal_asks_each_once_and_is_the_seeds(samples: int, seed: int) -> None:
    order = deal(samples, seed).tolist()
    assert sorted(order) == list(range(samples))
    assert order == deal(samples, seed).tolist()


def test_seeds_deal_differently() -> None:
    assert len({tuple(deal(50, seed)[:5].tolist()) for seed in range(20)}) == 20


@settings(max_examples=50)
@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 80), st.integers(0, 1000))
def test_the_hardest_are_those_with_the_least_margin(samples: int, labels: int, rounds: int, seed: int) -> None:
    drawn = np.random.default_rng(seed).dirichlet(np.ones(labels), samples).round(1).astype(np.float32)
    found = hardest(drawn, rounds, seed).tolist()
    assert len(found) == len(set(found)) == min(rounds, samples)
    assert found == hardest(drawn, rounds, seed).tolist()
    if labels > 1:
        ranked = np.sort(drawn.astype(np.float64), axis=1)
        margin = ranked[:, -1] - ranked[:, -2]
        assert sorted(margin[found]) == pytest.approx(sorted(margin)[: len(found)])


def test_the_order_of_the_hardest_does_not_tell_how_sure_the_network_was() -> None:
    drawn = np.stack([np.linspace(0.5, 1, 40), 1 - np.linspace(0.5, 1, 40)], 1).astype(np.float32)
    assert sorted(hardest(drawn, 20, 3).tolist()) == list(range(20))
    assert hardest(drawn, 20, 3).tolist() != list(range(20))


@settings(max_examples=50)
@given(LABELS)
def test_keys_mean_one_label_and_never_the_end(labels: list[str]) -> None:
    keys = keys_for(labels)
    every = [key for own in keys for key in own]
    assert len(every) == len(set(every))
    assert "q" not in every
    if len(labels) <= 9:
        assert [own[0] for own in keys] == [str(number) for number in range(1, len(labels) + 1)]
    begin = [next((letter for letter in label.lower() if letter in string.ascii_lowercase), "") for label in labels]
    for place, letter in enumerate(begin):
        assert begin.count(letter) == 1 or letter not in every
        if letter and letter != "q" and begin.count(letter) == 1:
            assert letter in keys[place]


@settings(max_examples=50)
@given(LABELS.map(lambda labels: list(dict.fromkeys(label.strip().casefold() for label in labels))))
def test_a_name_a_number_and_a_key_mean_their_label(labels: list[str]) -> None:
    for place, label in enumerate(labels):
        if label:
            assert meant(labels, f" {label.upper()} ") == place
        if str(place + 1) not in labels:
            assert meant(labels, str(place + 1)) == place
    for place, own in enumerate(keys_for(labels)):
        for key in own:
            assert key in labels or meant(labels, key) == place


def test_what_means_no_label_or_several() -> None:
    labels = ("bass", "banjo", "guitar", "7")
    assert [meant(labels, text) for text in ("", "ba", "x", "0", "5", "9" * 20, "guitars", "²")] == [None] * 8
    assert (meant(labels, "ban"), meant(labels, "gu"), meant(labels, "7"), meant(labels, "4")) == (1, 2, 3, 3)
    assert keys_for(("bass", "banjo", "quena")) == (("1", "a"), ("2", "n"), ("3", "u"))
