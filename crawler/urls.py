"""Addresses as text, kept as the shop wrote them: what is cleaned is only what no server could tell apart.

A double slash in a path, a percent-encoding in lower case, an order of parameters: a shop may tell those apart.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from yarl import URL

__all__ = ["absolute", "ascii_host", "host_of", "netloc_of", "without_parameters"]

# Everything RFC 3986 allows in an address; the rest (spaces, other scripts) is percent-encoded.
_LEGAL = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*")
_PLAIN = re.compile(r"/(?!/)[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]*")  # an absolute path, legal, without fragment
_HOST = re.compile(r"[a-z0-9._~%:-]+")
# legal and lower case already; a port that is none's default is part of the name
_WHOLE = re.compile(
    r"https?://[a-z0-9.-]+(?::(?!80/|443/)[1-9][0-9]{0,3}|:[1-5][0-9]{4})?/[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]*"
)
_SAFE = "._~:/?#[]@!$&'()*+,;=%-"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
MAX_CHARS = 4096


def absolute(base: str, reference: str) -> str | None:
    """The absolute http(s) address that `reference` means on the page `base`, itself one, without fragment.

    Scheme and host come back in lower case and a default port is left out; the rest is as written.

    Returns:
        None for what is no address of the web: another scheme, no host, broken or longer than 4,096 characters.
    """
    # what most shops write, at 1 us against 25; urljoin leaves out a ";" or "?" with nothing behind it
    if len(reference) <= MAX_CHARS and not ("/." in reference or ";" in reference or reference.endswith("?")):
        if _PLAIN.fullmatch(reference):
            return base[: base.index("/", 8)] + reference
        if _WHOLE.fullmatch(reference):
            return reference
    reference = reference.strip()
    if not reference or len(reference) > MAX_CHARS:
        return None
    try:
        parts = urlsplit(urljoin(base, reference))
        scheme, netloc = parts.scheme.lower(), parts.netloc.lower()
        if scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in netloc:
            return None
        if not netloc.isascii():
            host, colon, port = netloc.partition(":")
            netloc = f"{ascii_host(host) or ''}{colon}{port}"
            if not netloc or netloc.startswith(":"):
                return None
        _ = parts.port  # raises for what is no port
    except (ValueError, UnicodeError):
        return None
    netloc = netloc.removesuffix(_DEFAULT_PORTS[scheme])
    url = urlunsplit((scheme, netloc, parts.path or "/", parts.query, ""))
    return url if _LEGAL.fullmatch(url) else quote(url, safe=_SAFE, errors="surrogateescape")


@lru_cache(maxsize=4096)
def ascii_host(host: str) -> str | None:
    """A host's name as the DNS has it: lower case, other scripts as xn-- labels (IDNA 2008 and UTS 46, like browsers).

    Returns:
        None for what is no name.
    """
    try:
        name = URL.build(scheme="http", host=host).raw_host if host else None
    except ValueError:
        return None
    return name if name and name.isascii() and _HOST.fullmatch(name) else None


def netloc_of(url: str) -> str:
    """host[:port] of an address that `absolute` gave: what politeness counts by."""
    return url.split("/", 3)[2]


@lru_cache(maxsize=4096)
def host_of(netloc: str) -> str:
    """The host alone, without port and brackets."""
    return urlsplit(f"//{netloc}").hostname or ""


def without_parameters(url: str, names: frozenset[str]) -> str:
    """`url` without the query parameters of these names; the others keep their order and spelling."""
    path, mark, query = url.partition("?")
    if not mark:
        return url
    kept = [pair for pair in query.split("&") if pair.partition("=")[0] not in names]
    return f"{path}?{'&'.join(kept)}" if kept else path
