"""A shop that costs nearly nothing: every answer is made before the first request, so what is measured is the client.

A request costs 40 us of one core (aiohttp's own server: 250 us), headers are those that nginx sends with a file. The
server is a process of its own and ends with its parent. For the experiment with many hosts it listens on many loopback
addresses, and some of them misbehave.
"""

from __future__ import annotations

import asyncio
import json
import select
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from time import monotonic
from typing import Any

from bench.errors import BenchError

__all__ = ["SICK", "Server", "crawl_server", "host_paths", "image_urls", "warm_pictures"]

PER_PAGE = 100
DRAWN = 8000  # pictures that are drawn; beyond, they are drawn ones moved and mirrored
SICK = ("slow", "failing", "limiting", "silent", "dead")
SLOW_S = 2.0
HEALTHY_S = 0.05
RETRY_AFTER_S = 2


def image_urls(base: str, images: int) -> list[str]:
    """The addresses of the pictures of a server at `base`, in the order of its pages."""
    return [f"{base}i/{number}.jpg" for number in range(images)]


def host_paths(hosts: int) -> list[str]:
    """Loopback addresses for the experiment with many hosts."""
    return [f"127.0.{1 + number // 200}.{1 + number % 200}" for number in range(hosts)]


def warm_pictures(images: int, on_progress: Callable[[int, int], None] | None = None) -> None:
    """Draws what is not in the shop's cache yet, so that the server starts at once."""
    from crawler.shop.catalogue import catalogue
    from crawler.shop.render import rendered

    rendered(catalogue(min(images, DRAWN)), on_progress=on_progress)


def _pictures(images: int) -> list[bytes]:
    """Different JPEGs of some 5 KB."""
    import numpy as np
    import simplejpeg

    from crawler.shop.catalogue import catalogue
    from crawler.shop.render import rendered

    stock = catalogue(min(images, DRAWN))
    photos = rendered(stock)
    found = list(dict.fromkeys(photos[product.id] for product in stock.products if product.photo))[:images]
    drawn = len(found)
    move = 0
    while len(found) < images:
        number = len(found) % drawn
        move += number == 0
        pixels = simplejpeg.decode_jpeg(found[number])
        pixels = np.roll(pixels[:, ::-1] if move % 2 else pixels, (move, 2 * move), axis=(0, 1))
        found.append(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=86))
    return found


def _answer(body: bytes, kind: str, status: str = "200 OK", **more: str) -> bytes:
    when = formatdate(1_790_000_000, usegmt=True)
    headers = {
        "Server": "bench", "Date": when, "Content-Type": kind, "Content-Length": str(len(body)), "Last-Modified": when,
        "Connection": "keep-alive", "ETag": f'"{zlib.crc32(body):x}-{len(body):x}"', "Accept-Ranges": "bytes", **more,
    }  # fmt: skip
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def _listing(categories: Mapping[str, Sequence[str]]) -> dict[bytes, bytes]:
    """A start page, and result pages of `PER_PAGE` images' addresses for each category."""
    answers = {b"/robots.txt": _answer(b"User-agent: *\nDisallow: /basket/\n", "text/plain")}
    links = "".join(f'<li><a class="category" href="/c/{name}">{name}</a></li>' for name in categories)
    answers[b"/"] = _answer(f"<!doctype html><ul>{links}</ul>".encode(), "text/html")
    for name, images in categories.items():
        for page, at in enumerate(range(0, max(1, len(images)), PER_PAGE), start=1):
            items = "".join(
                f'<li class="product"><a class="to" href="/p/{name}-{number}.htm"><img src="{image}" alt=""></a>'
                f'<span class="maker">Maker {number % 40}</span> <span class="title">Model {number}</span></li>'
                for number, image in enumerate(images[at : at + PER_PAGE], start=at)
            )
            last = at + PER_PAGE >= len(images)
            following = "" if last else f'<a class="next" href="/c/{name}?pg={page + 1}">next</a>'
            path = f"/c/{name}" + (f"?pg={page}" if page > 1 else "")
            answers[path.encode()] = _answer(f"<!doctype html><ul>{items}</ul>{following}".encode(), "text/html")
    return answers


_NOT_FOUND = _answer(b"", "text/plain", "404 Not Found")
_FAILED = _answer(b"", "text/plain", "500 Internal Server Error")


@dataclass(slots=True)
class _Host:
    """One address: what it answers, how it behaves, and what has been asked of it."""

    answers: Mapping[bytes, bytes]
    kind: str = ""
    asked: set[bytes] = field(default_factory=set)
    on_first: Callable[[], None] | None = None
    recent: list[float] = field(default_factory=list)


class _Connection(asyncio.Protocol):
    """Answers what it knows by the path alone; pipelining is answered in order."""

    def __init__(self, host: _Host) -> None:
        self._host = host
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            path = data[4 : data.index(b" ", 4)]
            data = data[end + 4 :]
            if self._host.kind:
                self._behave(path)
            else:
                self._transport.write(self._host.answers.get(path, _NOT_FOUND))
        self._rest = data

    def _behave(self, path: bytes) -> None:
        host = self._host
        answer = host.answers.get(path, _NOT_FOUND)
        image = path.startswith(b"/i/")
        loop = asyncio.get_running_loop()
        if not image:
            self._transport.write(answer)
        elif host.kind == "healthy":
            loop.call_later(HEALTHY_S, self._send, path, answer)
        elif host.kind == "slow":
            loop.call_later(SLOW_S, self._send, path, answer)
        elif host.kind == "failing":
            self._transport.write(_FAILED)
        elif host.kind == "limiting":
            now = monotonic()
            host.recent = [moment for moment in host.recent if moment > now - 1]
            if len(host.recent) >= 2:
                limited = _answer(b"", "text/plain", "429 Too Many Requests", **{"Retry-After": str(RETRY_AFTER_S)})
                self._transport.write(limited)
            else:
                host.recent.append(now)
                self._send(path, answer)
        # "silent" says nothing, ever

    def _send(self, path: bytes, answer: bytes) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(answer)
        if self._host.on_first and path not in self._host.asked:
            self._host.asked.add(path)
            self._host.on_first()


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs: its address, and what it says, one JSON object a line."""

    url: str
    process: subprocess.Popen[str]

    def heard(self, seconds: float) -> dict[str, Any] | None:
        """What it says next; None if it says nothing for so long. One line is buffered at most: it says one."""
        assert self.process.stdout
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return None
        line = self.process.stdout.readline()
        if not line:
            raise BenchError("the bench's server ended")
        said: dict[str, Any] = json.loads(line)
        return said


@contextmanager
def crawl_server(images: int, *, hosts: Sequence[str] = (), kinds: Sequence[str] = ()) -> Iterator[Server]:
    """Runs the server in a child process.

    Args:
        images: how many pictures; with `hosts`, on each of them.
        hosts: loopback addresses that serve the pictures; without, the server itself does.
        kinds: of each of `hosts`: "healthy" or one of SICK.

    Raises:
        BenchError: it did not start.
    """
    wish = {"images": images, "hosts": list(hosts), "kinds": list(kinds)}
    with tempfile.TemporaryFile("w+") as words:
        child = subprocess.Popen(
            [sys.executable, "-m", "bench.crawl_server", json.dumps(wish)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, text=True,
        )  # fmt: skip
        with child:
            assert child.stdin
            assert child.stdout
            try:
                line = child.stdout.readline()
                if not line:
                    child.wait()
                    words.seek(0)
                    raise BenchError(f"the bench's server did not start: {words.read().strip().rpartition(chr(10))[2]}")
                yield Server(json.loads(line)["url"], child)
            finally:
                child.stdin.close()
                try:
                    child.wait(5)
                except subprocess.TimeoutExpired:
                    child.kill()


def _say(**words: Any) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


async def _serve(images: int, hosts: list[str], kinds: list[str]) -> None:
    loop = asyncio.get_running_loop()
    pictures = [_answer(body, "image/jpeg") for body in _pictures(images * max(1, len(hosts)))]
    if hosts:
        servers, categories = await _many(hosts, kinds, pictures, images)
        main = _Host(_listing(categories))
    else:
        guitars = images * 7 // 8
        paths = [f"/i/{number}.jpg" for number in range(images)]
        main = _Host(_listing({"guitars": paths[:guitars], "basses": paths[guitars:]}))
        answers = dict(main.answers)
        answers.update(zip((path.encode() for path in paths), pictures, strict=True))
        main.answers = answers
        servers = []
    server = await loop.create_server(lambda: _Connection(main), "127.0.0.1", 0, backlog=1024)
    servers.append(server)
    _say(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    await asyncio.to_thread(sys.stdin.read)
    for server in servers:
        server.close()


async def _many(
    hosts: list[str], kinds: list[str], pictures: list[bytes], images: int
) -> tuple[list[asyncio.Server], dict[str, list[str]]]:
    """Starts the hosts; returns their servers, and what the listing shows in each category."""
    loop = asyncio.get_running_loop()
    servers: list[asyncio.Server] = []
    left = {host: images for host, kind in zip(hosts, kinds, strict=True) if kind == "healthy"}
    begun: list[float] = []
    done: dict[str, float] = {}

    def first(host: str) -> None:
        now = monotonic()
        begun.append(now)
        left[host] -= 1
        if not left[host]:
            done[host] = round(now - begun[0], 3)
            if len(done) == len(left):
                _say(done=done)

    shown: list[list[str]] = []
    for number, (address, kind) in enumerate(zip(hosts, kinds, strict=True)):
        paths = [f"/i/{image}.jpg" for image in range(images)]
        own = pictures[number * images : (number + 1) * images]
        host = _Host({path.encode(): answer for path, answer in zip(paths, own, strict=True)}, kind)
        if kind == "healthy":
            host.on_first = partial(first, address)
        server = await loop.create_server(partial(_Connection, host), address, 0, backlog=1024)
        port = server.sockets[0].getsockname()[1]
        if kind == "dead":  # a port that was free a moment ago, and refuses
            server.close()
        else:
            servers.append(server)
        shown.append([f"http://{address}:{port}{path}" for path in paths])
    # all hosts' pictures in turns, as a marketplace shows them
    mixed = [host[image] for image in range(images) for host in shown]
    return servers, {"guitars": mixed[::2], "basses": mixed[1::2]}


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    asyncio.run(_serve(asked["images"], asked["hosts"], asked["kinds"]))
