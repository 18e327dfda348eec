"""The game in a browser: played by keys and by touch in a real one, and what other pages and impatient ones may not."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from PIL import Image

import trainer
from bassline import play_web
from bassline.__main__ import main
from bassline.play_table import Table, lay
from trainer.decode import read_rgb

from .browser import CHROMIUM, Page, open_page
from .game_run import LABELS, answers

ROUNDS = 4


class Played:
    """A server of a game; `tables` are those that were dealt, `ended` those that ended."""

    def __init__(self, root: Path) -> None:
        self.model, self.root = trainer.load(root / "run"), root
        self.tables: list[Table] = []
        self.ended: list[Table] = []
        self.url = ""

    def deal(self) -> play_web.WebGame:
        made = lay(
            self.model, self.root / "split", "test", rounds=ROUNDS, seed=len(self.tables) + 1, hard=False,
            same_pixels=False, on_progress=lambda done, total: None,
        )  # fmt: skip
        self.tables.append(made)
        return play_web.WebGame(made, lambda: self.ended.append(made))


@asynccontextmanager
async def served(root: Path) -> AsyncIterator[Played]:
    played = Played(root)
    pages = play_web.Pages(played.deal(), lambda last: played.deal(), frozenset({"localhost"}))
    runner = web.AppRunner(pages.app(), shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    played.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield played
    await runner.cleanup()


class Client:
    """Talks to the game as its page does."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self.session = url.rstrip("/"), session
        self.text = ""

    async def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        async with self.session.get(self.url + path, headers=headers) as answer:
            return answer.status, await answer.read()

    async def state(self) -> dict[str, Any]:
        status, body = await self.get("/state")
        assert status == 200
        self.text = body.decode()
        told: dict[str, Any] = json.loads(body)
        return told

    async def do(self, what: str, headers: dict[str, str] | None = None, **told: Any) -> tuple[int, dict[str, Any]]:
        async with self.session.post(f"{self.url}/{what}", json=told, headers=headers) as answer:
            body = await answer.read()
            is_state = answer.content_type == "application/json"
            return answer.status, json.loads(body) if is_state else {"text": body.decode()}


async def test_the_page_is_told_nothing_before_the_answer(game_run: Path) -> None:
    known = answers(game_run)
    async with served(game_run) as played, aiohttp.ClientSession() as session:
        client = Client(played.url, session)
        game = played.tables[0].game
        for number, question in enumerate(game.questions):
            state = await client.state()
            assert set(state) == {
                "game", "run", "part", "hard", "rounds", "played", "labels", "score", "phase", "number",
            }  # fmt: skip
            assert (state["phase"], state["number"], state["played"]) == ("ask", number, number)
            assert question.key not in client.text
            status, body = await client.get(f"/picture/{state['game']}/{number}")
            assert status == 200
            assert b"truth" not in body  # the shop's own file says what it is in a comment
            shop_file = played.tables[0].source.image(question.number)
            assert b"truth" in bytes(shop_file)
            assert (np.asarray(Image.open(BytesIO(body))) == read_rgb(shop_file)).all()
            assert (await client.get(f"/picture/{state['game']}/{number + 2}"))[0] == 404  # two ahead
            status, told = await client.do("answer", game=state["game"], number=number, label=1)
            assert (status, told["phase"]) == (200, "told")
            turn = told["turn"]
            assert (turn["key"], turn["truth"]) == (question.key, known[question.key]["label"])
            assert (turn["network"], turn["person"]) == (known[question.key]["predicted"], "bass")
            await client.do("next", game=state["game"], number=number)
        end = await client.state()
        assert end["phase"] == "over"
        assert played.ended == [played.tables[0]]
        assert end["end"] == game.score().to_json()
        assert [turn["number"] for turn in end["differences"]] == [
            number for number, turn in enumerate(game.turns) if turn.differs
        ]


async def test_nothing_counts_twice_or_out_of_turn(game_run: Path) -> None:
    async with served(game_run) as played, aiohttp.ClientSession() as session:
        client = Client(played.url, session)
        name = (await client.state())["game"]
        refused = [
            ("answer", {"game": name, "number": 1, "label": 0}),
            ("answer", {"game": name, "number": 0, "label": 3}),
            ("answer", {"game": name, "number": 0, "label": -1}),
            ("answer", {"game": name, "number": 0, "label": "0"}),
            ("answer", {"game": "other", "number": 0, "label": 0}),
            ("next", {"game": name, "number": 0}),
            ("again", {"game": name}),
        ]
        for what, told in refused:
            status, state = await client.do(what, **told)
            assert (status, state["phase"], state["played"]) == (409, "ask", 0)
        both = [client.do("answer", game=name, number=0, label=label) for label in (0, 1)]
        assert sorted([status for status, _ in await asyncio.gather(*both)]) == [200, 409]
        assert len(played.tables[0].game.turns) == 1
        assert (await client.do("end", game=name))[1]["phase"] == "over"
        assert (await client.do("end", game=name))[0] == 409
        assert len(played.ended) == 1
        dealt = [client.do("again", game=name) for _ in range(2)]  # of two tabs
        states = [state for _, state in await asyncio.gather(*dealt)]
        assert {state["phase"] for state in states} == {"ask"}
        assert (await client.state())["game"] != name


async def test_other_sites_and_names_get_nothing(game_run: Path) -> None:
    async with served(game_run) as played, aiohttp.ClientSession() as session:
        client = Client(played.url, session)
        port = played.url.rstrip("/").rpartition(":")[2]
        for host, status in (
            ("evil.example", 403), (f"evil.example:{port}", 403), ("localhost.evil.example", 403), ("", 403),
            (f"localhost:{port}", 200), (f"LOCALHOST:{port}", 200), ("localhost:9999", 200), ("[::1]:80", 200),
            ("192.0.2.7", 200), ("127.0.0.1.evil.example", 403),
        ):  # fmt: skip
            for path in ("/", "/state"):
                assert (await client.get(path, Host=host))[0] == status, host
        name = (await client.state())["game"]
        for origin in ("http://evil.example", "null", f"http://localhost:{port}"):
            status, _ = await client.do("end", {"Origin": origin}, game=name)
            assert status == 403, origin
        form = {"Content-Type": "text/plain"}
        async with session.post(f"{played.url}end", data=json.dumps({"game": name}), headers=form) as answer:
            assert answer.status == 415
        async with session.post(f"{played.url}end", json={"game": "x" * 5000}) as answer:
            assert answer.status == 413
        for body in (b"{", b"[1]", b"7"):
            kind = {"Content-Type": "application/json"}
            async with session.post(f"{played.url}end", data=body, headers=kind) as answer:
                assert answer.status == 400
        assert played.ended == []
        async with session.get(played.url) as page:
            policy, text = page.headers["Content-Security-Policy"], await page.text()
        assert "default-src 'none'" in policy
        assert "http" not in text  # no address of anything elsewhere
        assert not any(key in text for key in answers(game_run))


async def until(page: Page, script: str) -> None:
    async with asyncio.timeout(30):
        while not await page.value(script):  # noqa: ASYNC110  # the browser tells nobody here
            await asyncio.sleep(0.02)


async def tap(page: Page, selector: str) -> None:
    """A finger on the middle of what the selector finds."""
    place = f"const r = document.querySelector({selector!r}).getBoundingClientRect()"
    x, y = json.loads(
        await page.value(f"(() => {{ {place}; return JSON.stringify([r.x + r.width / 2, r.y + r.height / 2]) }})()")
    )
    await page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    await page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


PHASE = "document.body && document.body.dataset.phase == {!r}"
SEEN = "document.getElementById('picture').complete && document.getElementById('picture').naturalWidth == 48"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
async def test_a_game_in_a_browser_by_keys_and_by_touch(game_run: Path, tmp_path: Path) -> None:
    async with served(game_run) as played, open_page(tmp_path) as page:
        await page.call("Page.navigate", url=played.url)
        await until(page, PHASE.format("ask"))
        await until(page, SEEN)
        html = await page.value("document.documentElement.outerHTML")
        assert not any(key in html for key in answers(game_run))
        assert await page.value("[...document.querySelectorAll('#choices button')].map(b => b.textContent)") == [
            "1abanjo", "2sbass", "3gguitar",
        ]  # fmt: skip
        await page.press("x")
        await page.press("g")
        await until(page, PHASE.format("told"))
        first = played.tables[0].game.turns[0]
        assert await page.value("document.getElementById('truth').textContent") == LABELS[first.question.truth]
        assert first.question.key in await page.value("document.getElementById('about').textContent")
        await page.value("window.before = true, location.reload()")
        await until(page, f"!window.before && {PHASE.format('told')}")  # it goes on where it was
        await page.press(" ")
        await until(page, PHASE.format("ask"))
        await page.call("Emulation.setDeviceMetricsOverride", width=360, height=640, deviceScaleFactor=2, mobile=True)
        await page.call("Emulation.setTouchEmulationEnabled", enabled=True)
        for number in range(1, ROUNDS):
            await until(page, SEEN)
            boxes = "[...document.querySelectorAll('#choices button')].map(b => b.getBoundingClientRect())"
            assert await page.value(f"{boxes}.every(box => box.bottom <= innerHeight && box.height >= 44)")
            assert await page.value("document.documentElement.scrollWidth <= 360")
            await tap(page, "#choices button:nth-child(1)")
            await until(page, PHASE.format("told"))
            await tap(page, "#next")
            await until(page, PHASE.format("over" if number == ROUNDS - 1 else "ask"))
        game = played.tables[0].game
        assert [LABELS[turn.person] for turn in game.turns] == ["guitar", "banjo", "banjo", "banjo"]
        assert all(turn.seconds > 0 for turn in game.turns)
        score = game.score()
        told = await page.value("document.getElementById('bars').textContent")
        assert f"{score.person} of {ROUNDS}" in told
        assert f"{score.network} of {ROUNDS}" in told
        assert await page.value("document.querySelectorAll('#thumbs img').length") == len(game.differences)
        assert await page.value("document.documentElement.scrollWidth <= 360")
        await page.value("document.getElementById('again').click()")
        await until(page, PHASE.format("ask"))
        await page.press("q")
        await until(page, PHASE.format("over"))
        assert [len(table.game.turns) for table in played.ended] == [ROUNDS, 0]
        assert page.problems == []


@pytest.mark.parametrize("over", [True, False])
def test_the_command_serves_until_ctrl_c(
    game_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], over: bool
) -> None:
    run = Path(shutil.copytree(game_run / "run", tmp_path / "run"))
    told: list[str] = []

    def person() -> None:
        url = ""
        try:
            while "http" not in url:
                url = capture.readline()
            url = json.loads(url)["url"]
            state = json.load(urllib.request.urlopen(f"{url}state", timeout=10))
            for number in range(2 if over else 1):
                for what in ("answer", "next"):
                    body = json.dumps({"game": state["game"], "number": number, "label": 0}).encode()
                    kind = {"Content-Type": "application/json"}
                    urllib.request.urlopen(urllib.request.Request(f"{url}{what}", body, kind), timeout=10).close()
        except (OSError, ValueError) as error:
            told.append(repr(error))
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    reader, writer = os.pipe()
    with os.fdopen(reader) as capture, os.fdopen(writer, "w") as screen:
        monkeypatch.setattr(sys, "stdout", screen)
        data = str(game_run / "split")
        monkeypatch.setattr(
            sys, "argv", ["bassline", "play", str(run), "--data", data, "--rounds", "2", "--web", "--json"]
        )
        thread = Thread(target=person)
        thread.start()
        with pytest.raises(SystemExit) as ended:
            main()
        thread.join()
        screen.close()
        last = json.loads(capture.read().splitlines()[-1])
    assert told == []
    assert (ended.value.code or 0) == (0 if over else 130)
    assert (last["finished"], last["interrupted"], last["images"]) == (over, not over, 2 if over else 1)
    assert len(json.loads((run / "scores.json").read_text())["games"]) == 1
    assert "play at http://127.0.0.1:" in capfd.readouterr().err


def test_a_port_that_is_taken_gets_one_line(
    game_run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ["--data", str(game_run / "split"), "--rounds", "1", "--web", "--port", port]
        monkeypatch.setattr(sys, "argv", ["bassline", "play", str(game_run / "run"), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 1
    assert "give another --port or --host" in " ".join(capfd.readouterr().err.split())
