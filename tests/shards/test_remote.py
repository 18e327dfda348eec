"""Sets in stores, against a real S3 server: read, copied, cut off in the middle, cached within a bound."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from shards.cache import Cache, CacheConfig, bytes_of
from shards.copy import CopyProgress, check_target, copy
from shards.errors import ConfigError
from shards.quarantine import Quarantined, add_to_quarantine
from shards.read import BatchReader
from shards.remote import shown, view, whole
from shards.remote_errors import (
    CacheTooSmall,
    NotThere,
    PlaceTaken,
    StoreUnusable,
    TransferDamaged,
    TransferFailed,
)
from shards.shard_errors import StaleIndex
from shards.shard_set import ShardSet
from shards.split import split
from shards.store import Store
from shards.verify import verify

from .stores import QUICK, CuttingProxy, http_folder

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "very-secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The port of a running S3 server."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(port=0, verbose=False)
    running.start()
    yield running.get_host_and_port()[1]
    running.stop()


@pytest.fixture
def proxy(server: int) -> Iterator[CuttingProxy]:
    made = CuttingProxy(server)
    yield made
    made.close()


@pytest.fixture
def bucket(server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """s3://<a fresh bucket>; through the proxy, if the test has one. The cache is the test's own."""
    through = request.getfixturevalue("proxy").port if "proxy" in request.fixturenames else server
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{through}")
    monkeypatch.setenv("BASSLINE_CACHE", str(tmp_path / "cache"))
    name = f"bucket{abs(hash((request.node.name, time.monotonic_ns())))}"
    Store(f"s3://{name}")._fs.mkdir(name)
    return f"s3://{name}"


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_set_goes_to_s3_and_back_byte_for_byte(small: ShardSet, bucket: str, tmp_path: Path) -> None:
    (small.folder / "drops.jsonl").write_text("{}\n")
    (small.folder / "crawl.sqlite").write_bytes(b"the crawl's own")
    seen: list[CopyProgress] = []
    done = copy(small.folder, f"{bucket}/a/set", transfer=QUICK, on_progress=seen.append)
    total = sum(info.bytes for info in small.manifest.shards)
    assert (done.sets, done.samples, done.there) == (1, 10, 0)
    assert (seen[-1].done, seen[-1].total, seen[-1].shards) == (total, total, 3)
    back = copy(f"{bucket}/a/set", tmp_path / "back", transfer=QUICK)
    assert back.bytes >= total
    expected = _files(small.folder)
    del expected["crawl.sqlite"]
    assert _files(tmp_path / "back") == expected
    again = copy(small.folder, f"{bucket}/a/set", transfer=QUICK)
    assert (again.there, again.bytes < total) == (3, True)


def test_a_remote_set_is_read_as_a_local_one(small: ShardSet, bucket: str, tmp_path: Path) -> None:
    copy(small.folder, f"{bucket}/set", transfer=QUICK)
    with ShardSet.open(f"{bucket}/set") as opened:
        assert opened.digest == small.digest
        assert not list((tmp_path / "cache" / "objects").glob("*.tar"))
        assert shown(opened.folder) == f"{bucket}/set"
        cached = Cache().used()
        assert opened.meta(3) == small.meta(3)
        assert opened.image(3) == small.image(3)
        assert Cache().used() == cached  # two ranged reads: no tar was fetched
        assert [bytes(opened.image(i)) for i in range(10)] == [bytes(small.image(i)) for i in range(10)]
        ours = [bytes(image) for batch in BatchReader(opened, 3, seed=1) for image in batch.images]
        assert ours == [bytes(image) for batch in BatchReader(small, 3, seed=1) for image in batch.images]
    with whole(f"{bucket}/set") as folder, ShardSet.open(folder) as opened:
        assert isinstance(opened.tars, list)
        assert verify(folder) == []
    assert not folder.exists()


def test_a_changed_set_is_never_mixed_with_the_old_one(small: ShardSet, real: ShardSet, bucket: str) -> None:
    copy(small.folder, f"{bucket}/set", transfer=QUICK)
    old = ShardSet.open(f"{bucket}/set")
    store = Store(f"{bucket}/set", QUICK)
    for name in store.names() or ():
        store._fs.rm(store.at(name))
    copy(real.folder, f"{bucket}/set", transfer=QUICK)
    with ShardSet.open(f"{bucket}/set") as opened:
        assert opened.digest == real.digest
        assert opened.image(0) == real.image(0)
    with pytest.raises((StaleIndex, TransferDamaged, TransferFailed)):
        list(old)  # its tars are other ones now
    old.close()


def test_a_split_goes_along_with_its_recipe(real: ShardSet, bucket: str, tmp_path: Path) -> None:
    for part in split(real, tmp_path / "parts", fractions=(0.6, 0.2, 0.2)).parts.values():
        part.close()
    done = copy(tmp_path / "parts", f"{bucket}/parts", transfer=QUICK)
    assert done.sets == 3
    with whole(f"{bucket}/parts") as folder:
        assert _files(folder / "val")["dataset.json"] == (tmp_path / "parts/val/dataset.json").read_bytes()
        assert (folder / "split.json").read_bytes() == (tmp_path / "parts/split.json").read_bytes()
        for name in ("train", "val", "test"):
            ShardSet.open(folder / name).close()


@pytest.mark.parametrize("bytes_before", [100, 5_000, 40_000])
def test_a_download_that_breaks_is_tried_again(
    real: ShardSet, proxy: CuttingProxy, bucket: str, tmp_path: Path, bytes_before: int
) -> None:
    copy(real.folder, f"{bucket}/set", transfer=QUICK)
    proxy.cuts = [("down", bytes_before)] * 2
    copy(f"{bucket}/set", tmp_path / "back", transfer=QUICK)
    assert proxy.cut == 2
    assert _files(tmp_path / "back") == _files(real.folder)


def test_a_download_that_always_breaks_leaves_nothing_half(
    real: ShardSet, proxy: CuttingProxy, bucket: str, tmp_path: Path
) -> None:
    copy(real.folder, f"{bucket}/set", transfer=QUICK)
    seen = view(f"{bucket}/set", transfer=QUICK)
    proxy.cuts = [("down", 20_000)] * 1000
    with pytest.raises(
        TransferFailed, match=r"s3://bucket\d+/set/.*: the transfer broke 4 times .*nothing half was kept"
    ):
        copy(f"{bucket}/set", tmp_path / "back", transfer=QUICK)
    assert not (tmp_path / "back" / "dataset.json").exists()
    assert not list((tmp_path / "back").glob("*.passing"))
    known = {info.name: info.sha256 for info in real.manifest.shards}
    for path in (tmp_path / "back").glob("*.tar"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == known[path.name]
    with pytest.raises(TransferFailed), whole(f"{bucket}/set", transfer=QUICK):
        pass
    assert not list((tmp_path / "cache" / "passing").iterdir())
    proxy.cuts = []
    copy(f"{bucket}/set", tmp_path / "back", transfer=QUICK)  # the same again goes on
    assert _files(tmp_path / "back") == _files(real.folder)
    assert seen.is_dir()


def test_a_killed_copy_goes_on(real: ShardSet, bucket: str, tmp_path: Path) -> None:
    """The process dies while a shard is on its way; what it left is removed, what it finished is kept."""
    copy(real.folder, f"{bucket}/set", transfer=QUICK)
    code = (
        "import os, signal, sys\n"
        "from shards.copy import copy\nfrom shards.store import Transfer\n"
        "transfer = Transfer(workers=1, block_bytes=20_000)\n"
        "seen = []\n"
        "def told(at):\n"
        "    seen.append(at.shards)\n"
        "    if seen[-2:] == [2, 2]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "copy(sys.argv[1], sys.argv[2], transfer=transfer, on_progress=told)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, f"{bucket}/set", str(tmp_path / "back")], check=False)
    assert done.returncode == -9
    left = {path.name for path in (tmp_path / "back").iterdir()}
    assert "dataset.json" not in left
    assert any(name.endswith(".passing") for name in left)
    assert copy(f"{bucket}/set", tmp_path / "back", transfer=QUICK).there == 2
    assert _files(tmp_path / "back") == _files(real.folder)


def test_an_upload_that_breaks_is_tried_again_and_aborted_if_it_lasts(
    proxy: CuttingProxy, bucket: str, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(12 << 20))
    digest = hashlib.sha256(big.read_bytes()).hexdigest()
    transfer = type(QUICK)(attempts=3, back_off_s=0.001, part_bytes=5 << 20)
    store = Store(bucket, transfer)
    name = bucket.partition("://")[2]

    def unfinished() -> list[Any]:
        found: dict[str, Any] = store._fs.call_s3("list_multipart_uploads", Bucket=name)
        return list(found.get("Uploads", []))

    proxy.cuts = [("up", 3 << 20)] * 2
    store.upload("big", big)
    assert proxy.cut == 2
    assert store.holds("big", 12 << 20, digest)
    assert not store.holds("big", 12 << 20, "0" * 64)
    assert unfinished() == []
    proxy.cuts = [("up", 3 << 20)] * 100
    with pytest.raises(TransferFailed, match="the transfer broke 3 times"):
        store.upload("other", big)
    assert store.size("other") is None
    assert unfinished() == []


def test_damage_in_the_store_is_found(small: ShardSet, bucket: str) -> None:
    copy(small.folder, f"{bucket}/set", transfer=QUICK)
    store = Store(f"{bucket}/set", QUICK)
    tar = bytearray(store.read("shard-000001.tar"))
    tar[700] ^= 1  # a byte of an image
    store._fs.pipe_file(store.at("shard-000001.tar"), bytes(tar))
    store._fs.rm(store.at("shard-000002.tar"))
    with ShardSet.open(f"{bucket}/set") as opened:
        assert opened.image(0) == small.image(0)
        with pytest.raises(StaleIndex, match="other bytes in the store than were indexed"):
            opened.image(4)
        with pytest.raises(TransferDamaged, match="the manifest says"):
            opened.tars[1]
    with pytest.raises((TransferDamaged, NotThere)), whole(f"{bucket}/set", transfer=QUICK):
        pass
    with whole(f"{bucket}/set", transfer=QUICK, raw=True) as folder:
        kinds = {(finding.kind, finding.file) for finding in verify(folder)}
    assert ("missing", "shard-000002.tar") in kinds
    assert ("digest", "shard-000001.tar") in kinds


def test_errors_say_what_to_do_and_no_secret(small: ShardSet, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotThere, match=r"no dataset\.json there"):
        ShardSet.open(f"{bucket}/nothing")
    with pytest.raises(NotThere, match="no such bucket"):
        copy(small.folder, "s3://no-such-bucket-here/set", transfer=QUICK)
    with pytest.raises(ConfigError, match="unknown protocol 'foo'"):
        ShardSet.open("foo://x/set")
    with pytest.raises(ConfigError, match="credentials in it") as told:
        ShardSet.open("s3://me:very-secret@bucket/set")
    assert "very-secret" not in str(told.value)
    copy(small.folder, f"{bucket}/set", transfer=QUICK)
    with pytest.raises(PlaceTaken, match="holds something already"):
        check_target(f"{bucket}/set")
    monkeypatch.setattr(fsspec.core, "url_to_fs", _no_package)
    with pytest.raises(StoreUnusable, match=r'pip install "bassline\[s3\]"'):
        Store("s3://bucket/set")


def _no_package(*_: Any, **__: Any) -> Any:
    raise ImportError("Install s3fs to access S3")


def test_no_credentials_and_no_permission(server: int, tmp_path: Path) -> None:
    """In a process of its own: credentials are looked for once in each."""
    code = (
        "from shards.store import Store, Transfer\n"
        "try: Store('s3://some-bucket/x', Transfer(attempts=1)).upload('y', b'z')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    clean |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server}",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("StoreUnusable s3://some-bucket/x/y: no usable credentials; set AWS_ACCESS_KEY_ID")


def test_denied(small: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real 403: of a set one may not read, and of a sidecar in a bucket one may read but not list."""
    (tmp_path / "bucket").mkdir()
    shutil.copytree(small.folder, tmp_path / "bucket" / "set")
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BASSLINE_CACHE", str(tmp_path / "cache"))
    with http_folder(tmp_path, closed=True) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(
            StoreUnusable, match=r"secret/dataset\.json: access is denied .*check the credentials"
        ) as told:
            ShardSet.open("s3://bucket/secret")
        assert "very-secret" not in str(told.value)
        with ShardSet.open("s3://bucket/set") as opened:
            assert len(opened) == len(small)


def test_a_quarantine_goes_with_its_set(small: ShardSet, bucket: str) -> None:
    add_to_quarantine(small.folder, [Quarantined(small.key(2), "x", "ugly")])
    copy(small.folder, f"{bucket}/set", transfer=QUICK)
    with ShardSet.open(f"{bucket}/set") as opened, ShardSet.open(small.folder) as here:
        assert (len(opened), opened.digest) == (9, here.digest)
    with whole(f"{bucket}/set") as folder, ShardSet.open(folder) as opened:
        assert [item.key for item in opened.quarantined] == [small.key(2)]
    Store(f"{bucket}/set").upload("quarantine.jsonl", b"")  # looked at, and let in again
    with ShardSet.open(f"{bucket}/set") as opened:
        assert opened.digest == small.digest


def test_other_things_there_are_left_alone(small: ShardSet, real: ShardSet, bucket: str, tmp_path: Path) -> None:
    copy(small.folder, f"{bucket}/set", transfer=QUICK)
    with pytest.raises(PlaceTaken, match="another shard set"):
        copy(real.folder, f"{bucket}/set", transfer=QUICK)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("x")
    with pytest.raises(PlaceTaken, match=r"letter\.txt"):
        copy(f"{bucket}/set", tmp_path / "mine", transfer=QUICK)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["letter.txt"]


def test_http_is_read_only_and_needs_no_ranges(
    small: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASSLINE_CACHE", str(tmp_path / "cache"))
    with http_folder(small.folder) as address:
        with ShardSet.open(address) as opened:
            assert [bytes(opened.image(i)) for i in range(10)] == [bytes(small.image(i)) for i in range(10)]
        copy(address, tmp_path / "back", transfer=QUICK)
        with pytest.raises(StoreUnusable, match="read only"):
            copy(small.folder, f"{address}/new", transfer=QUICK)
    assert _files(tmp_path / "back") == _files(small.folder)


def test_memory_and_file_addresses(small: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASSLINE_CACHE", str(tmp_path / "cache"))
    copy(small.folder, "memory://carried/set", transfer=QUICK)
    copy("memory://carried/set", f"file://{tmp_path}/back", transfer=QUICK)
    assert _files(tmp_path / "back") == _files(small.folder)
    with ShardSet.open(f"file://{tmp_path}/back") as opened:
        assert opened.folder == tmp_path / "back"


class _Breaking(fsspec.get_filesystem_class("memory")):  # type: ignore[misc]
    """A store that fails as often as it is told to, before it does what it should."""

    protocol = "breaking"
    failures = 0

    def cat_file(self, path: str, **kwargs: Any) -> bytes:
        if _Breaking.failures:
            _Breaking.failures -= 1
            raise ConnectionResetError("cut")
        return bytes(super().cat_file(path, **kwargs))

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        if _Breaking.failures:
            _Breaking.failures -= 1
            super().pipe_file(rpath, b"half")
            raise ConnectionResetError("cut")
        super().put_file(lpath, rpath, **kwargs)


def test_a_store_without_whole_writes_never_shows_half_an_object(small: ShardSet, tmp_path: Path) -> None:
    fsspec.register_implementation("breaking", _Breaking, clobber=True)
    store = Store("breaking://box", QUICK)
    tar = small.folder / "shard-000000.tar"
    _Breaking.failures = 4
    with pytest.raises(TransferFailed):
        store.upload("a", tar)
    assert store.names() == []
    _Breaking.failures = 3
    store.upload("a", tar)
    assert store.names() == ["a"]
    _Breaking.failures = 3
    assert store.read("a") == tar.read_bytes()


def _fill(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def test_the_cache_keeps_its_bound_and_forgets_the_oldest(tmp_path: Path) -> None:
    cache = Cache(CacheConfig(tmp_path / "cache", 1000))
    names = [hashlib.sha256(bytes([n])).hexdigest() for n in range(6)]
    for n, name in enumerate(names[:3]):
        os.utime(cache.fetch(name, 300, _fill), (n, n))
    assert cache.get(names[0]) is not None  # used just now: the second is the oldest
    cache.fetch(names[3], 300, _fill)
    assert [cache.get(name) is not None for name in names[:4]] == [True, False, True, True]
    with cache.pinned(names[2:4]):
        cache.fetch(names[4], 400, _fill)
        assert [cache.get(name) is not None for name in names[:5]] == [False, False, True, True, True]
        with pytest.raises(CacheTooSmall, match="BASSLINE_CACHE_SIZE"):
            cache.fetch(names[5], 500, _fill)
    assert cache.fetch(names[5], 1000, _fill).stat().st_size == 1000
    assert cache.used() == 1000


def test_a_killed_fetch_leaves_its_room_to_the_next(tmp_path: Path) -> None:
    cache = Cache(CacheConfig(tmp_path / "cache", 1000))
    code = (
        "import os, pathlib, signal\nfrom shards.cache import Cache, CacheConfig\n"
        f"cache = Cache(CacheConfig(pathlib.Path({str(tmp_path / 'cache')!r}), 1000))\n"
        "with cache.pinned(['aa']):\n"
        "    cache.fetch('aa', 900, lambda path: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert cache.used() == 900
    assert cache.fetch("bb", 800, _fill).exists()
    assert cache.used() == 800


def test_many_at_once_fetch_an_object_once(tmp_path: Path) -> None:
    calls: list[str] = []

    def fill(path: Path) -> None:
        calls.append(path.name)
        time.sleep(0.01)
        _fill(path)

    def one(n: int) -> int:
        return Cache(CacheConfig(tmp_path / "cache", 10_000)).fetch(f"{n % 3:02}", 100, fill).stat().st_size

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(one, range(36))) == {100}
    assert sorted(calls) == ["00", "01", "02"]


def test_a_set_larger_than_the_cache(
    real: ShardSet, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In stored order it streams through; what needs all of it at once says so before it fetches anything."""
    copy(real.folder, f"{bucket}/set", transfer=QUICK)
    sizes = [info.bytes for info in real.manifest.shards]
    bound = (real.folder / "samples.idx").stat().st_size + 2 * max(sizes) + 1000
    assert bound < sum(sizes)
    monkeypatch.setenv("BASSLINE_CACHE_SIZE", str(bound))
    with ShardSet.open(f"{bucket}/set") as opened:
        assert [bytes(opened.image(i)) for i in range(len(real))] == [bytes(real.image(i)) for i in range(len(real))]
        read = [bytes(image) for batch in BatchReader(opened, 7) for image in batch.images]
        assert read == [bytes(real.image(i)) for i in range(len(real))]
        assert Cache().used() <= bound
    with pytest.raises(CacheTooSmall, match="must be here at once"), whole(f"{bucket}/set"):
        pass


@pytest.mark.parametrize(
    ("text", "size"), [("20GB", 20 * 10**9), ("512MiB", 512 << 20), ("1000", 1000), ("1.5k", 1500)]
)
def test_sizes(text: str, size: int) -> None:
    assert bytes_of(text, "X") == size


def test_a_size_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"BASSLINE_CACHE_SIZE: 'lots': expected a size such as 20GB"):
        bytes_of("lots", "BASSLINE_CACHE_SIZE")
