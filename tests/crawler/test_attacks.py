"""Attacks, each over a real connection, and the reason each ends in. ATTACKS is the list; the rest is how it is run.

The server writes bytes as they come, because no HTTP library would send such answers.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import socket
import ssl
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from PIL import Image

from crawler import transport
from crawler.crawl import crawl
from crawler.crawl_errors import Refused
from crawler.fetch import Fetcher
from crawler.guard import Guard
from crawler.limits import Limits
from crawler.report import DROPS_NAME
from crawler.site import load_site
from crawler.urls import absolute

Writer = asyncio.StreamWriter
Answer = bytes | Callable[[Writer], Awaitable[None]]

LIMITS = Limits(
    rate_per_host=0,
    retries=0,
    robots_retries=0,
    connect_s=0.5,
    read_s=0.5,
    total_s=2.0,
    page_bytes=1_000_000,
    image_bytes=500_000,
)
MEMORY = 24_000_000  # bytes an attack may make Python hold; twice what is sent by the largest that is read whole


def plain(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*headers: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *headers]).encode() + b"\r\n\r\n"


def then_close(answer: bytes) -> Callable[[Writer], Awaitable[None]]:
    async def write(writer: Writer) -> None:
        writer.write(answer)
        await writer.drain()

    return write


def endless(head: bytes, piece: bytes, pause_s: float = 0.0) -> Callable[[Writer], Awaitable[None]]:
    async def answer(writer: Writer) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return answer


async def silence(writer: Writer) -> None:
    await writer.drain()
    await asyncio.sleep(60)


async def reset_in_the_middle(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    await writer.drain()
    # with no time to linger, close() sends RST
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def raw_deflate(zeros: int) -> bytes:
    """Megabytes of zeros, packed: one, again and again, in milliseconds where packing them all takes seconds."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)) * zeros + packer.flush()


RAW_DEFLATED = raw_deflate(200)  # 200 KB
ZEROS = bytes(200_000_000)
BOMB = b"\x1f\x8b\x08\0\0\0\0\0\2\xff" + RAW_DEFLATED + struct.pack("<II", zlib.crc32(ZEROS), len(ZEROS))
DEFLATED = b"\x78\xda" + RAW_DEFLATED + struct.pack(">I", zlib.adler32(ZEROS))
del ZEROS


@dataclass(frozen=True)
class Attack:
    """What the server answers to GET /it, and how that must end: a reason, or "" with the body that is taken."""

    name: str
    answer: Answer
    reason: str
    body: bytes | None = None
    page: bool = False


LONG_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n"
ATTACKS = [
    # bodies without end, or as good as
    Attack("an endless chunked body", endless(chunked(), b"2710\r\n" + bytes(10_000) + b"\r\n"), "too-large"),
    Attack("an endless body to the close", endless(b"HTTP/1.0 200 OK\r\n\r\n", bytes(10_000)), "too-large"),
    Attack("a length of an exabyte", plain(b"x").replace(b": 1\r", b": 1000000000000000000\r"), "too-large"),
    Attack("a dripping body", endless(plain(b"").replace(b": 0\r", b": 9999\r"), b".", 0.05), "too-slow"),
    Attack("chunks of one byte", endless(chunked(), b"1\r\n.\r\n", 0.05), "too-slow"),
    Attack("a body that stops", plain(b"half").replace(b": 4\r", b": 9999\r"), "timeout"),
    Attack("a body cut off", then_close(plain(b"half").replace(b": 4\r", b": 9999\r")), "connection"),
    # headers without end
    Attack("silence", silence, "timeout"),
    Attack("dripping headers", endless(b"HTTP/1.1 200 OK\r\nX: ", b"y", 0.05), "timeout"),
    Attack("a header without end", endless(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 10_000), "protocol"),
    Attack("a megabyte header", plain(b"x", "X: " + "y" * 1_000_000), "protocol"),
    Attack("a thousand headers", plain(b"x", *(f"X-{n}: y" for n in range(1000))), "protocol"),
    Attack("headers without end", endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100), "protocol"),
    Attack("a flood of 100 Continue", endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10, 0.01), "timeout"),
    Attack("a flood of 103 Early Hints", endless(b"", b"HTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\n", 0.01), "timeout"),
    Attack("a hundred cookies", plain(b"x", *(f"Set-Cookie: a{n}=b; Path=/" for n in range(100))), "", b"x"),
    # not HTTP
    Attack("no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n", "protocol|timeout|connection"),
    Attack("HTTP/0.9", b"<html>hello</html>", "protocol|timeout|connection"),
    Attack("closed at once", b"", "connection"),
    Attack("HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\nbody", "", b"body"),
    Attack("two lengths", plain(b"four", "Content-Length: 9"), "protocol"),
    Attack("two lengths and no body", plain(b"", "Content-Length: 9", status="304 Not Modified"), "protocol"),
    Attack("a length of 5,000 digits", LONG_LENGTH + b"x", "protocol"),
    Attack("that, and silence", endless(LONG_LENGTH, b"", 0.1), "protocol"),
    Attack("that, and closed", then_close(LONG_LENGTH), "protocol"),
    Attack("headers cut off", then_close(b"HTTP/1.1 200 OK\r\nETag: x\r\n"), "connection"),
    Attack("headers cut off, of no body", then_close(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nX: y"), "connection"),
    Attack("a negative length", plain(b"").replace(b": 0\r", b": -5\r"), "protocol"),
    Attack("a length and chunks", chunked("Content-Length: 4") + b"4\r\nfour\r\n0\r\n\r\n", "protocol"),
    Attack("more than the length", plain(b"four") + b"HTTP/1.1 200 OK\r\n\r\nsmuggled", "", b"four"),
    Attack("a bad chunk size", chunked() + b"zz\r\nfour\r\n0\r\n\r\n", "connection|protocol"),
    Attack("a negative chunk size", chunked() + b"-4\r\nfour\r\n0\r\n\r\n", "connection|protocol"),
    Attack("a huge chunk size", chunked() + b"f" * 40 + b"\r\nfour", "connection|protocol"),
    Attack("chunks cut off", then_close(chunked() + b"9\r\nfour"), "connection"),
    Attack("a reset in the middle", reset_in_the_middle, "connection"),
    Attack("switching protocols", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "http-101"),
    Attack("status 206", plain(b"part", status="206 Partial Content"), "http-206"),
    Attack("status 999", plain(b"", status="999 Go away"), "http-999|protocol"),
    Attack("an endless 404", endless(b"HTTP/1.1 404 No\r\n\r\n", bytes(10_000)), "http-404"),
    # compression
    Attack("a gzip bomb", plain(BOMB, "Content-Encoding: gzip"), "too-large", page=True),
    Attack("a deflate bomb", plain(DEFLATED, "Content-Encoding: deflate"), "too-large", page=True),
    Attack("a raw deflate bomb", plain(RAW_DEFLATED, "Content-Encoding: deflate"), "too-large", page=True),
    Attack("a gzip bomb for an image", plain(BOMB, "Content-Encoding: gzip"), "too-large"),
    Attack("a bomb in chunks", chunked("Content-Encoding: gzip") + b"%x\r\n" % len(BOMB) + BOMB + b"\r\n0\r\n\r\n",
           "too-large", page=True),
    Attack("gzip in gzip", plain(gzip.compress(BOMB), "Content-Encoding: gzip, gzip"), "too-large", page=True),
    Attack("a gzip member in a gzip", plain(gzip.compress(BOMB), "Content-Encoding: gzip"), "", BOMB, page=True),
    Attack("brotli nobody asked for", plain(b"\x0b\x02\x80hello\x03", "Content-Encoding: br"), "encoding", page=True),
    Attack("zstd nobody asked for", plain(b"\x28\xb5\x2f\xfd\x00", "Content-Encoding: zstd"), "encoding", page=True),
    Attack("gzip that is none", plain(b"not gzip at all", "Content-Encoding: gzip"), "encoding", page=True),
    # redirects
    Attack("a redirect loop", plain(b"", "Location: /it", status="302 Found"), "redirects"),
    Attack("a redirect to nowhere", plain(b"", status="302 Found"), "redirects|address"),
    Attack("a redirect of 10 KB", plain(b"", "Location: /" + "a" * 7000, status="302 Found"), "address"),
    Attack("a redirect with an endless body", endless(b"HTTP/1.1 302 F\r\nLocation: /it\r\n\r\n", bytes(9999)),
           "redirects"),
    *(
        Attack(f"a redirect to {target}", plain(b"", f"Location: {target}", status="302 Found"), "address")
        for target in (
            "file:///etc/passwd", "javascript:alert(1)", "data:image/png;base64,AAAA", "ftp://127.0.0.1/", "https://",
            "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://168.63.129.16/machine",
            "http://127.0.0.2/", "http://user:password@127.0.0.1/", "http://127.0.0.1\\@shop.example/",
            "http://127.0.0.1:22/", "http://127.0.0.1:6379/", "http://127.0.0.1:0/", "http://127.0.0.1:99999/",
            "http://a..b/", "http://%31%32%37.0.0.1/", "http://" + "a" * 64 + ".example/", "http://[::1%25lo]/",
        )
    ),
    # what a server may say of when to come back
    Attack("Retry-After for ever", plain(b"", "Retry-After: 999999999", status="503 No"), "http-503"),
    Attack("Retry-After in the year 9999", plain(b"", "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT", status="429 No"),
           "http-429"),
    Attack("Retry-After of nonsense", plain(b"", "Retry-After: -1e999 \x01", status="429 No"), "http-429|protocol"),
]  # fmt: skip


@asynccontextmanager
async def serving(
    answers: dict[str, Answer], tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server on 127.0.0.1 that writes these bytes, and what it was asked; without robots.txt unless it is given."""
    asked: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: Writer) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode("latin-1").partition("?")[0]
            asked.append(head)
            answer = answers.get(path, plain(b"", status="404 Not Found"))
            if callable(answer):
                return await answer(writer)
            writer.write(answer)
            await writer.drain()
            if b"Content-Length" not in answer and b"chunked" not in answer:
                return None

    async def handle(reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            await converse(reader, writer)
            writer.close()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            writer.transport.abort()
        tasks.discard(task)

    async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls) as server:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/", asked
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def fetcher(limits: Limits = LIMITS, **options) -> Fetcher:
    options = {"allowed": lambda host: True, **options}
    return Fetcher(limits, options.pop("guard", None) or Guard(["127.0.0.1"]), agent="b", user_agent="b", **options)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_an_attack_ends(attack: Attack) -> None:
    async with serving({"/it": attack.answer}) as (url, _), fetcher() as one:
        get = one.page if attack.page else one.image
        tracemalloc.start()
        try:
            reply = await asyncio.wait_for(get(f"{url}it"), 20)
            assert not attack.reason, f"{attack.name} was taken"
            assert attack.body is None or reply.body == attack.body
        except Refused as refused:
            assert attack.reason, str(refused)  # noqa: PT017
            assert refused.reason in attack.reason.split("|"), str(refused)  # noqa: PT017
            assert len(str(refused)) < 400  # noqa: PT017  (a line of a log, whatever the server sent)
            assert "\n" not in str(refused)  # noqa: PT017
        finally:
            held = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert held < MEMORY
        assert one.budget(url.split("/")[2]).in_flight == one.traffic.in_flight == 0


async def test_one_servers_answer_does_not_stop_the_clock_for_others() -> None:
    answers = {"/evil": endless(LONG_LENGTH, b"", 0.1), "/silent": silence}
    async with serving(answers) as (url, _), fetcher() as one:
        found = await asyncio.wait_for(
            asyncio.gather(one.image(f"{url}evil"), one.image(f"{url}silent"), return_exceptions=True), 10
        )
        assert [refused.reason for refused in found if isinstance(refused, Refused)] == ["protocol", "timeout"]
        with pytest.raises(Refused, match="timeout"):
            await asyncio.wait_for(one.image(f"{url}silent"), 10)


@pytest.mark.parametrize(
    "refused",
    [
        b"HTTP/1.1 304 N\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 70\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("pause_s", [0.0, 0.03])
async def test_what_hides_behind_a_refused_answer_answers_nobody(refused: bytes, pause_s: float) -> None:
    async def poisoned(writer: Writer) -> None:
        writer.write(refused)
        await writer.drain()
        await asyncio.sleep(pause_s)
        writer.write(plain(b"EVIL"))
        await writer.drain()
        await asyncio.sleep(1)

    async with serving({"/first": poisoned, "/second": plain(b"GOOD")}) as (url, _), fetcher() as one:
        with pytest.raises(Refused, match="Content-Length"):
            await one.image(f"{url}first")
        await asyncio.sleep(2 * pause_s)
        assert (await one.image(f"{url}second")).body == b"GOOD"


# -- addresses --

NOTATIONS = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7F.0.0.1", "017700000001", "0177.0.0.01",
    "127.0.0.1.", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
    "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[::ffff:0:7f00:1]", "[fe80::1]", "[fe80::1%25lo]",
    "[fec0::1]", "[fd00::1]", "[5f00::1]", "[3fff::1]", "[2001:db8::1]", "[2001:0:7f00:1::]",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11", "127\u30020\uff0e0\uff611", "\u2460\u2461\u2466.0.0.1", "0", "0.0.0.0",
    "169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "[::ffff:a9fe:a9fe]", "[fd00:ec2::254]",
    "100.100.100.200", "192.0.0.192", "168.63.129.16", "10.1", "172.16.1", "192.168.257", "224.0.0.1",
    "255.255.255.255",
]  # fmt: skip


@pytest.mark.parametrize("notation", NOTATIONS)
async def test_no_notation_of_a_private_address_is_called(notation: str) -> None:
    async with serving({"/it": plain(b"secret")}) as (url, asked), fetcher(guard=Guard()) as one:
        port = url.split(":")[2].strip("/")
        for target in (f"http://{notation}:{port}/it", f"//{notation}:{port}/it", f"http://{notation}/it"):
            found = absolute("http://shop.example/", target)
            if found is not None:  # else it is not even an address
                with pytest.raises(Refused) as refused:
                    await one.image(found)
                assert refused.value.reason == "address"
        assert asked == []
        assert one.traffic.requests == 0


@pytest.mark.parametrize(
    "trick",
    ["http://shop.example@127.0.0.1/", "http://127.0.0.1\\@shop.example/", "http:\\\\127.0.0.1/", "http:/\\127.0.0.1",
     "http://127.0.0.1#@shop.example/", "http://127.0.0.1?@shop.example/", "http://shop.example:80:80/",
     "http://127.0.0.1\t/", "http://127.0.0.1%00.shop.example/", "http://127.0.0.1%2f.shop.example/", "///127.0.0.1/",
     "http://\u202e127.0.0.1/", "\x01http://127.0.0.1/", "http://[::1/", "http://[127.0.0.1]/", "http://127.0.0.1 .x/",
     "javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "view-source:http://127.0.0.1/",
     "HTTP:127.0.0.1"],
)  # fmt: skip
def test_a_trick_is_no_address_or_stays_on_the_site(trick: str) -> None:
    found = absolute("http://shop.example/dir/page", trick)
    if found is not None and found.split("/", 3)[2] != "shop.example":
        with pytest.raises(Refused):
            Guard().check(found)


class Rebinding:
    """A name server of the attacker's: each answer once, the last one for ever."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), 0

    async def resolve(self, host):
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [answer]

    async def close(self):
        pass


async def test_what_is_checked_is_what_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name's first answer is public, those after it are this machine."""
    connected: list[str] = []
    real = transport.open_socket

    def connect(family, kind, protocol, address):
        connected.append(address[0])
        if not ip_address(address[0]).is_loopback:
            raise ConnectionRefusedError("nobody there")  # the public answer, which a test does not call
        return real(family, kind, protocol, address)

    monkeypatch.setattr(transport, "open_socket", connect)
    async with serving({"/it": plain(b"secret"), "/robots.txt": plain(b"")}) as (url, asked):
        resolver = Rebinding("93.184.216.34", "127.0.0.1")
        again = LIMITS.model_copy(update={"retries": 3, "robots_retries": 3, "backoff_s": 0.01, "robots_pause_s": 0.01})
        async with fetcher(again, guard=Guard(), resolver=resolver) as one:
            for _ in range(3):
                with pytest.raises(Refused):
                    await one.image(url.replace("127.0.0.1", "rebind.example") + "it")
        assert asked == []
    assert set(connected) == {"93.184.216.34"}


@pytest.mark.parametrize("metadata", ["169.254.169.254", "fd00:ec2::254", "168.63.129.16", "100.100.100.200"])
async def test_metadata_by_any_name(metadata: str) -> None:
    async with fetcher(guard=Guard(), resolver=Rebinding(metadata)) as one:
        for name in ("metadata.google.internal", "instance-data.ec2.internal", "cdn.shop.example"):
            with pytest.raises(Refused, match="not public"):
                await one.image(f"http://{name}/latest/meta-data/")


async def test_a_private_hop_in_the_middle_of_a_chain() -> None:
    table: dict[str, Answer] = {}
    async with serving(table) as (url, asked), fetcher() as one:
        port = url.split(":")[2].strip("/")
        table["/a"] = plain(b"", "Location: /b", status="301 Moved")
        table["/b"] = plain(b"", f"Location: http://127.0.0.2:{port}/c", status="307 There")
        with pytest.raises(Refused, match=r"address: 127\.0\.0\.2"):
            await one.image(f"{url}a")
        assert [head.split(b" ")[1] for head in asked] == [b"/robots.txt", b"/a", b"/b"]


def test_ports() -> None:
    for port in (1, 21, 22, 23, 25, 110, 6000, 6379, 6667, 11211):
        with pytest.raises(Refused, match="no web server's"):
            Guard(["shop.example"]).check(f"http://shop.example:{port}/")
    for port in (80, 443, 1024, 3000, 8080, 8443, 65535):
        Guard().check(f"http://shop.example:{port}/")
    Guard(ports=[81]).check("http://shop.example:81/")


# -- robots, certificates, cookies --


@pytest.mark.parametrize(
    ("robots", "allowed"),
    [
        pytest.param(endless(b"HTTP/1.1 200 OK\r\n\r\n", b"# filling\n" * 1000), True, id="endless"),
        pytest.param(plain(b"User-agent: *\nDisallow: /it\n" + b"# filling\n" * 1_000_000), False, id="huge"),
        pytest.param(plain(BOMB, "Content-Encoding: gzip"), True, id="bomb"),
        pytest.param(plain(b"User-agent: *\nDisallow: /" + b"*a" * 2000 + b"*b$\n"), True, id="wildcards"),
        pytest.param(plain(b"".join(b"User-agent: %d\nDisallow: /\n" % n for n in range(9000))), True, id="groups"),
        pytest.param(plain(b"User-agent: *\n" + b"Disallow: /x\n" * 30_000), True, id="rules"),
        pytest.param(plain(b"User-agent: *\nCrawl-delay: 1e300\nDisallow:"), True, id="delay"),
        pytest.param(plain(b"User-agent: *\nCrawl-delay: nan\nRequest-rate: 0/0\nDisallow:"), True, id="nan"),
        pytest.param(plain(b"\xff\xfe\x00" * 1000), True, id="binary"),
        pytest.param(plain(b"", "Location: /robots.txt", status="301 Moved"), True, id="loop"),
        pytest.param(plain(b"", "Location: http://169.254.169.254/", status="301 Moved"), False, id="private"),
    ],
)
async def test_hostile_robots(robots: Answer, allowed: bool) -> None:
    limits = LIMITS.model_copy(update={"longest_crawl_delay_s": 0.1})
    async with serving({"/robots.txt": robots, "/it": plain(b"x")}) as (url, _), fetcher(limits) as one:
        tracemalloc.start()
        try:
            reply = await asyncio.wait_for(one.image(f"{url}it?{'a' * 3000}"), 30)
            assert allowed
            assert reply.body == b"x"
        except Refused:
            assert not allowed
        finally:
            held = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert held < 60_000_000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a server on 127.0.0.1 that nobody but itself has signed; its key lies beside it."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(1)
    )
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain_key = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain_key))
    return folder / "cert"


@pytest.fixture
def self_signed(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key"))
    return context


async def test_a_certificate_that_nobody_signed_is_one_clear_reason(self_signed: ssl.SSLContext) -> None:
    async with serving({"/it": plain(b"x")}, self_signed) as (url, asked), fetcher() as one:
        for _ in range(2):  # the second address is not even tried
            with pytest.raises(Refused, match=r"robots-unreachable: tls: 127\.0\.0\.1: self.signed certificate"):
                await one.image(f"{url}it")
        assert one.budget(url.split("/")[2]).given_up
        assert one.traffic.requests == 1
        assert asked == []


async def test_a_certificate_of_a_trusted_authority_is_taken(
    self_signed: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serving({"/it": plain(b"x")}, self_signed) as (url, _), fetcher() as one:
        assert (await one.image(f"{url}it")).body == b"x"


async def test_no_tls_where_there_should_be() -> None:
    async with serving({"/it": plain(b"x")}) as (url, _), fetcher() as one:
        with pytest.raises(Refused, match=r"robots-unreachable: (tls|connection|timeout)"):
            await one.image(url.replace("http:", "https:") + "it")


async def test_cookies_are_not_sent_back() -> None:
    cookies = plain(b"x", *(f"Set-Cookie: a{n}=b; Path=/" for n in range(100)))
    async with serving({"/it": cookies}) as (url, asked), fetcher() as one:
        for _ in range(2):
            await one.image(f"{url}it")
    assert len(asked) == 3
    assert not any(b"\r\ncookie" in head.lower() for head in asked)


# -- images, by what they make the decoder hold --

EXAMINE = """
import io, json, resource, struct, sys, zlib
import numpy as np
from PIL import Image, PngImagePlugin
from crawler.crawl_errors import Refused
from crawler.site import Drop
from crawler.thumbnails import examine

def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

def png(width, height, *chunks, depth=8, colour=2, data=None):
    pack = zlib.compressobj(9)
    if data is None:
        row = bytes(1 + width * 3)
        data = b"".join(pack.compress(row) for _ in range(min(height, 64))) + pack.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\\x89PNG\\r\\n\\x1a\\n" + head + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND", b"")

def jpeg(size=(64, 64), **options):
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, "JPEG", **options)
    return out.getvalue()

def many(kind, frames, **options):
    out, first = io.BytesIO(), Image.new("RGB", (64, 64))
    rest = [Image.new("RGB", (64, 64), (n % 256, 0, 0)) for n in range(1, frames)]
    first.save(out, kind, save_all=True, append_images=rest, **options)
    return out.getvalue()

def resized(body, width, height):
    at = body.index(b"\\xff\\xc0") + 5
    return body[:at] + struct.pack(">HH", height, width) + body[at + 4:]

bomb = zlib.compress(bytes(100_000_000), 9)
progressive = jpeg(progressive=True)
scan = progressive[progressive.rindex(b"\\xff\\xda"):-2]
webp = io.BytesIO(); Image.new("RGB", (64, 64)).save(webp, "WEBP", lossless=True); webp = webp.getvalue()
at = webp.index(b"VP8L") + 9
huge_webp = webp[:at] + struct.pack("<I", 16383 | 16383 << 14) + webp[at + 4:]
attacks = {
    "png 65535 x 65535": png(65535, 65535),
    "png of 8000 x 8000": png(8000, 8000),
    "png 2^31 x 1": png(2**31 - 1, 1, data=b""),
    "png 0 x 0": png(0, 0, data=b""),
    "jpeg that says 65500 x 65500": resized(jpeg(), 65500, 65500),
    "jpeg that says 6000 x 6000": resized(jpeg(), 6000, 6000),
    "webp that says 16383 x 16383": huge_webp,
    "zTXt bomb": png(64, 64, chunk(b"zTXt", b"k\\0\\0" + bomb)),
    "iTXt bomb": png(64, 64, chunk(b"iTXt", b"k\\0\\1\\0\\0\\0" + bomb)),
    "many zTXt": png(64, 64, *[chunk(b"zTXt", b"k\\0\\0" + zlib.compress(bytes(900_000), 9))] * 200),
    "iCCP bomb": png(64, 64, chunk(b"iCCP", b"k\\0\\0" + bomb)),
    "IDAT bomb": png(64, 64, data=bomb),
    "apng": many("PNG", 300),
    "gif": many("GIF", 300),
    "animated webp": many("WEBP", 100),
    "a jpeg of 5,000 scans": progressive[:-2] + scan * 5000 + b"\\xff\\xd9",
    "html": b"<html><body>no photo</body></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "tiff": (lambda out: (Image.new("RGB", (64, 64)).save(out, "TIFF"), out.getvalue())[1])(io.BytesIO()),
    "nothing": b"",
}
examine(jpeg(), Drop())
before, found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, {}
for name, body in attacks.items():
    try:
        examine(body, Drop())
        found[name] = "kept"
    except Refused as refused:
        found[name] = refused.reason
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps({"found": found, "grown_kib": grown, "sent": sum(map(len, attacks.values()))}))
"""


def test_image_bombs_are_told_by_their_headers() -> None:
    """In a process of its own, for the peak of its memory; decoders do not tell tracemalloc what they hold."""
    done = subprocess.run([sys.executable, "-c", EXAMINE], capture_output=True, text=True, check=True, timeout=120)
    told = json.loads(done.stdout)
    assert told["found"] == {
        "png 65535 x 65535": "dimensions",
        "png of 8000 x 8000": "dimensions",
        "png 2^31 x 1": "dimensions",
        "png 0 x 0": "broken",
        "jpeg that says 65500 x 65500": "dimensions",
        "jpeg that says 6000 x 6000": "dimensions",
        "webp that says 16383 x 16383": "dimensions",
        "zTXt bomb": "broken",
        "iTXt bomb": "broken",
        "many zTXt": "broken",
        "iCCP bomb": "broken",
        "IDAT bomb": "kept",  # the decoder takes the 12 KB that the picture needs
        "apng": "animated",
        "gif": "format",
        "animated webp": "animated",
        "a jpeg of 5,000 scans": "broken",
        "html": "not-an-image",
        "svg": "format",
        "tiff": "format",
        "nothing": "not-an-image",
    }
    assert told["grown_kib"] < 80_000


# -- a whole crawl of a hostile shop --


def picture(seed: int) -> bytes:
    out = io.BytesIO()
    pixels = bytes((seed * 31 + n * n * 7) % 256 for n in range(8 * 8 * 3))
    Image.frombytes("RGB", (8, 8), pixels).resize((64, 64), Image.Resampling.NEAREST).save(out, "JPEG")
    return out.getvalue()


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def listing(*images: str) -> str:
    return "".join(
        f'<div class="fx-product-list-entry"><div class="product"><a class="product__image" href="/p{number}.htm">'
        f'<picture class="fx-picture"><source data-srcset="{image}"></picture></a></div></div>'
        for number, image in enumerate(images)
    )


async def test_a_hostile_shop_is_crawled_to_its_end(tmp_path: Path) -> None:
    names = {
        "/../../../../etc/cron.d/evil.jpg": picture(1),
        "/..%2f..%2f..%2fevil.jpg": picture(2),
        "/nul%00.jpg": picture(3),
        f"/{'n' * 3000}.jpg": picture(4),
        "/con.jpg;rm%20-rf": picture(5),
        "/%E2%80%AEgpj.exe": picture(6),
    }
    refused = ["javascript:alert(1)", "data:image/jpeg;base64,/9j/", "file:///etc/passwd", "/" + "x" * 10_000]
    elsewhere = ["http://169.254.169.254/a.jpg", "http://127.0.0.2/b.jpg", "http://elsewhere.example/c.jpg"]
    head = [f"Content-Disposition: attachment; filename=../../../{tmp_path.name}/evil.sh", "Content-Type: text/html"]
    pages = 0

    table: dict[str, Answer] = {path: plain(body, *head) for path, body in names.items()}
    table["/html.jpg"] = plain(b"<html>no photo</html>", "Content-Type: image/jpeg")
    link = '<div class="link-list__item"><a class="link-list__text" href="{}">{}</a></div>'
    many = "".join(f'<a class="link-list__text" href="/m{n}">n</a>' for n in range(100_000))
    many = f'<div class="link-list__item">{many}</div>'
    table["/"] = plain((link.format("/banjo.html", "banjo") + link.format("/endless.html", "endless") + many).encode())
    images = [*(f"//127.0.0.1:PORT{path}" for path in names), *refused, *elsewhere, "/html.jpg"]

    async def endless_pages(writer: Writer) -> None:
        nonlocal pages
        pages += 1
        body = listing(f"/html.jpg?{pages}").replace("/p0", f"/endless{pages}")
        writer.write(plain(body.encode()))
        await writer.drain()

    table["/endless.html"] = endless_pages
    limits = LIMITS.model_copy(update={"page_bytes": 8_000_000, "total_s": 10.0})
    async with serving(table) as (url, _):
        port = url.split(":")[2].strip("/")
        page = listing(*(image.replace("PORT", port) for image in images))
        table["/banjo.html"] = plain(page.encode())
        site = load_site(
            "folder",
            site={"start": [url], "hosts": ["127.0.0.1", "127.0.0.2", "169.254.169.254"]},
            follow={"allow_text": ["banjo|endless|n"], "max_categories": 40},
            listing={"max_pages": 7},
        )
        report = await asyncio.wait_for(crawl(site, tmp_path / "set", limits=limits), 100)
    assert report.finished
    assert report.kept == len(names)
    assert pages <= 9
    assert report.categories <= 40
    reasons = {}
    for line in (tmp_path / "set" / DROPS_NAME).read_text().splitlines():
        drop = json.loads(line)
        reasons[drop["url"]] = drop["reason"]
    assert reasons["http://169.254.169.254/a.jpg"] == reasons["http://127.0.0.2/b.jpg"] == "address"
    assert reasons["http://elsewhere.example/c.jpg"] == "foreign-host"
    assert reasons[f"{url}html.jpg"] == "not-an-image"
    assert report.kept + sum(report.dropped.values()) + sum(report.failed.values()) == report.products
    # nothing on the disk is named by the shop
    made = names_in(tmp_path)
    assert all(name.startswith("set") for name in made)
    assert not any(word in name for name in made for word in ("evil", "nnn", "con", "exe", ".."))
