"""The game as it is played: by lines in a pipe, by keys in a terminal, and what is kept of it."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import shutil
import signal
import sys
import termios
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from bassline import high_scores
from bassline.__main__ import main
from shards.sample import Sample
from shards.writer import write_set

from .conftest import Run
from .game_run import LABELS, answers, picture

Pipe = Callable[..., tuple[dict[str, Any], str]]


@pytest.fixture
def run(game_run: Path, tmp_path: Path) -> Path:
    """A run folder of the test's own, for its high scores."""
    return Path(shutil.copytree(game_run / "run", tmp_path / "run"))


@pytest.fixture
def piped(bassline: Run, run: Path, game_run: Path, monkeypatch: pytest.MonkeyPatch) -> Pipe:
    """Plays with answers from a pipe; gives the JSON and what was said."""

    def play(said: str | bytes, *arguments: str | Path, data: Path = game_run / "split") -> tuple[dict[str, Any], str]:
        raw = said.encode() if isinstance(said, str) else said
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))
        done = bassline("play", run, "--data", data, "--json", *arguments)
        (line,) = done.stdout.splitlines()
        return json.loads(line), done.stderr

    return play


def test_a_game_to_the_end_is_scored_as_the_runs_own_answers_say(piped: Pipe, game_run: Path) -> None:
    told, said = piped("guitar\n2\nba\nBANJO\n" * 10, "--seed", "1")
    expected = answers(game_run)  # of 29: the damaged one is not asked
    assert [told[name] for name in ("rounds", "images", "unread", "finished")] == [29, 29, 1, True]
    assert {turn["key"] for turn in told["turns"]} == set(expected)
    for turn in told["turns"]:
        assert (turn["truth"], turn["network"]) == (expected[turn["key"]]["label"], expected[turn["key"]]["predicted"])
        assert turn["certainty"] == pytest.approx(expected[turn["key"]]["probability"], abs=1e-4)
    for who in ("person", "network"):
        right = sum(turn[who] == turn["truth"] for turn in told["turns"])
        assert told[who]["right"] == right
        of_label = [sum(t[who] == t["truth"] for t in told["turns"] if t["truth"] == label) for label in LABELS]
        assert [told["by_label"][label][who] for label in LABELS] == of_label
    assert told["differences"] == [turn["key"] for turn in told["turns"] if turn["person"] != turn["network"]]
    ahead = told["person"]["right"] - told["network"]["right"]
    assert told["winner"] == ("person" if ahead > 0 else "network" if ahead else "draw")
    assert f"{told['person']['right']} of 29" in said
    assert "'ba' is no label" in said  # banjo or bass
    assert "Where you differed" in said


def test_a_seed_is_a_deal(piped: Pipe) -> None:
    keys = [
        [turn["key"] for turn in piped("1\n" * 9, "--rounds", "9", *seed)[0]["turns"]]
        for seed in (("--seed", "7"), ("--seed", "7"), ("--seed", "8"), (), ())
    ]
    assert keys[0] == keys[1]
    assert len({tuple(one) for one in keys}) == 4
    assert all(len(set(one)) == 9 for one in keys)


def test_hard_asks_what_the_network_is_least_sure_of(piped: Pipe, game_run: Path) -> None:
    told, _ = piped("1\n" * 6, "--hard", "--rounds", "6", "--seed", "3")
    ranked = {key: sorted(one["probabilities"]) for key, one in answers(game_run).items()}
    margins = {key: shares[-1] - shares[-2] for key, shares in ranked.items()}
    assert {turn["key"] for turn in told["turns"]} == set(sorted(margins, key=margins.__getitem__)[:6])


def test_nothing_gives_an_answer_away_before_it_is_given(piped: Pipe) -> None:
    told, _ = piped("1\n1\n1\n", "--seed", "5", "--rounds", "3")
    key = told["turns"][1]["key"]
    _, said = piped("1\nq\n", "--seed", "5", "--rounds", "3", "--pictures", "quarters")
    assert key not in said
    assert said.count("truth") == 2  # of the first turn, and of the last screen's heading
    assert "image 2 of 3" in said
    assert "▀" in said


@pytest.mark.parametrize("said", ["1\n1\n", "1\n1\nq\n1\n1\n", "1\n1\nquit\n", b"\xff\xfe\n1\n\n1\n"])
def test_a_game_ends_early(piped: Pipe, said: str | bytes) -> None:
    told, screen = piped(said, "--rounds", "5")
    assert (told["images"], told["finished"], told["interrupted"]) == (2, False, False)
    assert "ended after 2" in screen
    assert told["high_scores"]["place"] is None


def test_one_image_is_one(piped: Pipe) -> None:
    _, screen = piped("1\n", "--rounds", "1")
    assert ": 1 image of test" in screen
    assert re.search(r"would have been right 1 time\b", screen)
    assert "Best of 1 image\n" in re.sub(r" +\n", "\n", screen)


def test_nobody_answers(piped: Pipe, run: Path) -> None:
    told, screen = piped("", "--rounds", "5")
    assert (told["winner"], told["high_scores"], told["person"]["accuracy"]) == ("nobody", None, None)
    assert "no image was answered" in screen
    assert not (run / "scores.json").exists()


def test_a_closed_stdin_is_an_end(bassline: Run, run: Path, game_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    done = bassline("play", run, "--data", game_run / "split", "--rounds", "2")
    assert "no image was answered" in done.stdout


def test_high_scores_are_kept_in_the_run_and_ranked(piped: Pipe, run: Path) -> None:
    first, _ = piped("guitar\n" * 9, "--rounds", "9", "--seed", "1", "--name", "[b]Ann")
    truths = "".join(f"{turn['truth']}\n" for turn in first["turns"])
    again, _ = piped(truths, "--rounds", "9", "--seed", "1", "--name", "[b]Ann")
    other, screen = piped(truths, "--rounds", "9", "--seed", "1", "--name", "Bob")
    assert first["high_scores"]["place"] == 1
    assert again["high_scores"]["place"] is None  # she had seen them
    assert (other["high_scores"]["place"], other["person"]["right"]) == (1, 9)
    assert [game["name"] for game in other["high_scores"]["best"]] == ["Bob", "[b]Ann"]
    assert "[b]Ann" in screen
    assert len(high_scores.read(run / "scores.json")) == 3
    assert [path.name for path in run.iterdir() if path.name.endswith(".tmp")] == []


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"format": 1, "games": [{}]}', b"\xff\x00", b'{"format": 2}'])
def test_damaged_high_scores_get_one_line_and_are_left_alone(piped: Pipe, run: Path, damage: bytes) -> None:
    (run / "scores.json").write_bytes(damage)
    told, screen = piped("1\n1\n", "--rounds", "2")
    assert (told["finished"], told["high_scores"]) == (True, None)
    assert screen.count("scores.json") == 1
    assert "it is left as it is" in " ".join(screen.split())
    assert (run / "scores.json").read_bytes() == damage


def test_games_that_end_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    game = {"images": 1, "person": 1, "network": 1, "rounds": 1, "seed": 0, "seconds": 1.0, "finished": True}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: high_scores.record(tmp_path / "s" / "x.json", {**game, "name": name}), range(24)))
    assert sorted(game["name"] for game in high_scores.read(tmp_path / "s" / "x.json")) == list(range(24))


def test_a_model_alone_keeps_its_scores_with_the_user(
    bassline: Run, run: Path, game_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"1\n")))
    bassline("play", run / "best.safetensors", "--data", game_run / "split" / "val", "--rounds", "1")
    (kept,) = high_scores.read(tmp_path / "state" / "bassline" / "scores.json")
    assert kept["run"] == "tiny"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--data", "nowhere"], 2, "nowhere: no such folder"),
        (["--data", "SPLIT", "--part", "dev"], 2, "has the parts train, val, test"),
        (["--data", "SPLIT", "--web", "--pictures", "sixel"], 2, "a browser shows the images themselves"),
        (["--data", "SPLIT", "--pictures", "kitty"], 2, "needs a terminal with keys"),
        (["--data", "others"], 2, "harp: a label of the set that the model does not know"),
        (["--data", "broken"], 1, "no image of 1 can be read"),
        (["--data", "SPLIT", "--rounds", "0"], 2, "--rounds"),
    ],
)
def test_what_cannot_be_played(
    bassline: Run, run: Path, game_run: Path, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    for name, labels, body in (("others", ["bass", "harp"], picture(1, 1)), ("broken", ["bass"], picture(1, 1)[:400])):
        with write_set(tmp_path / name, [Sample("x", body, "jpg", 0, {})], labels, source={}):
            pass
    arguments = [str(game_run / "split") if argument == "SPLIT" else argument for argument in arguments]
    done = bassline("play", run, *arguments, check=code)
    assert said in " ".join(done.stderr.split())


class Person(Thread):
    """Sits at the other end of a terminal: waits for a text, then presses keys. `saw` is all that was drawn."""

    def __init__(self, master: int, script: list[tuple[str, str | Callable[[], object]]], answer: str = "") -> None:
        super().__init__()
        self._master, self._script, self._answer = master, script, answer
        self.saw = ""
        self.missed: str | None = None
        self.done = Event()

    def run(self) -> None:
        seen = 0
        for text, then in [("\x1b[c", self._answer), *self._script]:
            seen = self._wait_for(text, seen)
            if self.missed is not None:
                os.kill(os.getpid(), signal.SIGINT)
                break
            if callable(then):
                then()
            else:
                os.write(self._master, then.encode())
        while not self.done.is_set():  # a terminal that nobody reads would stop the game
            self._look(0.02)
        self._look(0.0)

    def _wait_for(self, text: str, seen: int) -> int:
        until = time.monotonic() + 30
        while (at := self.saw.find(text, seen)) < 0:
            if time.monotonic() > until:
                self.missed = text
                break
            self._look(0.05)
        return at + len(text)

    def _look(self, wait_s: float) -> None:
        while select.select([self._master], [], [], wait_s)[0]:
            self.saw += os.read(self._master, 65536).decode(errors="replace")
            wait_s = 0.0


Sit = Callable[..., tuple[dict[str, Any], str]]


@pytest.fixture
def seated(run: Path, game_run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Sit:
    """Plays at a terminal of 100 x 30, drawn on by stderr; gives the JSON and all that was drawn.

    In this process: a person in a thread is at the other end of the terminal.
    """

    def play(
        script: list[tuple[str, str | Callable[[], object]]], *arguments: str, answer: str = "\x1b[?62;c", code: int = 0
    ) -> tuple[dict[str, Any], str]:
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (30, 100))
        before = termios.tcgetattr(slave)
        person = Person(master, script, answer)
        with os.fdopen(slave, "r") as keys, os.fdopen(os.dup(slave), "w") as screen:
            monkeypatch.setattr(sys, "stdin", keys)
            monkeypatch.setattr(sys, "stderr", screen)
            monkeypatch.setenv("TERM", "xterm-256color")
            monkeypatch.delenv("COLORTERM", raising=False)
            monkeypatch.delenv("TMUX", raising=False)
            command = ["bassline", "play", str(run), "--data", str(game_run / "split"), "--json", *arguments]
            monkeypatch.setattr(sys, "argv", command)
            person.start()
            with pytest.raises(SystemExit) as ended:
                main()
            screen.flush()
            person.done.set()
            person.join(40)
            after = termios.tcgetattr(slave)
        os.close(master)
        assert person.missed is None, person.saw[-3000:]
        assert (ended.value.code or 0) == code, person.saw[-3000:]
        assert after == before
        assert person.saw.count("\x1b[?1049h") == person.saw.count("\x1b[?1049l") == 1
        assert person.saw.rindex("\x1b[?25h") > person.saw.rindex("\x1b[?25l")
        return json.loads(capfd.readouterr().out.splitlines()[-1]), person.saw

    return play


def test_a_game_by_keys(seated: Sit) -> None:
    script: list[tuple[str, str | Callable[[], object]]] = [
        ("image 1 of 4", "x"),  # no label's key
        ("'x' is no label's key", "\x1b[A\x1bOAs"),  # arrows are passed over; the A in them is banjo's key
        ("any key goes on", " "),
        ("image 2 of 4", "1"),
        ("any key goes on", "\r"),
        ("image 3 of 4", "G"),
        ("any key goes on", "3"),  # no answer to the picture that comes
        ("image 4 of 4", "2"),
        ("any key shows who won", "z"),
        ("Accuracy by label", ""),
    ]
    told, saw = seated(script, "--rounds", "4", "--seed", "2")
    assert [turn["person"] for turn in told["turns"]] == ["bass", "banjo", "guitar", "bass"]
    assert (told["finished"], told["images"]) == (True, 4)
    screens = saw.split("\x1b[2J\x1b[H")
    asked = [screen for screen in screens if "ends the game" in screen and "any key" not in screen]
    for turn in told["turns"]:
        assert not any(turn["key"] in screen for screen in asked)
        assert any(turn["key"] in screen and "truth" in screen for screen in screens)
    assert "48;5;" in asked[0]  # 256 colours: the terminal answered nothing of more
    assert re.search(r"[▘▝▀▖▌▞▛]", asked[0])
    assert "You against" in saw[saw.index("\x1b[?1049l") :]


def test_q_ends_a_game_by_keys(seated: Sit) -> None:
    told, saw = seated([("image 1 of 5", "1"), ("any key goes on", " "), ("image 2 of 5", "q")], "--rounds", "5")
    assert (told["images"], told["finished"], told["interrupted"]) == (1, False, False)
    assert "ended after 1" in saw


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_game_keeps_what_was_played_and_restores_the_terminal(
    seated: Sit, run: Path, number: int
) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), number)

    told, saw = seated([("image 1 of 5", "1"), ("any key goes on", " "), ("image 2 of 5", interrupt)], "--rounds", "5",
                       code=130)  # fmt: skip
    assert (told["images"], told["interrupted"]) == (1, True)
    assert "what was played is kept" in saw
    assert [game["images"] for game in high_scores.read(run / "scores.json")] == [1]


def test_what_the_terminal_says_it_can_is_what_it_gets(seated: Sit) -> None:
    quit_at_once: list[tuple[str, str | Callable[[], object]]] = [("image 1 of 5", "q")]
    _, saw = seated(quit_at_once, "--rounds", "5", answer="\x1b_Gi=31;OK\x1b\\\x1b[6;20;10t\x1b[?62;c")
    assert "\x1b_Ga=T,f=100" in saw
    _, saw = seated(quit_at_once, "--rounds", "5", answer="\x1b[6;8;4t\x1b[?62;4;9c")
    assert '\x1bP0;1;0q"1;1;' in saw
    _, saw = seated(quit_at_once, "--rounds", "5", "--pictures", "blocks", answer="\x1bP1$r48:2::1:2:3m\x1b\\\x1b[?62c")
    assert "48;2;" in saw.split("\x1b[2J\x1b[H")[-1]
    assert "▌" not in saw


def test_the_terminal_is_watched_for_its_size(seated: Sit) -> None:
    def narrower() -> None:
        termios.tcsetwinsize(sys.stdin.fileno(), (50, 60))

    _, saw = seated([("q ends", narrower), ("q ends", "q")], "--rounds", "5", "--seed", "1")
    first, second = [screen for screen in saw.split("\x1b[2J\x1b[H") if "image 1 of 5" in screen][:2]
    rows = [max(int(row) for row in re.findall(r"\x1b\[(\d+);1H", screen)) for screen in (first, second)]
    assert rows[0] < 30 <= rows[1] < 50


def test_many_labels_are_answered_by_a_number_and_enter(game_run: Path) -> None:
    """With more than nine labels digits are typed; at a terminal of this process, without a network."""
    import trainer
    from bassline import play_terminal
    from bassline.play_table import lay
    from bassline.terminal import Terminal

    table = lay(
        trainer.load(game_run / "run"), game_run / "split", "test", rounds=1, seed=1, hard=False, same_pixels=False,
        on_progress=lambda done, total: None,
    )  # fmt: skip
    table.game.labels = tuple(f"label {number}" for number in range(1, 15))
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    person = Person(master, [("number: _", "15"), ("number: 15_", "\r"), ("15 is no", "13"), ("number: 13_", "\x7f2\r"),
                             ("any key", " ")], "\x1b[?1c")  # fmt: skip
    person.start()
    try:
        play_terminal.play(table, Terminal(slave, slave), {"TERM": "xterm"}, "none")
    finally:
        person.done.set()
        person.join()
        os.close(master)
        os.close(slave)
    assert person.missed is None
    assert [turn.person for turn in table.game.turns] == [11]


def test_the_person_may_see_what_the_network_sees(game_run: Path) -> None:
    import trainer
    from bassline.play_table import lay

    model = trainer.load(game_run / "run")
    made = {
        same: lay(model, game_run / "split", "test", rounds=2, seed=1, hard=False, same_pixels=same,
                  on_progress=lambda done, total: None)
        for same in (False, True)
    }  # fmt: skip
    question = made[True].game.questions[0]
    seen = made[True].pixels(question)
    assert seen.shape == (32, 32, 3)
    assert (seen == model.squares([made[True].source.image(question.number)])[0][0].numpy()).all()
    assert made[False].pixels(question).shape == (60, 48, 3)
    assert np.asarray(made[False].game.questions[0].number) == question.number
