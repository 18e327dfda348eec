"""Strict TOML files: an unknown key is an error with a suggestion, never a silent default."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from shards.errors import ConfigError

__all__ = ["StrictModel", "merge", "read_toml", "validate"]


class StrictModel(BaseModel):
    """A frozen configuration object; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file.

    Raises:
        ConfigError: the file is missing, not UTF-8 or not TOML; names the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(str(path), "", "no such file") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(path), "", f"not valid TOML: {error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "", f"cannot be read as UTF-8 text: {error}") from None
    except OSError as error:
        raise ConfigError(str(path), "", f"cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 1,000 brackets, a NUL in the path
        raise ConfigError(str(path)[:500].replace("\0", "?"), "", f"cannot be read: {error}") from None


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`: tables are merged key by key, everything else is replaced. Neither is changed."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = merge(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged


def validate(model: type[Model], data: Mapping[str, Any], where: str) -> Model:
    """Builds `model` from `data`.

    Raises:
        ConfigError: the first problem found, with its dotted key, what was expected, and the nearest known key.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # A mistyped key is reported before the key that is missing for it.
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        location = [str(part) for part in first["loc"] if "[" not in str(part)]
        key = ".".join(part if part.isprintable() else ascii(part) for part in location)
        if first["type"] == "extra_forbidden":
            known = _keys_at(model, location[:-1])
            near = difflib.get_close_matches(location[-1], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
            raise ConfigError(where, key, f"unknown key; {hint}") from None
        whole = first["type"] == "value_error" and isinstance(first["input"], dict)  # says itself what does not agree
        found = "" if first["type"] == "missing" or whole else f", not {first['input']!r}"[:120]
        message = _PLAIN.get(first["type"], first["msg"].removeprefix("Value error, "))
        raise ConfigError(where, key, f"{message[:1].lower()}{message[1:]}{found}") from None


# pydantic's words for these are Python's, and a file is TOML.
_PLAIN = {
    "model_type": "a table was expected",
    "dict_type": "a table was expected",
    "tuple_type": "a list was expected",
    "list_type": "a list was expected",
}


def _keys_at(model: type[BaseModel], location: list[str]) -> list[str]:
    """The field names of the nested model that `location` leads to."""
    for part in location:
        if part.isdigit():
            continue
        field = model.model_fields.get(part)
        nested = _models_in(field.annotation) if field else []
        if not nested:
            return []
        model = nested[0]
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in getattr(annotation, "__args__", ()) for found in _models_in(argument)]
