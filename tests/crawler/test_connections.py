"""Connections are used again, and what becomes of one while nothing is asked on it stops nothing and costs nothing."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import warnings
from time import process_time
from types import SimpleNamespace

import pycurl
import pytest

from crawler.crawl_errors import Refused
from crawler.guard import Guard
from crawler.limits import Limits
from crawler.transport import Exchange, Transport

BODY = b"x" * 3000


class Server:
    """Answers by what the path says: `keep`, `close` after it, `idle` closes soon after it, `slow` answers late."""

    def __init__(self) -> None:
        self.connections = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
                if path.startswith(b"/slow"):
                    await asyncio.sleep(0.05)
                close = path.startswith(b"/close")
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n"
                writer.write(head % (len(BODY) + len(path), b"Connection: close\r\n" if close else b""))
                writer.write(path + BODY)
                await writer.drain()
                if close or path.startswith(b"/idle"):
                    await asyncio.sleep(0.02 if path.startswith(b"/idle") else 0)
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def server():
    made = Server()
    async with await asyncio.start_server(made.answer, "127.0.0.1", 0) as listening:
        made.port = listening.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        yield made


@pytest.fixture
async def transport(server):
    made = Transport(Limits(read_s=2, total_s=3), Guard(("127.0.0.1",), {server.port}), user_agent="test")
    yield made
    await made.close()


async def ask(transport: Transport, server: Server, path: str) -> None:
    netloc = f"127.0.0.1:{server.port}"  # type: ignore[attr-defined]
    exchange = Exchange(f"http://{netloc}{path}", netloc, ("Accept: */*",), 10_000)
    await transport.get(exchange)
    assert exchange.body == path.encode() + BODY


async def test_a_connection_is_used_again(server, transport) -> None:
    for number in range(50):
        await ask(transport, server, f"/keep{number}")
    assert server.connections == 1


async def test_a_connection_that_is_closed_while_idle_costs_nothing(server, transport) -> None:
    await asyncio.gather(*(ask(transport, server, f"/idle{number}") for number in range(8)))
    began = process_time()
    await asyncio.sleep(0.4)  # all of them are closed from the other side
    assert process_time() - began < 0.1  # and not looked at again and again
    await asyncio.gather(*(ask(transport, server, f"/keep{number}") for number in range(8)))
    assert server.connections <= 16


async def test_whatever_the_server_does_with_connections(server, transport) -> None:
    """Numbers of sockets come back for other ones all the time, those of files and pipes among them."""
    chance = random.Random(0)

    async def work(worker: int) -> None:
        for number in range(40):
            kind = chance.choice(("keep", "keep", "close", "idle", "slow"))
            await ask(transport, server, f"/{kind}{worker}.{number}")
            if chance.random() < 0.2:
                with open("/dev/null") as _:  # noqa: ASYNC230, PTH123  takes a number
                    await asyncio.sleep(0.001)

    async with asyncio.timeout(20):
        await asyncio.gather(*(work(worker) for worker in range(16)))


async def test_requests_given_up_leave_their_sockets_to_others(server, transport) -> None:
    for round in range(5):
        given_up = [asyncio.create_task(ask(transport, server, f"/slow{round}.{number}")) for number in range(8)]
        await asyncio.sleep(0.02)
        for task in given_up:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        async with asyncio.timeout(5):
            await asyncio.gather(*(ask(transport, server, f"/keep{round}.{number}") for number in range(8)))


async def test_what_a_handle_was_told_is_not_told_to_the_next_host(server, transport) -> None:
    """Headers and addresses stay with a handle only while they are the same."""
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        transport._guard = transport._names._guard = Guard(("127.0.0.1",), {server.port, port})
        for headers, unzip in ((("If-None-Match: a",), False), (("Accept: b",), True), (("Accept: b",), False)):
            await ask(transport, server, "/keep")
            exchange = Exchange(f"http://127.0.0.1:{port}/", f"127.0.0.1:{port}", headers, 1000, unzip=unzip)
            await transport.get(exchange)
            assert exchange.status == 304
    first, second, third = seen
    assert b"If-None-Match: a" in first
    assert b"If-None-Match" not in second
    assert b"gzip" in second
    assert b"identity" in third
    with pytest.raises(Refused):  # the guard is still asked
        await transport.get(Exchange("http://127.0.0.2:1/", "127.0.0.2:1", (), 1000))


async def test_a_number_that_comes_back_is_another_socket(server, transport) -> None:
    """libcurl waits for an answer at once where a connection stands at once, as it may on one machine."""
    to = SimpleNamespace(family=socket.AF_INET, socktype=socket.SOCK_STREAM, protocol=0, addr=("127.0.0.1", 1))
    exchange = Exchange("http://127.0.0.1:1/", "127.0.0.1:1", (), 1000)
    numbers = []
    for _ in range(2):
        opened = transport._open(exchange, to)
        number = os.dup(opened.fileno())  # as pycurl does
        numbers.append(number)
        transport._watch(pycurl.POLL_IN, number, None, None)
        assert [fd for fd, _ in transport._sockets.poll(0)] == [number]  # hung up: it was never connected
        transport._watch(pycurl.POLL_REMOVE, number, None, None)
        os.close(number)
        opened.close()
        await asyncio.sleep(0)  # what closes it a second time
    assert numbers[0] == numbers[1]


async def test_what_a_name_means_now_counts_for_every_handle(server) -> None:
    """It went back to what one of them had been told before the last change, and only that one asked again."""
    asked: list[str] = []

    def shop(name: str):
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
            await asyncio.sleep(0.1 if path == b"/slow" else 0)
            asked.append(name)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
            await writer.drain()
            writer.close()

        return answer

    class Names:
        now = "127.0.0.1"

        async def resolve(self, host: str) -> list[str]:
            return [self.now]

        async def close(self) -> None:
            pass

    names = Names()
    async with await asyncio.start_server(shop("first"), "127.0.0.1", 0) as first:
        port = first.sockets[0].getsockname()[1]
        async with await asyncio.start_server(shop("second"), "127.0.0.2", port):
            transport = Transport(Limits(), Guard(("shop.test",), {port}), names, user_agent="test")

            async def get(path: str) -> None:
                netloc = f"shop.test:{port}"
                await transport.get(Exchange(f"http://{netloc}{path}", netloc, ("Accept: */*",), 1000))

            def changes_to(address: str) -> None:
                names.now = address
                transport._known.clear()  # as after five minutes

            slow = asyncio.create_task(get("/slow"))
            await asyncio.sleep(0.02)
            changes_to("127.0.0.2")
            await get("/")
            await slow
            changes_to("127.0.0.1")
            for _ in range(3):
                await get("/")
            await transport.close()
    assert asked == ["second", "first", "first", "first", "first"]


async def test_a_forked_process_that_keeps_a_socket_costs_nothing(server, transport) -> None:
    given_up = asyncio.create_task(ask(transport, server, "/slow"))
    await asyncio.sleep(0.02)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads about
        child = os.fork()
    if not child:
        signal.pause()
        os._exit(0)
    try:
        given_up.cancel()
        await asyncio.sleep(0.1)  # it is answered, and nobody listens
        await ask(transport, server, "/keep")
        began = process_time()
        await asyncio.sleep(0.4)
        assert process_time() - began < 0.1
        await asyncio.gather(*(ask(transport, server, f"/keep{number}") for number in range(4)))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)  # noqa: ASYNC222  it is dead
