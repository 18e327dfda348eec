"""How a game ended: both scores, by label, who won, where the two differed; for a person and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console

from bassline import console, high_scores, pictures
from bassline.play_table import Table
from bassline.predict import count
from trainer.game import Score, Turn

__all__ = ["keep", "result", "show", "verdict"]

_PICTURES, _SIDE, _LISTED = 8, 18, 40
_BAR = 30


def keep(table: Table, path: Path, name: str) -> dict[str, Any] | None:
    """Adds the game to the high scores; where it stands there, or None if nothing was answered.

    Raises:
        ScoresDamaged, OSError: it cannot be kept.
    """
    score = table.game.score()
    if not score.images:
        return None
    game = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "name": name,
        "run": table.run,
        "model": table.model,
        "data": table.data,
        "seed": table.seed,
        "hard": table.hard,
        "rounds": len(table.game.questions),
        "finished": table.game.finished,
        "images": score.images,
        "person": score.person,
        "network": score.network,
        "seconds": round(score.seconds, 3),
    }
    games = high_scores.record(path, game)
    return {"file": str(path), "place": high_scores.place_of(games, game), "best": high_scores.best(games, game)}


def result(table: Table, kept: Mapping[str, Any] | None, *, interrupted: bool) -> dict[str, Any]:
    """What `--json` prints."""
    game = table.game
    return {
        "run": table.run,
        "part": table.part,
        "labels": list(game.labels),
        "seed": table.seed,
        "hard": table.hard,
        "rounds": len(game.questions),
        "finished": game.finished,
        "interrupted": interrupted,
        "unread": table.unread,
        **game.score().to_json(),
        "turns": [game.told(turn) for turn in game.turns],
        "differences": [turn.question.key for turn in game.differences],
        "high_scores": dict(kept) if kept else None,
    }


def verdict(score: Score) -> str:
    """Who won, by how much, and whether that says anything."""
    if score.winner == "nobody":
        return "nobody played"
    if score.winner == "draw":
        return f"a draw: {score.person} of {score.images} each"
    ahead = abs(score.person - score.network)
    who = "you won" if score.winner == "person" else "the network won"
    luck = score.luck
    says = "luck could do that" if luck > 0.05 else "luck hardly does that"
    return f"{who} by {ahead} of {score.images} ({says}: p = {luck:.2g})"


def show(table: Table, kept: Mapping[str, Any] | None, to: Console, *, pictured: bool, true_colour: bool) -> None:
    """The last screen, as lines that stay.

    Args:
        table: of the game that ended.
        kept: what `keep` gave.
        to: where to.
        pictured: draw the first images where the two differed.
        true_colour: in 24 bits a colour.
    """
    game, score = table.game, table.game.score()
    if not score.images:
        to.print("no image was answered")
        return
    ended = "" if game.finished else f", ended after {score.images}"
    hard = ", those it is least sure of" if table.hard else ""
    run, part = console.literal(table.run), console.literal(table.part)
    to.print(f"\n[bold]You against {run}[/]: {count(len(game.questions))} of {part}{hard}{ended}")
    for who, right in (("you", score.person), ("network", score.network)):
        bar = "█" * round(_BAR * right / score.images)
        to.print(f"  {who:<8} [cyan]{bar:<{_BAR}}[/] {right:>4} of {score.images}  {right / score.images:.1%}")
    winner = {"person": "green", "network": "red"}.get(score.winner, "yellow")
    to.print(f"  [bold {winner}]{verdict(score)}[/]")
    common = max(score.by_label, key=lambda one: one.images)
    often = f"{common.images} time{'s' * (common.images > 1)}"
    always = f"always saying {console.literal(common.label)} would have been right {often}"
    said = f"; the network said {console.literal(score.single)} every time" if score.single else ""
    to.print(f"  [dim]{always}{said}[/]\n")
    by_label = console.table(
        "Accuracy by label", "label", "images", "you", "network", right=("images", "you", "network")
    )
    for one in score.by_label:
        you, network = (f"{right / one.images:.0%}" for right in (one.person, one.network))
        by_label.add_row(console.literal(one.label), f"{one.images}", you, network)
    to.print(by_label)
    _differences(table, to, pictured=pictured, true_colour=true_colour)
    _high_scores(kept, to)
    to.print(f"[dim]{console.seconds(score.seconds)} in all; --seed {table.seed} deals the same images again[/]")


def _differences(table: Table, to: Console, *, pictured: bool, true_colour: bool) -> None:
    game = table.game
    found = game.differences
    if not found:
        to.print("\nyou and the network gave the same answer every time")
        return
    to.print(f"\n[bold]Where you differed[/] ({len(found)})")
    shown = found[:_PICTURES] if pictured else []
    for start in range(0, len(shown), columns := max(1, to.width // (_SIDE + 2))):
        _strip(table, shown[start : start + columns], to, true_colour)
    rest = found[len(shown) :]
    if rest:
        listed = console.table("", "image", "truth", "you", "network", right=())
        for turn in rest[:_LISTED]:
            you, network = (_said(table, turn, label) for label in (turn.person, turn.question.network))
            truth = console.literal(game.labels[turn.question.truth])
            key = console.literal(turn.question.key)
            listed.add_row(key, truth, you, f"{network} [dim]{turn.question.certainty:.0%}[/]")
        to.print(listed)
        if len(rest) > _LISTED:
            to.print(f"and {len(rest) - _LISTED} more; --json has all of them")


def _said(table: Table, turn: Turn, label: int) -> str:
    colour = "green" if label == turn.question.truth else "red"
    return f"[{colour}]{console.literal(table.game.labels[label])}[/]"


def _strip(table: Table, turns: list[Turn], to: Console, true_colour: bool) -> None:
    """A row of small pictures with both answers under each."""
    drawn = [
        pictures.in_cells(table.pixels(turn.question), _SIDE, _SIDE // 2, fine=True, true_colour=true_colour)
        for turn in turns
    ]
    for lines in zip(*drawn, strict=True):
        # past rich: it would count and wrap what are escapes
        to.file.write("  ".join(lines) + "\n")
    width = _SIDE + 2
    for who in ("you", "net", "is"):
        cells = []
        for turn in turns:
            truth = turn.question.truth
            label = {"you": turn.person, "net": turn.question.network, "is": truth}[who]
            name = console.plain(table.game.labels[label])[: _SIDE - 4]
            colour = "bold" if who == "is" else "green" if label == truth else "red"
            cells.append(f"[dim]{who:<3}[/] [{colour}]{console.literal(name)}[/]" + " " * (width - 4 - cell_len(name)))
        to.print("".join(cells), soft_wrap=True)
    to.print()


def _high_scores(kept: Mapping[str, Any] | None, to: Console) -> None:
    if not kept or not kept["best"]:
        return
    first = kept["best"][0]
    of = f"{count(first['rounds'])}{', the hard ones' if first['hard'] else ''}"
    table = console.table(f"Best of {of}", "", "name", "right", "network", "time", "when", right=("right", "network"))
    for place, game in enumerate(kept["best"], 1):
        style = "bold" if place == kept["place"] else ""
        when, name = console.literal(str(game.get("at", ""))[:10]), console.literal(str(game.get("name", "")))
        numbers = (f"{game['person']}", f"{game['network']}", console.seconds(game["seconds"]))
        table.add_row(f"{place}", name, *numbers, when, style=style)
    to.print()
    to.print(table)
