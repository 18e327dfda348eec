"""Where a set is: a local path, or an address such as s3://bucket/set. Messages never show what is secret in one."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from shards.errors import ConfigError

__all__ = ["check_address", "is_address", "join", "local_or_address", "local_path", "scrub"]

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@]*@")
_QUERY = re.compile(r"\?[^\s'\")]+")
_KEYS = re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{12,}")


def is_address(text: str) -> bool:
    """Whether `text` has a protocol, file:// among them."""
    return _ADDRESS.match(text) is not None


def local_or_address(text: str) -> Path | str:
    """A path for a plain name and for file://; the address, without a slash at its end, for everything else.

    Raises:
        ConfigError: the address has a user or a password in it.
    """
    return local_path(text) or check_address(text).rstrip("/")


def local_path(text: str) -> Path | None:
    """The path that a plain name or file:// means; None for an address elsewhere, whatever is in it."""
    if not is_address(text):
        return Path(text)
    return Path(text.partition("://")[2]) if text.startswith(("file://", "local://")) else None


def check_address(text: str) -> str:
    """The address, if it carries no credentials.

    Raises:
        ConfigError: it has a user or a password: they would end in the shell's history, in logs and in manifests.
    """
    if _USER.match(text):
        remedy = "take them out; credentials are read from the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, ~/.netrc)"
        raise ConfigError(scrub(text), "", f"the address has credentials in it: {remedy}")
    return text


def join(address: str, name: str) -> str:
    """The address of `name` below `address`; a query (of a signed URL) stays at the end."""
    if address.startswith(("http://", "https://")):
        parts = urlsplit(address)
        return parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl()
    return f"{address.rstrip('/')}/{name}"


def scrub(text: str) -> str:
    """`text` without users, passwords, query strings (of signed URLs) and access keys, for messages and manifests."""
    return _KEYS.sub(r"\1...", _QUERY.sub("?...", _USER.sub(r"\1", text)))
