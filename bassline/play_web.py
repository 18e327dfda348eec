"""`bassline play --web`: the game as one page served from this machine; the game itself stays here.

The browser is told no more than a person at the terminal: the truth, the network's answer and the sample's key leave
with the answer, and pictures are encoded anew, since a shop's file may have its title inside.
"""

from __future__ import annotations

import asyncio
import io
import re
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

import jinja2
from aiohttp import web
from PIL import Image

from bassline import console
from bassline.play_table import Table
from shards.errors import BasslineError
from trainer.game import Game, Question, Turn, keys_for

__all__ = ["Pages", "WebGame", "serve"]

_MOST_BODY = 4096  # bytes of a request; an answer takes 40

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AddressTaken(BasslineError):
    """The page cannot be served where it was asked for."""


class WebGame:
    """A game as its page sees it; every change is asked for with the state it was seen in, so that no two count twice.

    Args:
        table: laid for the game.
        on_end: told when the last image was answered or the person ended the game.
    """

    def __init__(self, table: Table, on_end: Callable[[], None]) -> None:
        self.table, self._on_end = table, on_end
        self.name = secrets.token_urlsafe(6)
        self.shows_answer = False
        self.over = False
        self._asked_at: float | None = None
        self._pictures: dict[int, bytes] = {}

    @property
    def game(self) -> Game:
        """The game itself."""
        return self.table.game

    def state(self) -> dict[str, Any]:
        """All that the page is told."""
        game, score = self.game, self.game.score()
        told: dict[str, Any] = {
            "game": self.name,
            "run": self.table.run,
            "part": self.table.part,
            "hard": self.table.hard,
            "rounds": len(game.questions),
            "played": len(game.turns),
            "labels": [
                {"name": label, "keys": list(keys)}
                for label, keys in zip(game.labels, keys_for(game.labels), strict=True)
            ],
            "score": {"images": score.images, "person": score.person, "network": score.network},
        }
        if self.over:
            from bassline.play_end import verdict

            turns = [{"number": number, **game.told(turn)} for number, turn in enumerate(game.turns) if turn.differs]
            return {**told, "phase": "over", "end": score.to_json(), "verdict": verdict(score), "differences": turns}
        if self.shows_answer:
            turn = game.turns[-1]
            return {**told, "phase": "told", "number": len(game.turns) - 1, "turn": self._told(turn)}
        if self._asked_at is None:
            self._asked_at = time.monotonic()
        return {**told, "phase": "ask", "number": len(game.turns)}

    def _told(self, turn: Turn) -> dict[str, Any]:
        return {**self.game.told(turn), "title": self.table.title(turn.question)}

    def answer(self, number: int, label: int) -> bool:
        """Answers question `number`; False if it is not the one that waits."""
        waits = not self.over and not self.shows_answer and number == len(self.game.turns)
        if not waits or not 0 <= label < len(self.game.labels):
            return False
        self.game.answer(label, time.monotonic() - (self._asked_at or time.monotonic()))
        self._asked_at, self.shows_answer = None, True
        return True

    def go_on(self, number: int) -> bool:
        """Leaves the answer to question `number`; False if it is not the one that is shown."""
        if self.over or not self.shows_answer or number != len(self.game.turns) - 1:
            return False
        self.shows_answer = False
        if self.game.finished:
            self.end()
        return True

    def end(self) -> bool:
        """Ends the game; False if it had ended."""
        if self.over:
            return False
        self.over, self.shows_answer = True, False
        self._on_end()
        return True

    def picture(self, number: int) -> bytes | None:
        """Question `number`'s picture as PNG, no further than the next one; None beyond."""
        reach = len(self.game.turns) + (0 if self.over else 2)
        if not 0 <= number < min(reach, len(self.game.questions)):
            return None
        if number not in self._pictures:
            self._pictures[number] = _png(self.table, self.game.questions[number])
        return self._pictures[number]


def _png(table: Table, question: Question) -> bytes:
    out = io.BytesIO()
    Image.fromarray(table.pixels(question)).save(out, "png")
    return out.getvalue()


class Pages:
    """The addresses of the page, and who may call them."""

    def __init__(self, current: WebGame, again: Callable[[WebGame], WebGame], names: frozenset[str]) -> None:
        self.current, self._again, self._names = current, again, names
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("bassline"), autoescape=True, undefined=jinja2.StrictUndefined
        )
        self._nonce = secrets.token_urlsafe(16)
        self._page = environment.get_template("play.html.j2").render(nonce=self._nonce)

    def app(self) -> web.Application:
        """The application."""
        made = web.Application(middlewares=[self._guarded], client_max_size=_MOST_BODY)
        made.add_routes(
            [
                web.get("/", self._index),
                web.get("/state", self._state),
                web.get("/picture/{game}/{number:[0-9]{1,9}}", self._picture),
                web.post("/{what:answer|next|end|again}", self._act),
            ]
        )
        return made

    def allows(self, host: str) -> bool:
        """Whether a Host header is a name of this machine's or an address.

        A page of another name that is pointed at this machine (DNS rebinding) would be of this origin to a browser.
        """
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:[0-9]+)?", host)
        name = match[1].strip("[]").lower() if match else ""
        if name in self._names:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if not self.allows(host):
            raise web.HTTPForbidden(text="this page answers by this machine's own names alone\n")
        if request.method == "POST":
            # another site's form can send neither this type nor, without asking first, a request of this type
            if request.content_type != "application/json":
                raise web.HTTPUnsupportedMediaType(text="expected application/json\n")
            origin = request.headers.get("Origin")
            if origin is not None and origin.partition("://")[2] != host:
                raise web.HTTPForbidden(text="asked by another site\n")
        response = await handler(request)
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'nonce-{self._nonce}'; "
            f"script-src 'nonce-{self._nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    async def _index(self, request: web.Request) -> web.Response:
        return web.Response(text=self._page, content_type="text/html")

    def _told(self, status: int = 200) -> web.Response:
        return web.json_response(self.current.state(), status=status)

    async def _state(self, request: web.Request) -> web.Response:
        return self._told()

    async def _picture(self, request: web.Request) -> web.Response:
        if request.match_info["game"] != self.current.name:
            raise web.HTTPNotFound
        body = await asyncio.to_thread(self.current.picture, int(request.match_info["number"]))
        if body is None:
            raise web.HTTPNotFound
        return web.Response(body=body, content_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    async def _act(self, request: web.Request) -> web.Response:
        try:
            told = await request.json()
            number, label = told.get("number", -1), told.get("label", -1)
            game = told.get("game")
        except (ValueError, AttributeError):
            raise web.HTTPBadRequest(text="expected a JSON object\n") from None
        if not isinstance(number, int) or not isinstance(label, int) or game != self.current.name:
            return self._told(409)
        what = request.match_info["what"]
        current = self.current
        if what == "again":
            if not current.over:
                return self._told(409)
            dealt = await asyncio.to_thread(self._again, current)
            if self.current is current:  # two tabs may both have asked
                self.current = dealt
            return self._told()
        done = (
            current.answer(number, label)
            if what == "answer"
            else current.go_on(number)
            if what == "next"
            else current.end()
        )
        return self._told(200 if done else 409)


def serve(
    table: Table,
    again: Callable[[Table], Table],
    keep: Callable[[Table], None],
    host: str,
    port: int,
    *,
    json: bool,
) -> tuple[Table, bool]:
    """Serves the game until Ctrl-C or SIGTERM; gives the game that was played last, and whether it had ended.

    Args:
        table: laid for the first game.
        again: lays one for another game after this one.
        keep: told of each game that ended.
        host, port: where; port 0 takes a free one.
        json: print the address as a line of JSON too.

    Raises:
        AddressTaken: something else is there, or it is none of this machine's addresses.
    """
    return asyncio.run(_served(table, again, keep, host, port, json))


async def _served(
    table: Table, again: Callable[[Table], Table], keep: Callable[[Table], None], host: str, port: int, json: bool
) -> tuple[Table, bool]:
    def game_of(dealt: Table) -> WebGame:
        return WebGame(dealt, lambda: keep(dealt))

    names = {"localhost", socket.gethostname().lower(), host.lower()}
    pages = Pages(game_of(table), lambda last: game_of(again(last.table)), frozenset(names))
    runner = web.AppRunner(pages.app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            why = error.strerror or error
            raise AddressTaken(f"{host}:{port}: cannot be served on ({why}); give another --port or --host") from None
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        at = f"[{host}]" if ":" in host else host
        url = f"http://{at}:{runner.addresses[0][1]}/"
        console.note(f"play at [bold]{url}[/], Ctrl-C ends it")
        if json:
            console.emit({"url": url})
        await stopped.wait()
    finally:
        await runner.cleanup()
    return pages.current.table, pages.current.over
