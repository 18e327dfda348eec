"""What a crawl left out, to look at: one self-contained page, the pictures by reason.

The pictures are anybody's: each is decoded here within bounds and drawn anew, small; none is passed on as it came.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from PIL import Image, ImageFile

from crawler.crawl_errors import LedgerFailed
from crawler.frontier import LEDGER_NAME
from crawler.pictures import pictures
from crawler.report import DROPS_NAME, DROPS_PAGE_NAME, CrawlReport
from shards.dimensions import dimensions
from shards.files import write_atomic
from shards.shard_set import ShardSet

__all__ = ["MOST_SHOWN", "keep_drop_page", "write_drop_page"]

MOST_SHOWN = 60  # pictures of a reason, and addresses where there are no pictures
_SIDE = 120
_LEDGER_MAP_BYTES = 32 << 10
_PIXELS = 16_000_000  # decoded at most: 64 MB
_JPEG_PIXELS = 64 * _PIXELS  # a JPEG is decoded at an eighth of its sides

_SAID = {
    "animated": "more than one frame",
    "broken": "cannot be decoded, or only in part",
    "dimensions": "larger than the site file takes",
    "duplicate": "the same bytes as a picture that was kept",
    "format": "an image of a kind that is not taken",
    "label-conflict": "stands under two labels",
    "near-duplicate": "nearly the same as a picture that was kept",
    "no-image": "the listing shows no image",
    "not-an-image": "what came is no image",
    "placeholder": "one image for many products: no photograph",
    "quota": "its label had enough",
    "robots": "robots.txt disallows it",
    "rule": "a [drop] rule of the site file",
    "too-small": "smaller than the site file takes",
}


@dataclass
class _Reason:
    name: str
    count: int = 0
    shown: list[dict[str, Any]] = field(default_factory=list)
    listed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def said(self) -> str:
        return _SAID.get(self.name, "")


def keep_drop_page(report: CrawlReport) -> Path | None:
    """Makes the page of a finished crawl anew, if there is none yet of what it left out now.

    Returns:
        The page in the set's folder; None if nothing was left out, and then no page is left there.

    Raises:
        LedgerFailed: it cannot be written.
    """
    drops, page = report.folder / DROPS_NAME, report.folder / DROPS_PAGE_NAME
    try:
        if not report.dropped and not report.failed:
            page.unlink(missing_ok=True)
            return None
        if not page.exists() or page.stat().st_mtime_ns < drops.stat().st_mtime_ns:
            write_drop_page(report.folder, page, title=f"{report.site}: what the crawl left out")
    except OSError as error:
        raise LedgerFailed(page, error.strerror or str(error)) from None
    except sqlite3.Error as error:
        # reading a ledger maps 32 KiB beside it; of a full disk SQLite says no more than "disk I/O error"
        full = shutil.disk_usage(report.folder).free < _LEDGER_MAP_BYTES
        raise LedgerFailed(page, "No space left on device" if full else str(error)) from None
    return page


def write_drop_page(folder: Path, page: Path, *, title: str) -> int:
    """Draws what drops.jsonl lists: at most sixty pictures of each reason, with the address and the detail of each.

    Args:
        folder: of a finished crawl that nobody is writing to.
        page: the HTML to write; replaced as a whole.
        title: its heading.

    Returns:
        How many pictures it shows.

    Raises:
        OSError: it cannot be written, or what it is made of not be read.
    """
    wanted: dict[str, list[tuple[_Reason, dict[str, Any]]]] = {}
    reasons = _read(folder / DROPS_NAME, wanted)
    _from_the_set(folder, wanted)
    for picture in pictures(folder / LEDGER_NAME):
        for reason, drop in wanted.pop(picture.sha256, ()):
            _show(reason, drop, picture.body)
    for reason, drop in (pair for pairs in wanted.values() for pair in pairs):
        reason.listed.append(drop)
    ordered = sorted(reasons.values(), key=lambda reason: (not reason.shown, -reason.count, reason.name))
    for reason in ordered:
        reason.shown.sort(key=lambda drop: str(drop["product_url"]))
        del reason.listed[MOST_SHOWN:]
    environment = Environment(loader=PackageLoader("crawler"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.get_template("drops.html.j2")
    total = sum(reason.count for reason in ordered)
    text = template.render(title=title, reasons=ordered, total=total, most=MOST_SHOWN)
    write_atomic(page, [text.encode()])
    return sum(len(reason.shown) for reason in ordered)


def _read(path: Path, wanted: dict[str, list[tuple[_Reason, dict[str, Any]]]]) -> dict[str, _Reason]:
    """Counts every line and remembers as many of each reason as may be shown, by the sha256 of their picture.

    Of many products with one picture, one is remembered: the page is for looking at.
    """
    reasons: dict[str, _Reason] = {}
    seen: dict[str, set[str]] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            drop = json.loads(line)
            reason = reasons.setdefault(drop["reason"], _Reason(drop["reason"]))
            reason.count += 1
            digest = drop.get("sha256")
            mine = seen.setdefault(reason.name, set())
            if digest is None:
                if len(reason.listed) < MOST_SHOWN:
                    reason.listed.append(drop)
            elif digest in mine:
                for _, first in wanted[digest]:
                    first["more"] = first.get("more", 0) + (first["reason"] == reason.name)
            elif len(mine) < MOST_SHOWN:
                mine.add(digest)
                wanted.setdefault(digest, []).append((reason, drop))
    return reasons


def _from_the_set(folder: Path, wanted: dict[str, list[tuple[_Reason, dict[str, Any]]]]) -> None:
    """A duplicate's picture is the one that was kept."""
    with ShardSet.open(folder) as kept:
        for digest in list(wanted):
            place = kept.find(digest[:20])
            if place is not None:
                for reason, drop in wanted.pop(digest):
                    _show(reason, drop, bytes(kept.image(place)))


def _show(reason: _Reason, drop: dict[str, Any], body: bytes) -> None:
    size = dimensions(body)
    drop["size"] = f"{size[0]}x{size[1]}" if size else "size unknown"
    drop["bytes"] = len(body)
    small = _small(body, size)
    drop["data"] = base64.b64encode(small).decode() if small else None
    reason.shown.append(drop)


def _small(body: bytes, size: tuple[int, int] | None) -> bytes | None:
    """A JPEG of at most 120 pixels a side, of a broken image what can be had of it; None if nothing can."""
    if size is None:
        return None
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        with Image.open(io.BytesIO(body)) as image:
            image.draft("RGB", (_SIDE, _SIDE))
            if image.width * image.height > _PIXELS or size[0] * size[1] > _JPEG_PIXELS:
                return None
            small = image.convert("RGBA")
            small.thumbnail((_SIDE, _SIDE))
            ground = Image.new("RGBA", small.size, "white")
            out = io.BytesIO()
            Image.alpha_composite(ground, small).convert("RGB").save(out, "JPEG", quality=82)
            return out.getvalue()
    except Exception:  # Pillow's decoders raise whatever their parsers raise; a cross stands for the picture then
        return None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
