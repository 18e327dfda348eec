"""A contact sheet as one HTML page that needs nothing beside it: pictures, and on hover where each came from."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shards.sheet import Picture, Section

__all__ = ["write_page"]

_AS_IT_IS = 8 << 10  # bytes up to which an image is embedded untouched
_FACTS = ("title", "label_path", "image_url", "product_url", "listing_url", "file", "fetched_at", "site", "sha256")
_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


def write_page(sections: Sequence[Section], out: Path, *, title: str, note: str, cell: int) -> int:
    """Writes the page, whole or not at all; returns its bytes. A picture takes some 5 KB, whatever the image has."""
    import jinja2

    from shards.files import write_atomic

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bassline"), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    told = [
        {
            "title": section.title,
            "samples": section.samples,
            "pictures": [_picture(picture, cell) for picture in section.pictures],
        }
        for section in sections
    ]
    page = environment.get_template("sheet.html.j2").render(title=title, note=note, sections=told, cell=cell)
    write_atomic(out, [page.encode()])
    return out.stat().st_size


def _picture(picture: Picture, cell: int) -> dict[str, Any]:
    from shards.shard_errors import ShardError

    source, i = picture.source, picture.number
    try:
        meta = source.meta(i)
    except ShardError:
        meta = {}
    shape = f"{source.widths[i]}x{source.heights[i]} {source.ext(i)}, {source.sizes[i]:,} bytes"
    facts = [("label", source.labels[int(source.label_ids[i])]), ("part", picture.part), ("image", shape)]
    facts += [("group", str(source.groups[i])), ("where", str(source.where(i)).rpartition(" ")[0])]
    for name in _FACTS:
        value = meta.get(name)
        if value not in (None, "", []):
            text = " > ".join(map(str, value)) if isinstance(value, list) else str(value)
            facts.append((name.replace("_", " "), text if len(text) <= 200 else f"{text[:200]}..."))
    link = next((str(meta[name]) for name in ("product_url", "image_url") if _is_web(meta.get(name))), None)
    return {
        "key": source.key(i),
        "reason": picture.reason,
        "image": _embedded(picture, cell),
        "link": link,
        "facts": [(name, value) for name, value in facts if value],
    }


def _is_web(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _embedded(picture: Picture, cell: int) -> str | None:
    """A data URL: the image itself where it is small, otherwise at twice the cell's pixels; None if it is broken."""
    from PIL import Image

    from shards.sheet import small

    source, i = picture.source, picture.number
    data = source.image(i)
    made = small(data, 2 * cell)
    if made is None:
        return None
    if len(data) <= _AS_IT_IS:
        content, kind = bytes(data), _TYPES[source.ext(i)]
    else:
        flat = Image.new("RGB", made.size, "white")
        flat.paste(made, mask=made.getchannel("A"))
        out = io.BytesIO()
        flat.save(out, "JPEG", quality=80)
        content, kind = out.getvalue(), "image/jpeg"
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
