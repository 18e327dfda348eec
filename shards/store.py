"""One place in an object store: whole objects in, whole objects out. A broken transfer is tried again, never half kept.

A read is a row of ranges, each tried again by itself, so that a break costs one range; what has arrived is checked
against its digest before it gets its name. A write to S3 (and its like) is one request, or a multipart upload that is
aborted when it fails; to other file systems it goes under a passing name first.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import fsspec  # type: ignore[import-untyped]

from shards.address import check_address, scrub
from shards.errors import ConfigError
from shards.files import sha256_of
from shards.remote_errors import NotThere, StoreUnusable, TransferDamaged, TransferFailed

__all__ = ["Store", "Transfer"]

Result = TypeVar("Result")

_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "az")  # a write becomes visible whole or not at all
_READ_ONLY = ("http", "https")
_FINAL = (errno.EINVAL, errno.ENOSYS, errno.ENOSPC, errno.EMSGSIZE, errno.ENAMETOOLONG)
# aiohttp's and botocore's; by name, so that neither is imported for a set on disk
_BROKEN = ("ClientError", "HTTPClientError", "ConnectionError", "IncompleteReadError")
_SMALL = 8 << 20  # one PUT below, multipart above (S3's parts have 5 MiB or more)


@dataclass(frozen=True, slots=True)
class Transfer:
    """How objects are carried.

    Args:
        attempts: how often one range, or one upload, is tried.
        back_off_s: pause before the second try; doubled each time, with up to as much again at random.
        block_bytes: one ranged read.
        part_bytes: one part of a multipart upload; S3 wants 5 MiB or more, and 10,000 parts at most.
        workers: objects carried at a time.
    """

    attempts: int = 5
    back_off_s: float = 0.5
    block_bytes: int = 8 << 20
    part_bytes: int = 16 << 20
    workers: int = 4

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.back_off_s < 0 or self.block_bytes < 1 or self.workers < 1:
            raise ConfigError(
                "Transfer", "", "attempts, block_bytes and workers must be 1 or more, back_off_s 0 or more"
            )


class Store:
    """The objects below one address.

    Args:
        address: such as s3://bucket/set; no credentials in it.
        transfer: how objects are carried.

    Raises:
        ConfigError: the protocol is unknown, or the address has credentials in it.
        StoreUnusable: the package for it is not installed, or its server cannot be reached.
    """

    def __init__(self, address: str, transfer: Transfer | None = None) -> None:
        self.address = check_address(address).rstrip("/")
        self.transfer = transfer or Transfer()
        self.protocol = self.address.partition("://")[0].lower()
        try:
            self._fs: Any = fsspec.core.url_to_fs(self.address, **_options(self.protocol))[0]
        except ImportError:
            extra = (
                'pip install "bassline[s3]"' if self.protocol in ("s3", "s3a") else "install fsspec's package for it"
            )
            raise StoreUnusable(self.address, f"reading {self.protocol}:// needs another package: {extra}") from None
        except ValueError as error:
            if "rotocol" not in str(error):
                raise
            known = "expected s3://, http(s)://, file://, memory:// or another that fsspec knows"
            raise ConfigError(scrub(self.address), "", f"unknown protocol {self.protocol!r}; {known}") from None
        except OSError as error:  # ftp:// and sftp:// connect at once
            raise StoreUnusable(self.address, f"cannot be reached ({error.strerror or error}); check it") from None
        if self.protocol in ("s3", "s3a"):
            self._fs.retries = 1  # this class tries again; two layers of it make minutes of a dead server

    @property
    def writable(self) -> bool:
        """Whether objects can be written at all; http(s) is read only."""
        return self.protocol not in _READ_ONLY

    def at(self, name: str) -> str:
        """The address of an object."""
        return f"{self.address}/{name}" if name else self.address

    def size(self, name: str) -> int | None:
        """Bytes of an object; None if it is not there, -1 if the store does not say."""
        try:
            size = self._attempt(name, lambda: self._fs.info(self.at(name)))["size"]
        except NotThere:
            return None
        return -1 if size is None else int(size)

    def version(self, name: str) -> str | None:
        """What tells one version of an object from another: size with ETag or time; None: the store does not say."""
        info = self._attempt(name, lambda: self._fs.info(self.at(name)))
        told = info.get("ETag") or info.get("LastModified") or info.get("mtime") or info.get("created")
        return f"{info.get('size')} {told}" if told else None

    def names(self) -> list[str] | None:
        """Names of the objects right below the address, [] if there are none; None where nothing is listed (http)."""
        if self.protocol in _READ_ONLY:
            return None
        try:
            found = self._attempt("", lambda: self._fs.ls(self.address, detail=True, **_fresh(self.protocol)))
        except NotThere as error:
            if "bucket" in error.problem:
                raise
            return []
        base = self._fs._strip_protocol(self.address).rstrip("/")
        names = (item["name"].rstrip("/")[len(base) + 1 :] for item in found if item["type"] == "file")
        return sorted(name for name in names if name)

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes of an object, or those from `start` to `end`.

        Raises:
            NotThere, StoreUnusable, TransferFailed
        """
        wanted = None if start is None or end is None else end - start
        at = self.at(name)

        def once() -> bytes:
            data = bytes(self._fs.cat_file(at, start=start, end=end))
            if wanted is not None and len(data) > wanted:  # a server without ranges answers with the whole
                data = data[start:end]
            if wanted is not None and len(data) != wanted:
                raise EOFError(f"{len(data)} bytes came, {wanted} were asked for")
            return data

        return self._attempt(name, once)

    def blocks(self, name: str, size: int) -> Iterator[bytes]:
        """An object of `size` bytes, range by range."""
        at = self.at(name)
        whole: list[bytes] = []  # of a server without ranges, asked once
        for start in range(0, size, self.transfer.block_bytes):
            end = min(size, start + self.transfer.block_bytes)

            def once(start: int = start, end: int = end) -> bytes:
                if whole:
                    return whole[0][start:end]
                data = bytes(self._fs.cat_file(at, start=start, end=end))
                if len(data) == size and end - start < size:
                    whole.append(data)
                    data = data[start:end]
                if len(data) != end - start:
                    raise EOFError(f"{len(data)} bytes came, {end - start} were asked for")
                return data

            yield self._attempt(name, once)

    def download(
        self, name: str, target: Path, size: int, sha256: str | None, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        """Writes an object to `target`, fsynced; the caller names `target` so that a half one is never taken for it.

        Args:
            size: bytes of the object.
            sha256: what it must have, in hex; None: not checked.
            on_bytes: called with the bytes of each range.

        Raises:
            TransferDamaged: the digest is another, twice.
            NotThere, StoreUnusable, TransferFailed
        """
        found = ""
        for _ in range(2):  # a digest that fails may be a proxy's doing; twice the same is the object's
            hashed = hashlib.sha256()
            with target.open("wb") as file:
                for block in self.blocks(name, size):
                    file.write(block)
                    hashed.update(block)
                    if on_bytes:
                        on_bytes(len(block))
                file.flush()
                os.fsync(file.fileno())
            found = hashed.hexdigest()
            if sha256 in (None, found):
                return
            if on_bytes:
                on_bytes(-size)
        raise TransferDamaged(self.at(name), str(sha256), found)

    def upload(self, name: str, source: Path | bytes, on_bytes: Callable[[int], None] | None = None) -> None:
        """Writes an object: the old one, or none, stays until the new one is whole.

        Its sha256 goes with it as metadata where the store keeps metadata, so that `holds` need not read it back.

        Raises:
            StoreUnusable, TransferFailed
        """
        if not self.writable:
            raise StoreUnusable(self.address, f"{self.protocol}:// is read only; write to s3:// or a local folder")
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        digest = hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else sha256_of(source)
        sent = 0

        def told(count: int) -> None:
            nonlocal sent
            sent += count
            if on_bytes:
                on_bytes(count)

        def once() -> None:
            nonlocal sent
            if on_bytes and sent:
                on_bytes(-sent)
            sent = 0
            self._put(name, source, size, digest, told)

        self._attempt(name, once)
        found = self.size(name)
        if found not in (size, -1):
            raise TransferFailed(self.at(name), 1, f"{found} bytes stand there, {size} were sent")

    def holds(self, name: str, size: int, sha256: str) -> bool:
        """Whether the object is there with these bytes: by the digest it was sent with, else by reading it."""
        if self.size(name) != size:
            return False
        if self.protocol in ("s3", "s3a"):
            told = self._attempt(name, lambda: self._fs.metadata(self.at(name), refresh=True)).get("sha256")
            if told:
                return bool(told == sha256)
        hashed = hashlib.sha256()
        for block in self.blocks(name, size):
            hashed.update(block)
        return hashed.hexdigest() == sha256

    def _put(self, name: str, source: Path | bytes, size: int, digest: str, told: Callable[[int], None]) -> None:
        at, fs = self.at(name), self._fs
        kept = {"Metadata": {"sha256": digest}} if self.protocol in ("s3", "s3a") else {}
        if self.protocol not in _OBJECT_STORES:
            passing = f"{at}.part-{os.getpid()}"
            fs.makedirs(self.address, exist_ok=True)
            try:
                if isinstance(source, bytes):
                    fs.pipe_file(passing, source)
                else:
                    fs.put_file(str(source), passing)
                fs.mv(passing, at)
            except BaseException:
                _quietly(lambda: fs.rm(passing))
                raise
            told(size)
        elif size < _SMALL:
            fs.pipe_file(at, source if isinstance(source, bytes) else source.read_bytes(), **kept)
            told(size)
        else:
            file = fs.open(at, "wb", block_size=self.transfer.part_bytes, autocommit=False, **kept)
            try:
                for piece in _pieces(source, self.transfer.part_bytes):
                    file.write(piece)
                    told(len(piece))
                file.close()
                file.commit()
            except BaseException:
                file.closed = True  # else the collector would flush what is left
                _quietly(file.discard)  # aborts the multipart upload: its parts cost money until then
                raise

    def _attempt(self, name: str, once: Callable[[], Result]) -> Result:
        """Calls `once` until it works; errors that trying again cannot mend are told at once."""
        at, pause = self.at(name), self.transfer.back_off_s
        for attempt in range(1, self.transfer.attempts + 1):
            try:
                return once()
            except Exception as error:
                _raise_if_final(at, error)
                if attempt == self.transfer.attempts:
                    raise TransferFailed(at, attempt, _line(error)) from None
                time.sleep(pause * (1 + random.random()))
                pause *= 2
        raise AssertionError("unreachable")


def _options(protocol: str) -> dict[str, Any]:
    """What the file system is made with; everything else, credentials above all, it takes from the environment."""
    if protocol in ("s3", "s3a"):
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return {
            "use_listings_cache": False,
            "endpoint_url": endpoint,  # named, so that fsspec's cache of instances tells two endpoints apart
            "config_kwargs": {"retries": {"total_max_attempts": 1}, "connect_timeout": 10, "read_timeout": 60},
        }
    if protocol in _READ_ONLY:
        return {"client_kwargs": {"trust_env": True}, "use_listings_cache": False}
    return {}


def _fresh(protocol: str) -> dict[str, Any]:
    return {"refresh": True} if protocol in ("s3", "s3a", "gs", "gcs") else {}


def _raise_if_final(address: str, error: Exception) -> None:
    """Raises the error a user can act on, if trying again would not help."""
    kind, status = type(error).__name__, getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        bucket = "no such bucket" if "bucket does not exist" in str(error).lower() else "nothing is there"
        raise NotThere(address, f"{bucket}; check the address") from None
    if isinstance(error, PermissionError) or status in (401, 403):
        raise StoreUnusable(
            address, f"access is denied ({_line(error)}); check the credentials and their rights"
        ) from None
    if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"):
        ways = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        raise StoreUnusable(address, f"no usable credentials; {ways}") from None
    if isinstance(error, OSError) and error.errno in _FINAL:
        raise StoreUnusable(address, f"refused ({_line(error)})") from None
    if status is not None and 400 <= status < 500 and status not in (408, 425, 429):
        raise StoreUnusable(address, f"the server refuses ({_line(error)})") from None
    transient = isinstance(error, (OSError, EOFError)) or _is_of(error, _BROKEN)
    if not transient or kind == "InvalidURL":
        raise StoreUnusable(address, f"{kind}: {_line(error)}") from None


def _is_of(error: Exception, names: tuple[str, ...]) -> bool:
    return any(base.__name__ in names for base in type(error).__mro__)


def _line(error: Exception) -> str:
    return scrub(" ".join(str(error).split())[:200]) or type(error).__name__


def _quietly(undo: Callable[[], object]) -> None:
    try:
        undo()
    except Exception:  # the first error is the one to tell
        return


def _pieces(source: Path | bytes, size: int) -> Iterator[bytes]:
    if isinstance(source, bytes):
        for at in range(0, len(source), size):
            yield source[at : at + size]
        return
    with source.open("rb") as file:
        while piece := file.read(size):
            yield piece
