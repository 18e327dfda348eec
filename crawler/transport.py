"""One GET over the wire by libcurl: bounded in time, in bytes and in headers, and connected only to what was checked.

A request costs a quarter of the processor time that aiohttp's client takes (docs/decisions/crawler-transport.md): what
parses, buffers and keeps connections is C. Ours is what libcurl does not know: whether an address may be called, how
slow is too slow, which answers are worth reading.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import select
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

import pycurl
from multidict import CIMultiDict

from crawler.buckets import ByteBucket
from crawler.crawl_errors import Refused
from crawler.guard import Guard, Resolver, Resolving
from crawler.limits import Limits
from crawler.urls import host_of

__all__ = ["Exchange", "Transport"]

_OTHER_FILES = 256  # of the process: shards, ledger, the caller's own
_FEWEST, _MOST = 64, 4096  # connections that stay open
_DNS_S = 300.0  # a name's answer counts so long
_LOOK_S = 0.05  # between two looks at the clock for all transfers
_LINE, _LINES, _HEAD = 8190, 128, 65_536  # of headers: bytes of one, their number, bytes of all
_STATUS = re.compile(rb"[1-9]\d\d")
_DIGITS = 19  # of a length; Python refuses to read 4,301
_EMPTY = 2  # bytes of an empty line
_UNWANTED = 65_536  # bytes of a body nobody wants that are read to keep its connection
_ENCODINGS = frozenset({"identity", "gzip", "x-gzip", "deflate"})


class Exchange:
    """One request and what came of it.

    Args:
        url: what `absolute` gave.
        netloc: its host[:port].
        headers: as libcurl takes them, "Name: value".
        cap: bytes of the body, after decompression, if the status is 200.
        cut: keep the first `cap` bytes instead of refusing.
        unzip: whether the body may be compressed.
        buckets: caps on bytes a second that hold; empty if there are none.

    Attributes:
        status: 0 until it is known, then what the server said.
        headers: of the answer, once `body` has come; bytes that are not UTF-8 as U+FFFD.
    """

    __slots__ = (
        "_body", "_buckets", "_handle", "_owed_until", "answer", "began", "body_began", "cap", "cut",
        "done", "headers", "host", "last", "netloc", "refused", "request", "size", "status", "unzip", "url",
    )  # fmt: skip

    def __init__(
        self,
        url: str,
        netloc: str,
        headers: Sequence[str],
        cap: int,
        *,
        cut: bool = False,
        unzip: bool = False,
        buckets: tuple[ByteBucket, ...] = (),
    ) -> None:
        self.url, self.netloc, self.host, self.request = url, netloc, host_of(netloc), headers
        self.cap, self.cut, self.unzip, self._buckets = cap, cut, unzip, buckets
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.size = 0
        self.began = self.body_began = self.last = 0.0
        self.refused: Refused | None = None
        self.answer = False  # whether its headers are all in, and read
        self.done: asyncio.Future[None] | None = None
        self._body: list[bytes] = []
        self._owed_until = 0.0
        self._handle: Any = None

    @property
    def body(self) -> bytes:
        """The body of a 200; empty for every other status."""
        whole = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        return whole[: self.cap]


class Transport:
    """GETs over libcurl's multi interface; made in its event loop, and closed by `close`.

    No redirects are followed, no cookies kept, no proxies or .netrc read: what is asked is what was given.

    Args:
        limits: `connect_s`, `read_s`, `total_s`, `min_bytes_per_s`, `concurrency`.
        guard: which addresses may be called.
        resolver: instead of the system's.
        user_agent: the whole User-Agent header.
    """

    def __init__(self, limits: Limits, guard: Guard, resolver: Resolver | None = None, *, user_agent: str) -> None:
        self._limits, self._guard = limits, guard
        self._names = Resolving(guard, resolver)
        self._user_agent = user_agent
        self._head_s = min(limits.connect_s + limits.read_s, limits.total_s)
        self._loop = asyncio.get_running_loop()
        self._known: dict[str, tuple[float, tuple[str, ...]]] = {}  # by host: until when, addresses
        self._asking: dict[str, asyncio.Task[tuple[float, tuple[str, ...]]]] = {}
        self._idle: list[Any] = []  # handles that have nothing to do
        self._active: dict[Any, Exchange] = {}  # by handle
        self._watched: set[int] = set()  # sockets that something is waited for on
        self._registered: dict[int, tuple[int, int]] = {}  # by socket: for what, and how many had been opened then
        self._opened = 0  # sockets
        # of its own: a socket is waited for anew with each request, which the event loop makes much of
        self._sockets = select.epoll()
        self._loop.add_reader(self._sockets.fileno(), self._ready)
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._closed = False
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, _most_open(limits))

    async def get(self, exchange: Exchange) -> None:
        """Runs a request to its end: its status, headers and body are then there.

        Raises:
            Refused: "timeout", "too-slow", "too-large", "dns", "connection", "tls" (`again` False: its certificate),
                "protocol", "encoding" or "address".
        """
        exchange.began = exchange.last = monotonic()
        known = self._known.get(exchange.host)
        if known is None or known[0] < exchange.began:
            try:
                known = await asyncio.wait_for(self._resolved(exchange.host), self._head_s)
            except TimeoutError:
                raise _late(self._head_s) from None
        exchange.done = self._loop.create_future()
        self._start(exchange, known[1])
        try:
            await exchange.done
        except asyncio.CancelledError:
            self._drop(exchange)
            raise
        if exchange.refused is not None:
            raise exchange.refused
        owed = exchange._owed_until - monotonic()  # what came in one piece is paid for when it is there
        if owed > 0:
            await asyncio.sleep(owed)

    async def close(self) -> None:
        """Gives up what is under way and closes all connections."""
        self._closed = True
        for exchange in tuple(self._active.values()):
            self._drop(exchange)
            if exchange.done is not None and not exchange.done.done():
                exchange.done.cancel()
        for task in self._asking.values():
            task.cancel()
        for timer in (self._soon, self._timer, self._looking):
            if timer is not None:
                timer.cancel()
        self._multi.close()
        for handle in self._idle:
            handle.close()
        self._idle.clear()
        self._loop.remove_reader(self._sockets.fileno())
        self._sockets.close()
        await self._names.close()

    # -- names --

    async def _resolved(self, host: str) -> tuple[float, tuple[str, ...]]:
        """Asks, once for all who want to know."""
        task = self._asking.get(host)
        if task is None:
            task = self._asking[host] = self._loop.create_task(self._ask(host))
            task.add_done_callback(lambda done: self._asked(host, done))
        return await asyncio.shield(task)

    def _asked(self, host: str, done: asyncio.Task[Any]) -> None:
        self._asking.pop(host, None)
        if not done.cancelled():
            done.exception()  # taken note of, also where nobody waits for it any more

    async def _ask(self, host: str) -> tuple[float, tuple[str, ...]]:
        try:
            addresses = await self._names.addresses(host)
        except OSError as error:
            raise Refused("dns", f"{host}: {error.strerror or error}"[:200], again=True, failed=True) from None
        if len(self._known) > 4 * _MOST:
            self._known.clear()
        known = self._known[host] = (monotonic() + _DNS_S, addresses)
        return known

    # -- a transfer --

    def _start(self, exchange: Exchange, addresses: Sequence[str]) -> None:
        handle = self._idle.pop() if self._idle else self._new_handle()
        handle.exchange, exchange._handle = exchange, handle
        handle.setopt(pycurl.URL, exchange.url)
        # what stands in the shop's page goes over the wire: libcurl would tidy percent-encodings
        handle.setopt(pycurl.REQUEST_TARGET, exchange.url[exchange.url.index("/", 8) :])
        # what a handle was told before still holds, and is mostly the same
        if handle.request != exchange.request:
            handle.request = exchange.request
            handle.setopt(pycurl.HTTPHEADER, exchange.request)
        if handle.unzip != exchange.unzip:
            handle.unzip = exchange.unzip
            handle.setopt(pycurl.ACCEPT_ENCODING, "gzip, deflate" if exchange.unzip else "identity")
        if addresses:  # libcurl asks no name server: of what we asked for and checked it takes what it can reach
            # each time: what was told last counts for all handles
            handle.setopt(pycurl.RESOLVE, [_meaning(exchange, addresses)])
        self._active[handle] = exchange
        self._multi.add_handle(handle)
        if self._looking is None:
            self._looking = self._loop.call_later(_LOOK_S, self._look)

    def _new_handle(self) -> Any:
        handle = pycurl.Curl()
        lines: list[bytes] = []
        handle.lines = lines
        handle.request = handle.unzip = None
        options = {
            # no Python of ours for ten lines an answer: they are looked at when something follows them
            pycurl.HEADERFUNCTION: lines.append,
            pycurl.WRITEFUNCTION: lambda piece: self._piece(handle.exchange, piece),
            pycurl.OPENSOCKETFUNCTION: lambda purpose, to: self._open(handle.exchange, to),
            pycurl.USERAGENT: self._user_agent,
            pycurl.NOSIGNAL: 1,
            pycurl.FOLLOWLOCATION: 0,
            pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
            pycurl.PROXY: "",  # or the environment's would be asked in our place, past the guard
            pycurl.PATH_AS_IS: 1,
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
            pycurl.CONNECTTIMEOUT_MS: max(1, int(self._limits.connect_s * 1000)),
            pycurl.DNS_CACHE_TIMEOUT: -1,
        }
        for option, value in options.items():
            handle.setopt(option, value)
        for option, path in zip((pycurl.CAINFO, pycurl.CAPATH), _authorities(), strict=True):
            if path:
                handle.setopt(option, path)
        return handle

    def _drop(self, exchange: Exchange) -> None:
        """Gives a transfer up; its connection is closed."""
        handle = exchange._handle
        if handle is not None and self._active.pop(handle, None) is not None:
            self._multi.remove_handle(handle)
            self._release(exchange)

    def _release(self, exchange: Exchange) -> None:
        handle, exchange._handle = exchange._handle, None
        handle.exchange = None
        handle.lines.clear()  # trailers, which are of no use to anyone
        if self._closed or len(self._idle) >= self._limits.concurrency:
            handle.close()
        else:
            self._idle.append(handle)

    def _end(self, exchange: Exchange, refused: Refused | None) -> None:
        exchange.refused = exchange.refused or refused
        if exchange.done is not None and not exchange.done.done():
            exchange.done.set_result(None)

    # -- libcurl's calls: none may raise, and none may touch the multi handle --

    def _open(self, exchange: Exchange, to: Any) -> Any:
        """The socket to connect by. The last look at an address, whoever resolved it."""
        try:
            self._guard.check_answer(exchange.host, [to.addr[0]])
            opened = open_socket(to.family, to.socktype, to.protocol, to.addr)
            self._opened += 1
            self._loop.call_soon(opened.close)  # pycurl duplicates it as soon as it has it
            return opened
        except Refused as refused:
            exchange.refused = refused
        except OSError as error:
            exchange.refused = Refused("connection", f"{error.strerror or error}", again=True, failed=True)
        return pycurl.SOCKET_BAD

    def _headers_are_in(self, exchange: Exchange) -> int | None:
        """Reads the headers that have come, if they are whole; of 1xx answers nothing is read."""
        lines: list[bytes] = exchange._handle.lines
        if _too_many(lines):
            return self._refuse(exchange, _flood())
        code = 100
        while 100 <= code < 200 and code != 101:
            end = _end_of_headers(lines)
            if not end:
                return None  # the answer is yet to come
            said = lines[:end]
            del lines[:end]
            status = said[0].split(None, 2)[1:2]
            code = int(status[0]) if status and _STATUS.fullmatch(status[0]) else 0
        exchange.status = code
        exchange.answer = True
        exchange.body_began = exchange.last = monotonic()
        pairs = [line.partition(":") for line in b"".join(said[1:-1]).decode("utf-8", "replace").split("\n")]
        found = exchange.headers = CIMultiDict([(name.strip(), value.strip()) for name, colon, value in pairs if colon])
        if problem := _contradiction(found):
            return self._refuse(exchange, Refused("protocol", problem, failed=True))
        if code == 101:
            return _ENOUGH
        if code != 200:
            return None
        encoding = found.get("Content-Encoding", "")
        if encoding and not _ENCODINGS.issuperset(part.strip() for part in encoding.lower().split(",")):
            return self._refuse(exchange, Refused("encoding", f"Content-Encoding: {encoding}, which was not asked for"))
        length = found.get("Content-Length")
        if length is not None and not exchange.cut and int(length) > exchange.cap:
            problem = f"Content-Length {length[:40]}, at most {exchange.cap} bytes are taken"
            return self._refuse(exchange, Refused("too-large", problem))
        return None

    def _piece(self, exchange: Exchange, piece: bytes) -> int | None:
        if not exchange.answer and self._headers_are_in(exchange) is not None:
            return _ENOUGH
        now = exchange.last = monotonic()
        exchange.size += len(piece)
        if exchange.status != 200:
            return None if exchange.size <= _UNWANTED else _ENOUGH
        exchange._body.append(piece)
        if exchange.size > exchange.cap:
            if exchange.cut:
                return _ENOUGH
            return self._refuse(exchange, Refused("too-large", f"more than {exchange.cap} bytes"))
        took = now - exchange.body_began
        if took > self._limits.read_s and exchange.size < self._limits.min_bytes_per_s * took:
            slow = Refused("too-slow", f"{exchange.size} bytes in {took:.0f} s", again=True, failed=True)
            return self._refuse(exchange, slow)
        if exchange._buckets:
            wait = max(bucket.take(len(piece), now) for bucket in exchange._buckets)
            if wait > 0:
                self._wait(exchange, now, wait)
        return None

    def _wait(self, exchange: Exchange, now: float, wait_s: float) -> None:
        """Reads on only when what has come is paid for: TCP tells the server. It is no slowness of the server's."""
        more = now + wait_s - max(now, exchange._owed_until)
        exchange._owed_until = now + wait_s
        exchange.began += more
        exchange.body_began += more
        handle = exchange._handle
        self._loop.call_soon(self._pause, exchange, handle, True)
        self._loop.call_later(wait_s, self._pause, exchange, handle, False)

    def _pause(self, exchange: Exchange, handle: Any, pause: bool) -> None:
        if exchange._handle is not handle:
            return  # it is over
        if not pause and exchange._owed_until > monotonic() + _LOOK_S:
            return  # more has come meanwhile
        exchange.last = monotonic()
        with suppress(pycurl.error):
            handle.pause(pycurl.PAUSE_RECV if pause else pycurl.PAUSE_CONT)
        self._collect()

    def _refuse(self, exchange: Exchange, refused: Refused) -> int:
        exchange.refused = refused
        return _ENOUGH

    # -- the event loop --

    def _watch(self, what: int, fd: int, multi: Any, data: Any) -> None:
        wanted = _WAITED_FOR.get(what)
        if not wanted:  # for now: the next request on this connection will want the same
            self._watched.discard(fd)
            return
        self._watched.add(fd)
        # A number stands for another socket once one was opened, and what was closed is registered no more.
        if self._registered.get(fd) == (wanted, self._opened):
            return
        self._registered[fd] = (wanted, self._opened)
        try:
            self._sockets.modify(fd, wanted)
        except FileNotFoundError:
            self._sockets.register(fd, wanted)

    def _ready(self) -> None:
        for fd, events in self._sockets.poll(0):
            if fd not in self._watched:  # a connection that nothing is asked on has been closed from the other side
                self._registered.pop(fd, None)
                try:
                    self._sockets.unregister(fd)
                except OSError:
                    self._listen_anew()
                    break
            else:
                # errors and hang-ups are for who reads or writes to find
                readable = pycurl.CSELECT_IN if events & ~select.EPOLLOUT else 0
                writable = pycurl.CSELECT_OUT if events & ~select.EPOLLIN else 0
                self._multi.socket_action(fd, readable | writable)
        self._collect()

    def _listen_anew(self) -> None:
        """With another epoll: a socket that is closed here and kept by a forked process is heard of for ever."""
        self._loop.remove_reader(self._sockets.fileno())
        self._sockets.close()
        self._sockets = select.epoll()
        self._loop.add_reader(self._sockets.fileno(), self._ready)
        self._registered = {fd: self._registered[fd] for fd in self._watched}
        for fd, (wanted, _) in self._registered.items():
            self._sockets.register(fd, wanted)

    def _set_timer(self, milliseconds: int) -> None:
        if milliseconds == 0 and self._soon is None and not self._closed:
            self._soon = self._loop.call_soon(self._begin)  # each request that is added asks for it
        if milliseconds == 0:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if milliseconds > 0 and not self._closed:
            self._timer = self._loop.call_later(milliseconds / 1000, self._due)

    def _begin(self) -> None:
        self._soon = None
        self._due()

    def _due(self) -> None:
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._collect()

    def _collect(self) -> None:
        """Ends the transfers that libcurl has ended."""
        while True:
            left, fine, failed = self._multi.info_read()
            for handle in fine:
                self._ended(handle, None)
            for handle, code, message in failed:
                self._ended(handle, (code, message))
            if not left:
                return

    def _ended(self, handle: Any, error: tuple[int, str] | None) -> None:
        exchange = self._active.pop(handle)
        bodiless = not exchange.answer
        connection = handle.getinfo(pycurl.ACTIVESOCKET) if bodiless else -1
        self._multi.remove_handle(handle)
        refused = None
        try:
            if bodiless:
                enough = self._headers_are_in(exchange) is not None
                if exchange.refused is not None:
                    _shut(connection)  # libcurl has it among those to be used again; what hides in it may answer next
            else:
                enough = error is not None and error[0] == pycurl.E_WRITE_ERROR
                if error is not None and _too_many(handle.lines):
                    exchange.refused = exchange.refused or _flood()
            if error is not None and not enough:
                refused = _problem(exchange, *error)
            elif not exchange.answer:
                refused = Refused("connection", "the answer ended inside its headers", again=True, failed=True)
        finally:
            self._release(exchange)
            self._end(exchange, refused)

    def _look(self) -> None:
        """Ends what takes too long. One look for all of them: a timer a request costs as much as a header."""
        now = monotonic()
        try:
            for exchange in tuple(self._active.values()):
                if not exchange.answer and self._enough_of(exchange):
                    self._drop(exchange)
                    self._end(exchange, None)
                    continue
                late = self._lateness(exchange, now)
                if late is not None:
                    self._drop(exchange)
                    # what was asked is known: only the rest of a body that nobody wants is late
                    self._end(exchange, late if exchange.status in (0, 200) else None)
        finally:  # a fault with one of them must not leave all others without an end
            self._looking = self._loop.call_later(_LOOK_S, self._look) if self._active else None

    def _enough_of(self, exchange: Exchange) -> bool:
        """Whether the headers that have come without a body, or without end, are a reason to end here."""
        lines = exchange._handle.lines
        if not lines or (len(lines) <= _LINES and len(lines[-1]) > _EMPTY):
            return False
        return self._headers_are_in(exchange) is not None

    def _lateness(self, exchange: Exchange, now: float) -> Refused | None:
        took = now - exchange.began
        if not exchange.answer:
            return _late(self._head_s) if took > self._head_s else None
        if took > self._limits.total_s:
            return _late(self._limits.total_s)
        if now - exchange.last > self._limits.read_s and exchange._owed_until < now:
            return Refused("timeout", f"nothing more for {self._limits.read_s:g} s", again=True, failed=True)
        return None


_WAITED_FOR = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}
_ENOUGH = 0
"""What a callback returns, fewer bytes than it was given, for libcurl to end the transfer."""


def _late(seconds: float) -> Refused:
    return Refused("timeout", f"not done in {seconds:g} s", again=True, failed=True)


def open_socket(family: int, kind: int, protocol: int, address: tuple[Any, ...]) -> socket.socket:
    """A socket for a connection to `address`."""
    return socket.socket(family, kind, protocol)


def _meaning(exchange: Exchange, addresses: Sequence[str]) -> str:
    """What a name means, as CURLOPT_RESOLVE takes it."""
    _, colon, port = exchange.netloc.rpartition(":")
    default = "443" if exchange.url.startswith("https:") else "80"
    joined = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
    return f"{exchange.host}:{port if colon else default}:{joined}"


def _contradiction(headers: CIMultiDict[str]) -> str:
    """What makes the end of a body a matter of opinion (RFC 9112, 6.3): a request may hide behind it."""
    lengths = set(headers.getall("Content-Length", ()))
    if len(lengths) > 1:
        return f"Content-Length {' and '.join(sorted(lengths))[:60]}"
    length = next(iter(lengths), "0")
    if not length.isascii() or not length.isdigit() or len(length) > _DIGITS:
        return f"Content-Length {length[:40]!r}"
    if lengths and "Transfer-Encoding" in headers:
        return "both Content-Length and Transfer-Encoding"
    return ""


def _end_of_headers(lines: Sequence[bytes]) -> int:
    """How many lines there are up to the first empty one and with it; 0 if there is none."""
    for count, line in enumerate(lines, 1):
        if len(line) <= _EMPTY:
            return count
    return 0


def _too_many(lines: Sequence[bytes]) -> bool:
    size = sum(map(len, lines))
    return len(lines) > _LINES or (size > _LINE and (size > _HEAD or max(map(len, lines)) > _LINE))


def _shut(connection: int) -> None:
    """Ends a connection that is libcurl's: it finds it closed when it would use it again."""
    with suppress(OSError), socket.socket(fileno=os.dup(connection)) as ours:
        ours.shutdown(socket.SHUT_RDWR)


def _flood() -> Refused:
    return Refused(
        "protocol", f"more headers than {_LINES}, or than {_HEAD:,} bytes, or one over {_LINE:,}", failed=True
    )


_TOO_LARGE = 100  # CURLE_TOO_LARGE, which pycurl has no name for: of headers
_PROTOCOL = frozenset(
    (pycurl.E_FTP_WEIRD_SERVER_REPLY, pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_OUT_OF_MEMORY, pycurl.E_HTTP2, _TOO_LARGE)
)  # the first has lost its FTP since it was named
_TLS = frozenset(
    (pycurl.E_SSL_CONNECT_ERROR, pycurl.E_SSL_CIPHER, pycurl.E_SSL_CERTPROBLEM, pycurl.E_SSL_CACERT_BADFILE)
)


_PREFIX = re.compile(r"SSL( certificate)?( problem| OpenSSL verify result)?: ")


def _problem(exchange: Exchange, code: int, message: str) -> Refused:
    """What libcurl's error means."""
    text = message[:200] or f"libcurl's error {code}"
    if code == pycurl.E_PEER_FAILED_VERIFICATION:
        return Refused("tls", f"{exchange.host}: {_PREFIX.sub('', text)}", failed=True)
    if code in _TLS:
        return Refused("tls", text, again=True, failed=True)
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return Refused("timeout", text, again=True, failed=True)
    if code == pycurl.E_COULDNT_RESOLVE_HOST:
        return Refused("dns", text, again=True, failed=True)
    if code == pycurl.E_URL_MALFORMAT:
        return Refused("address", text)
    if code == pycurl.E_BAD_CONTENT_ENCODING:
        return Refused("encoding", text)
    if code in _PROTOCOL:
        return Refused("protocol", text, failed=True)
    return Refused("connection", text, again=True, failed=True)


def _authorities() -> tuple[str | None, str | None]:
    """File and folder of the certificates that are trusted: the system's, which libcurl in a wheel does not know."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile, paths.capath


def _most_open(limits: Limits) -> int:
    """Connections that may stay open, so that files are left for all else."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return _MOST
    return max(_FEWEST, min(_MOST, files - _OTHER_FILES - limits.concurrency))
