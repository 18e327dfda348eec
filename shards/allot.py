"""Who goes into which part: exact numbers per label, and no group cut in two. Pure: reads no clock and no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from shards.errors import ConfigError
from shards.read import permutation

__all__ = ["allot", "label_targets", "nearest", "round_to"]

# Groups are placed by a search that goes back when stuck. It hardly ever is: single samples fill every gap.
_TRIES = 200_000


def round_to(shares: NDArray[np.float64], total: int, room: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whole numbers near `shares` that add up to `total` and keep within `room`: the largest remainder first."""
    whole = np.minimum(np.floor(shares + 1e-9).astype(np.int64), room)
    while (missing := total - int(whole.sum())) > 0:
        open_ = np.flatnonzero(whole < room)
        ranked = open_[np.argsort(-(shares - whole)[open_], kind="stable")][:missing]
        whole[ranked] += 1
    return whole


def label_targets(
    available: NDArray[np.int64],
    labels: Sequence[str],
    names: Sequence[str],
    *,
    counts: Sequence[int] | None = None,
    fractions: Sequence[float] | None = None,
    label_counts: Mapping[str, Sequence[int]] | None = None,
) -> NDArray[np.int64]:
    """How many samples of each label go into each part.

    Args:
        available: samples a label, int64 (L,).
        labels, names: of the labels and the parts.
        counts: samples a part, shared out among the labels in proportion.
        fractions: of the whole set a part, likewise; they add up to 1 or less.
        label_counts: samples a part for each label; a label that is not named gets none.

    Returns:
        int64 (L, P); a row may add up to less than is available.

    Raises:
        ConfigError: not exactly one of the three is given, or it asks for what there is not.
    """
    given = {"counts": counts, "fractions": fractions, "label_counts": label_counts}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise ConfigError("split", "", f"expected one of counts, fractions and label_counts, not {named or 'none'}")
    if label_counts is not None:
        return _exact(label_counts, available, labels, names)
    total = int(available.sum())
    if fractions is not None:
        _check_numbers("fractions", fractions, names)
        if sum(fractions) > 1 + 1e-9:
            raise ConfigError("split", "fractions", f"{list(fractions)} add up to more than 1")
        shares = np.array(fractions) * total
        counts = round_to(shares, round(float(shares.sum())), np.full(len(names), total)).tolist()
    assert counts is not None
    _check_numbers("counts", counts, names)
    if sum(counts) > total:
        raise ConfigError("split", "counts", f"{list(counts)} ask for {sum(counts)} samples; the set has {total}")
    room = available.copy()
    targets = np.zeros((len(labels), len(names)), np.int64)
    for part, count in enumerate(counts):
        # of what is left, so that the last part of a whole set takes exactly the rest
        targets[:, part] = round_to(room * (count / max(1, room.sum())), count, room)
        room -= targets[:, part]
    return targets


def _check_numbers(key: str, numbers: Sequence[float], names: Sequence[str]) -> None:
    if len(numbers) != len(names):
        raise ConfigError("split", key, f"{list(numbers)} for the {len(names)} parts {', '.join(names)}")
    if min(numbers, default=0) < 0:
        raise ConfigError("split", key, f"{list(numbers)}; expected no negative number")


def _exact(
    label_counts: Mapping[str, Sequence[int]], available: NDArray[np.int64], labels: Sequence[str], names: Sequence[str]
) -> NDArray[np.int64]:
    targets = np.zeros((len(labels), len(names)), np.int64)
    for label, numbers in label_counts.items():
        if label not in labels:
            raise ConfigError("split", f"label_counts.{label}", f"no such label; the set has {', '.join(labels)}")
        _check_numbers(f"label_counts.{label}", numbers, names)
        row = list(labels).index(label)
        if sum(numbers) > available[row]:
            problem = f"{list(numbers)} ask for {sum(numbers)} samples; the set has {available[row]} of this label"
            raise ConfigError("split", f"label_counts.{label}", problem)
        targets[row] = numbers
    return targets


def allot(
    label_ids: NDArray[np.int64],
    groups: NDArray[np.int64],
    targets: NDArray[np.int64],
    labels: Sequence[str],
    names: Sequence[str],
    seed: int,
) -> NDArray[np.int64]:
    """Puts whole groups into parts so that every part has exactly its number of every label.

    Args:
        label_ids, groups: int64 (N,); a group may hold several labels.
        targets: int64 (L, P) of `label_targets`; what is over is left out, also by whole groups.
        seed: decides who goes where.

    Returns:
        part number of each sample, int64 (N,); -1: left out.

    Raises:
        ConfigError: the groups cannot be placed so; names the label, the part, the group that is too large, and the
            `nearest` counts that fit.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, 1))))
    available = np.bincount(label_ids, minlength=len(labels))
    room = np.column_stack([targets, available - targets.sum(axis=1)])  # the last column: left out
    members: dict[int, list[int]] = {}
    for sample in permutation(len(label_ids), seed, 0).tolist():
        members.setdefault(int(groups[sample]), []).append(sample)
    part = np.full(len(label_ids), -1, np.int64)
    many = [samples for samples in members.values() if len(samples) > 1]
    needs = [np.bincount(label_ids[samples], minlength=len(labels)) for samples in many]
    # groups of several labels first, then label by label, the largest first
    order = sorted(
        range(len(many)),
        key=lambda g: (-np.count_nonzero(needs[g]), int(needs[g].argmax()), -len(many[g])),
    )
    placed = _place([needs[g] for g in order], room, rng, labels, names)
    for group, where in zip(order, placed, strict=True):
        part[many[group]] = where
        room[:, where] -= needs[group]
    single = [samples[0] for samples in members.values() if len(samples) == 1]
    for label in range(len(labels)):
        mine = [sample for sample in single if label_ids[sample] == label]
        part[mine] = np.repeat(np.arange(len(names) + 1), room[label])
    part[part == len(names)] = -1
    return part


def _place(
    needs: list[NDArray[np.int64]],
    room: NDArray[np.int64],
    rng: np.random.Generator,
    labels: Sequence[str],
    names: Sequence[str],
) -> list[int]:
    """A column for every group such that no cell of `room` is overdrawn: depth first, remembering dead ends."""
    left = room.copy()
    columns = np.arange(room.shape[1])
    # what the groups from here on still need decides whether a state is a dead end; the other labels do not matter
    open_labels = [np.flatnonzero(tail) for tail in np.cumsum(needs[::-1], axis=0)[::-1]] if needs else []
    dead: set[tuple[int, bytes]] = set()
    chosen: list[int] = []
    waiting: list[list[int]] = []
    deepest, tries = 0, 0

    def options(group: int) -> list[int]:
        own = np.flatnonzero(needs[group])
        weight = left[own].min(axis=0).astype(float)
        fits = columns[(left[own] >= needs[group][own, None]).all(axis=0)]
        keys = rng.random(len(fits)) ** (1 / np.maximum(weight[fits], 1e-9))  # a part in proportion to its room
        ranked: list[int] = fits[np.argsort(keys, kind="stable")].tolist()
        return ranked  # the best last: it is popped first

    while len(chosen) < len(needs):
        group = len(chosen)
        deepest = max(deepest, group)
        if len(waiting) == group:
            state = (group, left[open_labels[group]].tobytes())
            waiting.append([] if state in dead or tries > _TRIES else options(group))
        if waiting[group]:
            where = waiting[group].pop()
            left[:, where] -= needs[group]
            chosen.append(where)
            continue
        tries += 1
        dead.add((group, left[open_labels[group]].tobytes()))
        waiting.pop()
        if not chosen or tries > _TRIES:
            raise _too_large(needs, deepest, room, labels, names)
        left[:, chosen.pop()] += needs[group - 1]
    return chosen


def _too_large(
    needs: list[NDArray[np.int64]],
    group: int,
    room: NDArray[np.int64],
    labels: Sequence[str],
    names: Sequence[str],
) -> ConfigError:
    need = needs[group]
    label = int(need.argmax())
    columns = [*names, "left out"]
    near = nearest(needs, room)
    fits = "; ".join(
        f"{labels[row]} {_said(near[row], columns)}" for row in np.flatnonzero((near != room).any(axis=1)).tolist()
    )
    return ConfigError(
        "split",
        labels[label],
        f"its {int(room[label].sum())} samples are to be cut {_said(room[label], columns)}, but a group of "
        f"{int(need.sum())} near-duplicates that must not be cut fits nowhere any more; "
        f"the nearest that was found to fit is {fits}; ask for that, leave more out, or lower the distance",
    )


def _said(counts: NDArray[np.int64], columns: Sequence[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in zip(columns, counts.tolist(), strict=True))


def nearest(needs: Sequence[NDArray[np.int64]], room: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts that the groups do fit, near those asked for: each group goes where most of its room is left.

    Args:
        needs: samples of each label in each group of several, int64 (L,).
        room: samples of each label wanted in each part, the last column those left out, int64 (L, P + 1).

    Returns:
        int64 (L, P + 1), with the same sum in each row.
    """
    used = np.zeros_like(room)
    for need in sorted(needs, key=lambda need: -int(need.sum())):
        own = need > 0
        left = (room - used)[own] - need[own][:, None]
        used[:, left.min(axis=0).argmax()] += need
    found = np.maximum(used, room)
    for row, wanted in enumerate(room.sum(axis=1)):
        while (over := int(found[row].sum() - wanted)) > 0:  # what one part has too much, others must do without
            spare = found[row] - used[row]
            column = len(spare) - 1 if spare[-1] else int(spare.argmax())
            found[row, column] -= min(over, int(spare[column]))
    return found
