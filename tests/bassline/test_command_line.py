"""Wrong usage gets one line and its exit code; help shows an example; nothing shows a traceback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from typer.main import get_command

from bassline.__main__ import _wait_briefly, app

from .conftest import Run

ROOT = Path(__file__).resolve().parents[2]


def _commands() -> list[list[str]]:
    found: list[list[str]] = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found += [[name, sub] for sub in inner] if inner else [[name]]
    return found


def test_the_commands_are_those_of_the_readme() -> None:
    shown = re.findall(r"^\| `bassline (.+?)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    named = set()
    for line in shown:
        words = [
            word for word in line.replace("\\|", "|").split() if word[0] != "-" and (word.islower() or "|" in word)
        ]
        group, rest = words[0], words[1:]
        named |= {f"{group} {name}" for name in rest[0].split("|")} if rest else {group}
    assert {" ".join(words) for words in _commands()} == named


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
def test_every_command_has_an_example_and_json(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app([*words, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"Example: bassline {' '.join(words)}" in " ".join(shown.replace("│", " ").split())
    assert "--json" in shown
    assert not re.search(r"[a-z] +\.(?: |$)", shown.replace("│", " "), re.MULTILINE), "rich took [words] for markup"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["crawl", "nowhere.toml", "--out", "set"], "nowhere.toml: no such file"),
        (["crawl", "nosuchsite", "--out", "set"], "known: embedded"),
        (["crawl", "embedded", "--out", "set", "--start", "ftp://x/"], "not an http(s) address"),
        (["shop", "--images", "nowhere"], "nowhere is not a folder"),
        (["demo", "--images", "nowhere"], "nowhere is not a folder"),
        (["train", "nowhere.toml", "--data", "parts", "--out", "run"], "nowhere.toml: no such file"),
        (["train", "nowhere.toml", "--data", "parts"], "--out: a run folder was expected"),
        (["train", "nowhere.toml", "--data", "parts", "--show", "a.png"], "nowhere.toml: no such file"),
        (["shards", "split", "set", "--out", "parts"], "give one of --counts, --fractions and --label-counts"),
        (["shards", "split", "set", "--out", "parts", "--counts", "1,2"], "expected three numbers"),
        (["shards", "split", "set", "--out", "parts", "--label-counts", "12"], "expected LABEL=N,N,N"),
        (["bench", "loaders", "set", "--only", "nosuch"], "unknown contender"),
        (["crawl"], "Missing argument"),
        (["nosuch"], "No such command"),
    ],
)
def test_wrong_usage_ends_with_2_and_names_it(bassline: Run, arguments: list[str], said: str) -> None:
    done = bassline(*arguments, check=2)
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shards", "info", "nowhere"], "nowhere"),
        (["report", "nowhere"], "no such folder"),
    ],
)
def test_what_is_not_there_ends_with_1_and_names_it(bassline: Run, arguments: list[str], said: str) -> None:
    done = bassline(*arguments, check=1)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_typo_in_a_run_file_is_answered_with_the_right_key(bassline: Run, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[net]\n[[net.layers]]\nkernal = 5\nmaps = 3\n")
    done = bassline("train", "run.toml", "--data", "parts", "--out", "run", check=2)
    assert "run.toml: net.layers.0.kernal" in done.stderr
    assert "did you mean 'kernel'" in done.stderr


@pytest.mark.parametrize(("given", "waits"), [({}, "10000"), ({"OMP_WAIT_POLICY": "passive"}, None)])
def test_threads_spin_briefly_unless_the_user_says_how(
    given: dict[str, str], waits: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(given))
    _wait_briefly()
    assert os.environ.get("GOMP_SPINCOUNT") == waits


def test_a_pipe_that_closes_early_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m bassline --help | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "Traceback" not in done.stderr


def test_the_shop_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bassline", "shop", "--products", "12", "--port", "0", "--json"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as shop:
        assert shop.stdout
        assert shop.stderr
        try:
            url = json.loads(shop.stdout.readline())["url"]
            with urllib.request.urlopen(url, timeout=5) as page:
                assert b"<html" in page.read()
        finally:
            time.sleep(0.1)
            shop.send_signal(signal.SIGINT)
        assert shop.wait(10) == 0
        assert "Traceback" not in shop.stderr.read()
