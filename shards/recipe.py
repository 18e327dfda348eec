"""split.json names its parts by digest: whether they still are those parts, and what it says once one was repaired."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from shards.errors import ConfigError, brief
from shards.files import write_atomic
from shards.manifest import Manifest, read_manifest
from shards.parts import RECIPE_NAME
from shards.shard_errors import ManifestDamaged, ManifestMissing

__all__ = ["contradiction", "part_names", "renew"]

_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


def part_names(text: bytes, where: str) -> list[str]:
    """The names of a split's parts: what split.json, `text`, says.

    Raises:
        ConfigError: it says none, or what can be no folder's name; names `where`.
    """
    try:
        names = json.loads(text)["recipe"]["names"]
    except (KeyError, TypeError, ValueError) as error:
        problem = f"cannot be read ({brief(error)})"
    else:
        if isinstance(names, list) and names and all(isinstance(it, str) and _PART.fullmatch(it) for it in names):
            return names
        problem = f"{repr(names)[:60]}: expected the names of the parts"
    raise ConfigError(where, "recipe.names", f"{problem}; name one part's folder, or split the set anew")


def contradiction(part: Path) -> str | None:
    """What split.json beside the set `part` says of it that is not so; None if all is, or if it is no part of one."""
    found = _told(part)
    if found is None:
        return None
    manifest, recipe = found
    told = recipe["parts"].get(_name(part))
    said, count = (told.get("digest"), told.get("samples")) if isinstance(told, dict) else (None, "no")
    if said == manifest.digest:
        return None
    return (
        f"{RECIPE_NAME} names {count} samples with digest {str(said)[:12]}..., there are {manifest.samples} "
        f"with {manifest.digest[:12]}...: changed after the split; `bassline shards verify --repair` has it say so"
    )


def renew(part: Path) -> bool:
    """Has split.json beside `part` say what the part is now, and under "repaired" what it was when the set was split.

    Returns:
        Whether there was something to write.
    """
    found = _told(part)
    if found is None or contradiction(part) is None:
        return False
    manifest, recipe = found
    name = _name(part)
    was = recipe["parts"].get(name)
    recipe["parts"][name] = {"samples": manifest.samples, "counts": manifest.counts, "digest": manifest.digest}
    repaired = recipe.setdefault("repaired", {})
    if isinstance(repaired, dict):
        repaired.setdefault(name, was)  # of several repairs the first knows what was split
    text = json.dumps(recipe, ensure_ascii=False, indent=1)
    write_atomic(_beside(part), [text.encode(), b"\n"])
    return True


def _name(part: Path) -> str:
    """The part's name: that of its folder."""
    return part.absolute().name


def _beside(part: Path) -> Path:
    return part.absolute().parent / RECIPE_NAME


def _told(part: Path) -> tuple[Manifest, dict[str, Any]] | None:
    """The part's manifest and the recipe that names it; None where there are not both."""
    try:
        recipe = json.loads(_beside(part).read_bytes())
        if _name(part) not in recipe["recipe"]["names"] or not isinstance(recipe["parts"], dict):
            return None
        return read_manifest(part), recipe
    except (OSError, KeyError, TypeError, ValueError, ManifestDamaged, ManifestMissing):
        return None
