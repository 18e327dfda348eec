"""Other people's WebDataset tars become a shard set of ours: img2dataset's output among them.

Every sample's image keeps its bytes; where its label is, is said by `label_from`, or found; captions and JSON are kept
in the sample's own JSON. Other components come along; those that cannot are counted.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from shards import tar
from shards.address import local_or_address, scrub
from shards.conversion import Conversion, ConvertProgress, Dropped, in_order, left_out_note
from shards.decodable import problem_of
from shards.errors import ConfigError
from shards.files import as_text
from shards.index import TarSample, map_file, tar_samples
from shards.recode import Recode
from shards.sample import KEY, Sample, may_stand_beside, sniff
from shards.shard_errors import TarDamaged
from shards.writer import MAX_SAMPLES, write_set

__all__ = ["LABEL_SOURCES", "expand", "from_tars", "is_tar_pattern"]

LABEL_SOURCES = "auto, cls, txt, json:KEY, folder, tar, const:NAME, or the extension of a component with text"
_IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_TAR_LIKE = re.compile(r"\.tar(\.gz|\.tgz|\.zst|\.xz|\.bz2)?$|\.tgz$")
_COMPRESSED = re.compile(r"\.(gz|tgz|zst|xz|bz2)$")
_MOST_LABELS = 10_000
_MOST_TARS = 1_000_000

Progress = Callable[[ConvertProgress], None]


def is_tar_pattern(text: str) -> bool:
    """Whether `text` names .tar files: one, or several by {000..012}, * or ?."""
    return _TAR_LIKE.search(text) is not None


def expand(pattern: str) -> list[str]:
    """The names that braces stand for: "{a,b}-{000..012}.tar", as webdataset and the shell expand them.

    Raises:
        ConfigError: there are more than a million.
    """
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    body = match[1]
    numbers = _RANGE.fullmatch(body)
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        if abs(last - first) >= _MOST_TARS:
            raise ConfigError(scrub(pattern), "", f"{abs(last - first) + 1:,} tars; at most {_MOST_TARS:,}")
        width = len(numbers[1]) if numbers[1].startswith("0") or len(numbers[1]) == len(numbers[2]) else 0
        step = 1 if last >= first else -1
        choices = [f"{number:0{width}d}" for number in range(first, last + step, step)]
    else:
        choices = body.split(",")
    head, rest = pattern[: match.start()], expand(pattern[match.end() :])
    return [f"{head}{choice}{tail}" for choice, tail in itertools.product(choices, rest)]


@dataclass(slots=True)
class _Seen:
    """What is to be told at the end."""

    dropped: list[Dropped] = field(default_factory=list)
    components: Counter[str] = field(default_factory=Counter)
    renamed: int = 0


def _tars(sources: Sequence[str]) -> tuple[list[Path | str], list[str]]:
    """The tars, in order, and notes on what lay beside them."""
    found: list[Path | str] = []
    ignored: Counter[str] = Counter()
    for source in sources:
        for text in expand(source):
            place = local_or_address(text)
            if isinstance(place, str):
                found.append(place)
            elif place.is_dir():
                found += sorted(place.glob("*.tar"))
                for path in place.iterdir():
                    if path.is_file() and path.suffix != ".tar" and not path.name.startswith("."):
                        ignored["_stats.json" if path.name.endswith("_stats.json") else path.suffix or path.name] += 1
            elif glob.has_magic(text) and not place.exists():
                found += [Path(name) for name in sorted(glob.glob(text))]  # noqa: PTH207 - absolute patterns too
            else:
                found.append(place)
    named = ", ".join(f"{count:,} {what}" for what, count in sorted(ignored.items()))
    for place in found:
        text = str(place)
        if _COMPRESSED.search(text):
            raise ConfigError(scrub(text), "", "a compressed tar has no offsets to read at; unpack it first (gunzip)")
        if isinstance(place, Path) and not place.is_file():
            raise ConfigError(text, "", "no such file")
    if not found:
        raise ConfigError(", ".join(map(scrub, sources)), "", "no .tar there")
    return found, [f"files beside the tars were passed over: {named}"] if named else []


@contextmanager
def _mapped(place: Path | str) -> Iterator[tuple[memoryview, Path]]:
    """A tar's bytes; one in a store is fetched for the while."""
    if isinstance(place, Path):
        yield map_file(place), place
        return
    from shards.cache import Cache
    from shards.remote_errors import NotThere
    from shards.store import Store

    parent, _, name = place.rpartition("/")
    store, cache = Store(parent), Cache()
    size = store.size(name)
    if size is None:
        raise NotThere(place, "nothing is there; check the address")
    if size < 0:
        raise ConfigError(scrub(place), "", "the server does not say its size; download it first")
    told = f"{place} {store.version(name) or 'unknown'}"
    key = hashlib.sha256(told.encode()).hexdigest()
    path = cache.fetch(key, size, lambda to: store.download(name, to, size, None))
    try:
        yield map_file(path), Path(scrub(place))
    finally:
        if store.version(name) is None:
            cache.remove(key)


def _samples(data: memoryview, path: Path, seen: _Seen | None = None) -> Iterator[TarSample]:
    """A tar's samples; of a damaged one those before the damage."""
    try:
        yield from tar_samples(tar.walk(data, path))
    except TarDamaged as error:
        if seen is not None:
            seen.dropped.append(
                Dropped(f"{path.name}@{error.offset}", f"{error.problem}; what stands before it is kept")
            )


def _text(data: memoryview, member: tar.Member | None, limit: int = 1 << 20) -> str | None:
    if member is None:
        return None
    return bytes(data[member.offset : member.offset + min(member.size, limit)]).decode("utf-8", "replace").strip()


def _json(data: memoryview, sample: TarSample) -> dict[str, Any]:
    text = _text(data, sample.members.get("json"), 16 << 20)
    try:
        told = json.loads(text) if text else {}
    except ValueError:
        return {}
    if text and "\\ud" in text.lower():  # half a character, escaped: JSON may say it, UTF-8 cannot
        told = json.loads(json.dumps(told, ensure_ascii=False).encode("utf-8", "replace"))
    return told if isinstance(told, dict) else {"value": told}


def _looked_up(told: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        if isinstance(told, Mapping) and part in told:
            told = told[part]
        elif isinstance(told, list) and part.isdigit() and int(part) < len(told):
            told = told[int(part)]
        else:
            return None
    return told


def label_of(sample: TarSample, data: memoryview, path: Path, label_from: str) -> str | None:
    """The label of a sample as text; None if it has none there."""
    kind, _, rest = label_from.partition(":")
    if kind == "const":
        return rest
    if kind == "json":
        found = _looked_up(_json(data, sample), rest)
        return None if found is None or isinstance(found, (dict, list)) else str(found)
    if kind == "folder":
        folder = as_text(PurePosixPath(sample.key).parent.name)
        return folder or None
    if kind == "tar":
        return as_text(path.stem)
    return _text(data, sample.members.get(label_from), 4096) or None


def _found_source(data: memoryview, path: Path) -> str:
    """Where the labels of a tar are, by its first sample.

    Raises:
        ConfigError: nowhere that can be told; says what there is.
    """
    first = next(iter(_samples(data, path)), None)
    if first is None:
        raise ConfigError(str(path), "", "no samples in it (members are named <key>.<extension>)")
    if "cls" in first.members:
        return "cls"
    told = _json(data, first)
    for key in ("label", "class", "category", "cls"):
        if isinstance(told.get(key), (str, int)):
            return f"json:{key}"
    has = ", ".join(first.members) + (f"; its .json has {', '.join(list(told)[:12])}" if told else "")
    choices = "give --label-from json:KEY, txt, folder, tar or const:NAME"
    raise ConfigError(
        "--label-from", "", f"sample {first.key!r} of {path} has no .cls and no label in its .json ({has}): {choices}"
    )


def _numbering(
    tars: Sequence[Path | str], label_from: str, given: Sequence[str] | None
) -> tuple[list[str], dict[str, int]]:
    """Names of the labels and the number of each text that stands for one: a first pass over the labels alone."""
    texts: set[str] = set()
    if label_from.startswith("const:"):
        texts.add(label_from.partition(":")[2])
    else:
        for place in tars:
            with _mapped(place) as (data, path):
                for sample in _samples(data, path):
                    text = label_of(sample, data, path, label_from)
                    if text is not None:
                        texts.add(text)
                    if len(texts) > _MOST_LABELS:
                        some = ", ".join(repr(text[:30]) for text in sorted(texts)[:2])
                        raise ConfigError(
                            "--label-from",
                            "",
                            f"{label_from} gives over {_MOST_LABELS:,} labels ({some}): are they captions?",
                        )
    numeric = bool(texts) and all(text.isdecimal() and len(text) < 7 for text in texts)
    if given:
        names = list(given)
        if numeric:
            most = max(map(int, texts))
            if most >= len(names):
                raise ConfigError("--label", "", f"{len(names)} names, but there is a label {most}: name 0 to {most}")
            return names, {text: int(text) for text in texts}
        strange = sorted(texts - set(names))
        if strange:
            raise ConfigError("--label", "", f"the tars have {', '.join(map(repr, strange[:5]))} too; name every label")
        return names, {text: names.index(text) for text in texts}
    if numeric and label_from == "cls":
        return [str(number) for number in range(max(map(int, texts)) + 1)], {text: int(text) for text in texts}
    names = sorted(texts, key=lambda text: (int(text), "") if numeric else (0, text))
    return names, {text: number for number, text in enumerate(names)}


def from_tars(
    sources: Sequence[str],
    out: Path,
    *,
    label_from: str = "auto",
    labels: Sequence[str] | None = None,
    keep_duplicates: bool = False,
    recode: Recode | None = None,
    shard_samples: int = MAX_SAMPLES,
    on_progress: Progress | None = None,
) -> Conversion:
    """Writes the shard set `out` from WebDataset tars made by others.

    A sample's JSON gets "source" (tar and key), "caption" (its .txt), "image_url" (its .json's url) and "json" (all of
    its .json). Keys that break our rules (dots, folders, other characters) are made safe.

    Args:
        sources: tars, folders of tars, patterns (*, ?, {000..012}), addresses.
        out: absent or an empty folder.
        label_from: "auto" (.cls, else the .json's label), "cls", "txt", "json:KEY" (dots go deeper), "folder" (of the
            key), "tar" (its name), "const:NAME", or another component's extension.
        labels: names by number; without them the names are those found, in order.
        keep_duplicates: keep images with equal bytes.
        recode: make the pictures anew; with a format asked for, GIF, BMP and TIFF are taken too.
        shard_samples: samples a shard.
        on_progress: called after every sample.

    Raises:
        ConfigError: no tars, or no labels where they are said to be.
        TargetNotEmpty, RemoteError
    """
    recode = recode or Recode()
    tars, notes = _tars(sources)
    if label_from == "auto":
        with _mapped(tars[0]) as (data, path):
            label_from = _found_source(data, path)
    names, number_of = _numbering(tars, label_from, labels)
    if not names:
        raise ConfigError("--label-from", "", f"no sample has a label in {label_from}; expected {LABEL_SOURCES}")
    seen = _Seen()
    digests: dict[str, str] = {}
    keys: set[str] = set()
    done = 0

    def samples() -> Iterator[Sample]:
        nonlocal done
        for place in tars:
            with _mapped(place) as (data, path):
                work = ((sample, data, path) for sample in _samples(data, path, seen))
                for (sample, _, _), made in in_order(lambda item: _make(*item, recode), work):
                    done += 1
                    ready = _ready(sample, data, path, made)
                    if ready is not None:
                        yield ready
                    if on_progress:
                        on_progress(ConvertProgress(done, 0, len(seen.dropped)))

    def _ready(sample: TarSample, data: memoryview, path: Path, made: _Made) -> Sample | None:
        where = as_text(f"{path.name}@{sample.offset} {sample.key}")
        text = label_of(sample, data, path, label_from)
        problem = made.problem
        if problem is None and text is None:
            problem = f"no label in {label_from}"
        if problem is None and not keep_duplicates and made.sha256 in digests:
            problem = f"duplicate of {digests[made.sha256]}"
        if problem is not None or text is None:
            seen.dropped.append(Dropped(where, str(problem)))
            return None
        digests.setdefault(made.sha256, where)
        label = number_of[text]
        meta: dict[str, Any] = {
            "label": names[label],
            "sha256": made.sha256,
            "source": {"tar": as_text(path.name), "key": as_text(sample.key)},
        }
        told = _json(data, sample)
        caption = _text(data, sample.members.get("txt")) if label_from != "txt" else None
        if caption is None and isinstance(told.get("caption"), str):
            caption = told["caption"]
        if caption is not None:
            meta["caption"] = caption
        if isinstance(told.get("url"), str):
            meta["image_url"] = told["url"]
        if told:
            meta["json"] = told
        if isinstance(told.get("group"), int):
            meta["group"] = told["group"]
        key = _key(sample.key, path.name, keys)
        seen.renamed += key != sample.key
        keys.add(key)
        others = {
            ext: bytes(data[member.offset : member.offset + member.size])
            for ext, member in sample.members.items()
            if ext not in (made.member, "cls", "json")
        }
        kept = {ext: it for ext, it in others.items() if recode.keeps(ext, made.ext) and may_stand_beside(key, ext)}
        seen.components.update(others.keys() - kept.keys())
        return Sample(key, made.image, made.ext, label, recode.meta(meta, made.before, made.image), kept)

    origin: dict[str, Any] = {
        "kind": "tars",
        "tars": len(tars),
        "first": as_text(Path(scrub(str(tars[0]))).name),
        "label_from": label_from,
    }
    if recode.changes:
        origin["recode"] = recode.about()
    made = write_set(out, samples(), names, source=origin, shard_samples=shard_samples)
    notes.insert(0, f"labels were taken from {label_from}")
    notes += left_out_note(seen.components)
    if seen.renamed:
        notes.append(f"{seen.renamed:,} keys were made safe; the old ones are in each sample's JSON")
    return Conversion(made, tuple(seen.dropped), tuple(notes))


@dataclass(frozen=True, slots=True)
class _Made:
    before: bytes
    image: bytes
    ext: str
    sha256: str
    problem: str | None
    member: str = ""  # the extension it had


def _make(sample: TarSample, data: memoryview, path: Path, recode: Recode) -> _Made:
    name = next((ext for ext in _IMAGES if ext in sample.members), None)
    if name is None:
        return _Made(b"", b"", "", "", f"no image (it has {', '.join(sample.members)})")
    member = sample.members[name]
    before = bytes(data[member.offset : member.offset + member.size])
    sha256 = hashlib.sha256(before).hexdigest()
    problem = problem_of(before)
    if problem is not None and not (recode.format != "same" and sniff(before[:512]) in ("gif", "bmp", "tiff", "avif")):
        return _Made(before, b"", "", sha256, problem)
    try:
        image, ext = recode.apply(before)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        return _Made(before, b"", "", sha256, f"cannot be decoded: {error}")
    return _Made(before, image, ext, sha256, None, name)


def _key(theirs: str, tar_name: str, taken: set[str]) -> str:
    """Their key where it can be ours; else made safe, with a digest so that two do not become one."""
    if KEY.fullmatch(theirs) and theirs not in taken:
        return theirs
    digest = hashlib.sha256(f"{tar_name}\0{theirs}".encode("utf-8", "surrogateescape")).hexdigest()
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", theirs).strip("-")[:70] or "sample"
    made = f"{safe}-{digest[:12]}"
    number = 1
    while made in taken:
        number += 1
        made = f"{safe}-{digest[:12]}-{number}"
    return made
