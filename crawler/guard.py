"""The address guard: nothing a page says makes us call on this machine or its neighbours.

Checked twice, because each check alone has a hole: aiohttp asks no resolver about a literal address, and a name can
answer differently between a check and the connection. So literals are checked on every hop, and names are checked in
the resolver whose answer is the one connected to.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from crawler.crawl_errors import Refused
from crawler.urls import host_of, netloc_of

__all__ = ["Guard", "GuardedResolver", "is_public"]

# IPv6 addresses that carry an IPv4 one: RFC 6052 (NAT64) and RFC 4291 (IPv4-compatible)
_NAT64 = ip_network("64:ff9b::/96")
_COMPATIBLE = ip_network("::/96")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the public Internet, by the IANA special-purpose registries.

    An IPv6 address that carries an IPv4 one (mapped, NAT64, 6to4, Teredo) is as public as what it carries.
    """
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and (address in _NAT64 or address in _COMPATIBLE):
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.scope_id:
            return False
    return address.is_global and not address.is_multicast


class Guard:
    """Which hosts may be called.

    Args:
        allow_private: host names or literals that may be private: what the site file names, nothing else.
    """

    def __init__(self, allow_private: Collection[str] = ()) -> None:
        self._allowed = frozenset(name.lower() for name in allow_private)
        self._checked: dict[str, str] = {}

    def check(self, url: str) -> None:
        """Checks the literal in an address that `absolute` gave; names are left to the resolver.

        Raises:
            Refused: "address", for a literal in any notation (dotted, decimal, hex, octal, IPv6) that is not public.
        """
        netloc = netloc_of(url)
        problem = self._checked.get(netloc)
        if problem is None:
            if len(self._checked) >= 4096:
                self._checked.clear()
            problem = self._checked[netloc] = self._problem(host_of(netloc))
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

    def _problem(self, host: str) -> str:
        if host in self._allowed:
            return ""
        address = _literal(host)
        return "" if address is None or is_public(address) else f"{host} is {address}, which is not public"


class GuardedResolver(AbstractResolver):
    """Resolves names for aiohttp and refuses private answers: what it returns is what is connected to."""

    def __init__(self, guard: Guard, resolver: AbstractResolver | None = None) -> None:
        self._guard = guard
        self._resolver = resolver or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises Refused for a private answer, OSError for none."""
        found = await self._resolver.resolve(host, port, family)
        self._guard.check_answer(host, [answer["host"] for answer in found])
        return found

    async def close(self) -> None:
        """Closes the resolver underneath."""
        await self._resolver.close()


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
