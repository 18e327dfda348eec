"""The address guard: nothing a page says makes us call on this machine or its neighbours.

Checked more than once, because each check alone has a hole: no resolver is asked about a literal address, and a name
can answer differently between a check and the connection. So literals are checked on every hop, names when they are
resolved, and what is connected to are the answers that were checked (`crawler/transport.py`), each once more.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Protocol

from crawler.crawl_errors import Refused
from crawler.urls import host_of, netloc_of

__all__ = ["Guard", "Resolver", "Resolving", "is_public"]

_DNS_THREADS = 32
_DNS_AGAIN_S = 0.25
# IPv6 addresses that carry an IPv4 one: RFC 6052 (NAT64), RFC 4291 (IPv4-compatible), RFC 2765 (IPv4-translated)
_CARRIERS = (ip_network("64:ff9b::/96"), ip_network("::/96"), ip_network("::ffff:0:0:0/96"))
# All of the public Internet is in here (IANA's registry of IPv6 unicast); what is special lies within
_UNICAST = ip_network("2000::/3")
# Special by the registries, and not yet so to every Python this runs on; and Azure's metadata server, which stands
# on a public address
_SPECIAL = tuple(
    map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "3fff::/20", "2001:10::/28", "2001::/23"))
)
# Letters, digits, hyphens, dots; an underscore is no host name, but shops have some. Everything else is a trick.
_NAME = re.compile(r"(?=.{1,254}$)(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
# Ports below 1024 but the web's own, and those that the Fetch standard blocks above: no web server of a shop is there,
# and what is there may take a request for a command. Then common databases and caches, for the same reason.
_BAD_PORTS = frozenset({1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669})
_BAD_PORTS |= {6679, 6697, 10080} | {2375, 3306, 5432, 6379, 9200, 11211, 27017}


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the public Internet, by the IANA special-purpose registries.

    An IPv6 address that carries an IPv4 one (mapped, translated, NAT64, 6to4, Teredo) is as public as what it carries.
    """
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and any(address in carrier for carrier in _CARRIERS):
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.scope_id or address not in _UNICAST:
            return False
    if any(address.version == special.version and address in special for special in _SPECIAL):
        return False
    return address.is_global and not address.is_multicast


class Guard:
    """Which hosts may be called.

    Args:
        allow_private: host names or literals that may be private: what the site file names, nothing else.
        ports: that may be called besides 80, 443 and those from 1024 up that are no other service's: the site
            file's own.
    """

    def __init__(self, allow_private: Collection[str] = (), ports: Collection[int] = ()) -> None:
        self._allowed = frozenset(name.lower() for name in allow_private)
        self._ports = frozenset(ports) | {80, 443}
        self._checked: dict[str, str] = {}

    def check(self, url: str) -> None:
        """Checks host and port of an address that `absolute` gave; what a name means is left to the resolver.

        Raises:
            Refused: "address", for a literal in any notation (dotted, decimal, hex, octal, IPv6) that is not public,
                for what is no host name, and for a port that is not the web's.
        """
        netloc = netloc_of(url)
        problem = self._checked.get(netloc)
        if problem is None:
            if len(self._checked) >= 4096:
                self._checked.clear()
            problem = self._checked[netloc] = self._problem(netloc)
        if problem:
            raise Refused("address", problem)

    def check_answer(self, host: str, addresses: Collection[str]) -> None:
        """Checks what a name resolved to; one private address among them is enough to refuse.

        Raises:
            Refused: "address".
        """
        if host.lower() in self._allowed:
            return
        for text in addresses:
            if not is_public(ip_address(text.partition("%")[0])):
                raise Refused("address", f"{host} resolves to {text}, which is not public")

    def _problem(self, netloc: str) -> str:
        host, port = host_of(netloc), _port(netloc)
        if port not in self._ports and (port < 1024 or port in _BAD_PORTS):
            return f"port {port} of {host} is no web server's; only a start page may name it"
        if host in self._allowed:
            return ""
        address = _literal(host)
        if address is None:
            return "" if _NAME.fullmatch(host) else f"{host[:80]!r} is no host name"
        return "" if is_public(address) else f"{host} is {address}, which is not public"


class Resolver(Protocol):
    """What knows names."""

    async def resolve(self, host: str) -> list[str]:
        """The addresses of a name, best first. Raises OSError if there are none."""

    async def close(self) -> None:
        """Lets go of what it holds."""


class Resolving:
    """Names into addresses that may be called.

    A name that fails is asked for once more: of a crawl's failures to resolve, many are the resolver's moment.
    """

    def __init__(self, guard: Guard, resolver: Resolver | None = None) -> None:
        self._guard = guard
        self._resolver = resolver or _Resolver()

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of a name; none for a literal, which `Guard.check` has looked at.

        Raises:
            Refused: "address", for a private answer.
            OSError: there is none.
        """
        if _literal(host) is not None:
            return ()
        try:
            found = await self._resolver.resolve(host)
        except OSError:
            await asyncio.sleep(_DNS_AGAIN_S)
            found = await self._resolver.resolve(host)
        self._guard.check_answer(host, found)
        return tuple(dict.fromkeys(found))

    async def close(self) -> None:
        """Closes the resolver underneath."""
        await self._resolver.close()


class _Resolver:
    """The system's resolver in threads of its own: a name server that hangs holds up neither other work nor, as long as
    there are threads, other names."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    async def resolve(self, host: str) -> list[str]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_DNS_THREADS, thread_name_prefix="dns")
        ask = partial(socket.getaddrinfo, host, None, 0, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
        answers = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        # a link-local IPv6 answer keeps its zone, and with it is refused
        return [str(to[0]) for *_, to in answers]

    async def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


@lru_cache(maxsize=4096)
def _port(netloc: str) -> int:
    _, colon, port = netloc.rpartition(":")
    return int(port) if colon and port.isdigit() else 443


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        # What the C library takes for IPv4: 2130706433, 0x7f.1, 0177.0.0.1
        return IPv4Address(socket.inet_aton(host.rstrip(".")))
    except (OSError, ValueError):
        return None
