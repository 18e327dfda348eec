"""The games played, in one file that is replaced whole or not at all: who did best under the same terms."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shards.errors import BasslineError
from shards.files import write_atomic

__all__ = ["NAME", "ScoresDamaged", "best", "file_for", "place_of", "read", "record"]

NAME = "scores.json"
_FORMAT = 1
_TERMS = ("model", "data", "rounds", "hard")


class ScoresDamaged(BasslineError):
    """The file is none of ours, or broken; it is left as it is."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        super().__init__(
            f"{path}: not a file of high scores ({problem}); it is left as it is: move it, or give --scores"
        )


def file_for(run: Path, environ: Mapping[str, str]) -> Path:
    """Where games with a model are kept: in its run folder, or else in the user's own state folder."""
    if run.is_dir() and os.access(run, os.W_OK):
        return run / NAME
    state = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".local" / "state")
    return Path(state) / "bassline" / NAME


def read(path: Path) -> list[dict[str, Any]]:
    """The games in the file, in the order they were played; none where there is no file.

    Raises:
        ScoresDamaged: it cannot be read.
    """
    try:
        told = json.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        raise ScoresDamaged(path, " ".join(str(error).split())[:100]) from None
    games = told.get("games") if isinstance(told, dict) and told.get("format") == _FORMAT else None
    if not isinstance(games, list) or not all(map(_is_game, games)):
        raise ScoresDamaged(path, "no games as this version writes them")
    return games


def _is_game(told: Any) -> bool:
    if not isinstance(told, dict):
        return False
    numbers = all(isinstance(told.get(name), int) for name in ("images", "person", "network", "rounds", "seed"))
    return numbers and isinstance(told.get("seconds"), int | float) and isinstance(told.get("finished"), bool)


def record(path: Path, game: dict[str, Any]) -> list[dict[str, Any]]:
    """Adds a game; gives all of them. Games that end at the same time wait for each other.

    Raises:
        ScoresDamaged: what is there cannot be read; it is left as it is.
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        games = [*read(path), game]
        write_atomic(path, [json.dumps({"format": _FORMAT, "games": games}, indent=1).encode(), b"\n"])
    return games


def best(games: list[dict[str, Any]], terms: Mapping[str, Any], most: int = 5) -> list[dict[str, Any]]:
    """The best games under the same terms, to the end: most right, of equals the quicker.

    A name's second game with the same seed had been seen before, and does not count.
    """
    seen: set[tuple[Any, Any]] = set()
    counted = []
    for game in games:
        same = all(game.get(name) == terms.get(name) for name in _TERMS)
        if same and game["finished"] and (game.get("name"), game["seed"]) not in seen:
            counted.append(game)
        if same:
            seen.add((game.get("name"), game["seed"]))
    return sorted(counted, key=lambda game: (-game["person"], game["seconds"]))[:most]


def place_of(games: list[dict[str, Any]], game: dict[str, Any]) -> int | None:
    """The place of a game that was just recorded, from 1; None if it does not count."""
    ranked = best(games, game, len(games))
    return next((place for place, one in enumerate(ranked, 1) if one is game), None)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.with_name(f".{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
