"""All near pairs among 100,000 hashes in seconds: discard most pairs by a bound that costs little, then count bits.

Two bounds, both exact. Hashes that fill their space (random ones) are found by bands: hashes that differ in d bits
agree in one of d + 1 bands. Hashes of photos on white do not fill it: they crowd, and every band has huge buckets. But
they lie near a space of few dimensions. The squared distance of two bit vectors is the number of differing bits, and a
projection onto orthogonal directions can only make it smaller: 64 principal directions leave few pairs to look at. A
k-d tree, and holding each row against the box of a leaf, spare nine tenths of the projection.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["near_pairs"]

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]

_SMALL = 2048  # hashes; up to here finding directions costs more than comparing all pairs
_DIRECTIONS = 64  # fewer leave far more pairs, more cost as much as they save
_SAMPLE = 1024  # rows that tell where the principal directions lie; any orthogonal ones would be exact
_MARGIN, _ROUNDS = 16, 2  # of the subspace iteration that finds them, for far less time and memory than a whole eigh
_WIDE = 1 << 16  # rows whose places are kept in full: 16 MB, and a tenth less time than in half precision
_CHUNK = 256  # rows unpacked at a time: a bit as a float32 is 32 times larger
_MEASURES = 3  # and the number of bits set; in more dimensions the leaves get too long
_LEAF = 128  # rows
_COLUMNS = 1024  # of the product at a time: with a leaf's rows 512 KB of float32, which stay in the core's cache
_PAIRS = 1 << 16  # looked at together
_BAND_BITS = 16  # sorted by radix, and 65,536 buckets are enough for 100,000 hashes
_BAND_COST = 64  # a pair out of a bucket costs as much as so many cells of the projection


def near_pairs(hashes: NDArray[np.uint8], max_distance: int, rows: NDArray[np.int64] | None = None) -> Iterator[Pairs]:
    """Yields, in chunks, every pair of rows that is near (`shards.duplicates.groups` says what near is).

    Memory: one copy of the hashes, 160 bytes a row beside it, and some 25 MB whatever their number; `hashes` itself is
    let go of before most of it is needed.

    Args:
        hashes: uint8 (N, bytes).
        max_distance: in bits, at least 1.
        rows: those to compare, by number, no two of them equal; all of `hashes` by default. Pairs count in `rows`.
    """
    counts = np.concatenate([np.bitwise_count(some).sum(axis=1, dtype=np.int64) for some in _blocks(hashes)])
    if rows is not None:
        counts = counts[rows]
    order = np.argsort(counts, kind="stable")
    words = np.zeros((len(order), -(-hashes.shape[1] // 8)), np.uint64)
    for some, out in zip(_blocks(order if rows is None else rows[order]), _blocks(words.view(np.uint8)), strict=True):
        out[:, : hashes.shape[1]] = hashes[some]
    counts = counts[order]
    del hashes  # which is the caller's last copy, if it has given its own away
    for left, right in _together(_candidates(words, counts, max_distance)):
        limit = np.minimum(max_distance, (counts[left] + counts[right]) // 10)
        for column in words.T:  # most pairs are over their limit after a few words
            limit = limit - np.bitwise_count(column[left] ^ column[right])
            near = limit >= 0
            left, right, limit = left[near], right[near], limit[near]
        yield order[left], order[right]


def _together(chunks: Iterator[Pairs]) -> Iterator[Pairs]:
    """Small chunks made into larger ones: what is done with one costs something however small it is."""
    held: list[Pairs] = []
    count = 0
    for chunk in chunks:
        held.append(chunk)
        count += len(chunk[0])
        if count >= _PAIRS:
            yield np.concatenate([left for left, _ in held]), np.concatenate([right for _, right in held])
            held, count = [], 0
    if held:
        yield np.concatenate([left for left, _ in held]), np.concatenate([right for _, right in held])


def _candidates(words: NDArray[np.uint64], counts: NDArray[np.int64], max_distance: int) -> Iterator[Pairs]:
    """All near pairs and others: in whichever way costs less."""
    if len(words) <= _SMALL:
        return _all_pairs(len(words))
    bands = _bands(words, max_distance)
    some = bands[:: max(1, len(bands) // 4)]
    bucket_pairs = sum(_bucket_pairs(_values(words, band)) for band in some) * len(bands) / max(1, len(some))
    if bucket_pairs * _BAND_COST <= len(words) ** 2:
        return _by_bands(words, bands)
    return _by_projection(words, counts, max_distance)


def _all_pairs(n: int) -> Iterator[Pairs]:
    for begin in range(0, n, _LEAF):
        left, right = np.divmod(np.arange(min(_LEAF, n - begin) * n), n)
        later = left + begin < right
        yield left[later] + begin, right[later]


def _bits(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.unpackbits(words.view(np.uint8), axis=1)


def _sample(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """The bits of rows spread over all."""
    return _bits(words[:: -(-len(words) // _SAMPLE) or 1])


def _bands(words: NDArray[np.uint64], max_distance: int) -> list[NDArray[np.int64]]:
    """The bits of each of max_distance + 1 bands, dealt so that every band gets its share of the lively ones."""
    rate = _sample(words).mean(axis=0)
    lively = np.argsort(-np.minimum(rate, 1 - rate), kind="stable")
    count = min(max_distance + 1, len(lively))
    return [lively[band::count][:_BAND_BITS] for band in range(count)]


def _values(words: NDArray[np.uint64], band: NDArray[np.int64]) -> NDArray[np.uint16]:
    """The bits of a band as one number for each row."""
    columns = words.view(np.uint8)
    value = np.zeros(len(words), np.uint16)
    for bit in band.tolist():
        value = value << 1 | (columns[:, bit >> 3] >> (7 - (bit & 7)) & 1)
    return value


def _bucket_pairs(values: NDArray[np.uint16]) -> int:
    sizes = np.bincount(values)
    return int((sizes * (sizes - 1) // 2).sum())


def _by_bands(words: NDArray[np.uint64], bands: list[NDArray[np.int64]]) -> Iterator[Pairs]:
    """Pairs that agree in a band; those that agree in several come several times."""
    for band in bands:
        values = _values(words, band)
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        edges = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1], True])
        ends = np.repeat(edges[1:], np.diff(edges))
        places = np.arange(len(order))
        step = 1
        while len(places := places[places + step < ends[places]]):
            yield order[places], order[places + step]
            step += 1


def _by_projection(words: NDArray[np.uint64], counts: NDArray[np.int64], max_distance: int) -> Iterator[Pairs]:
    """Pairs that no measure tells apart, leaf of a k-d tree by leaf.

    A measure is a sum of bits with signs: one differing bit moves it by one, so near pairs differ by at most their
    limit in each. Leaves that are further apart in one are not compared, nor is a leaf with rows that are further from
    it. For the rest, with a and b the projections and |a|, |b| the bits set, near implies
    (a - b)^2 - (|a| + |b|) / 10 <= 0: one matrix product for many pairs.
    """
    main, offset = _directions(words)
    measures = np.column_stack([counts, _signed_sums(words, main)])
    order, edges, lows, highs = _leaves(measures)
    counts, columns = counts[order], np.ascontiguousarray(measures[order].T.astype(np.int32))
    del measures
    places = _project(words, order, main, offset)
    squares = np.concatenate([(some.astype(np.float32) ** 2).sum(axis=1) for some in _blocks(places)])
    # rounding moves a place by at most 2^-11 of its length, and so a pair's distance by twice that
    moved = 2 * 2.0**-11 * float(np.sqrt(squares.max(initial=0)))
    slack = 2 * np.sqrt(max_distance) * moved + moved**2 + 0.01  # and float32's own
    squares -= counts / np.float32(10)
    # (a - b)^2 <= max_distance too, and |b| >= 9/11 |a|
    limits = (np.minimum(0, max_distance - counts * 2 / 11) + slack).astype(np.float32)[:, None]
    leaf_of = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    for leaf, (begin, end) in enumerate(itertools.pairwise(edges.tolist())):
        reach = np.minimum(max_distance, (highs[leaf, 0] + highs[:, 0]) / 10)
        apart = np.maximum(lows - highs[leaf], lows[leaf] - highs).max(axis=1)
        others = np.flatnonzero((apart <= reach)[leaf_of[begin:]]) + begin
        for column, low, high in zip(columns, lows[leaf].tolist(), highs[leaf].tolist(), strict=True):
            place, reach = column[others], np.minimum(max_distance, (highs[leaf, 0] + columns[0, others]) // 10)
            others = others[(place >= low - reach) & (place <= high + reach)]
        here = -2 * places[begin:end].astype(np.float32, copy=False)
        limit = limits[begin:end] - squares[begin:end, None]
        for some in np.split(others, range(_COLUMNS, len(others), _COLUMNS)):
            found = here @ places[some].astype(np.float32, copy=False).T
            found += squares[some]
            left, right = np.divmod(np.flatnonzero(found <= limit), len(some))  # much faster than nonzero in 2-d
            left, right = left + begin, some[right]
            later = left < right
            yield order[left[later]], order[right[later]]


def _leaves(
    measures: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """A k-d tree's leaves: runs of at most _LEAF rows that lie close together.

    Returns:
        An order of the rows, the edges of the runs in it, and the least and greatest measures in each.
    """
    leaves: list[NDArray[np.int64]] = []
    waiting = [np.arange(len(measures))]
    while waiting:
        rows = waiting.pop()
        if len(rows) <= _LEAF:
            leaves.append(rows)
            continue
        inside = measures[rows]
        widest = inside[:, np.ptp(inside, axis=0).argmax()]
        halves = rows[np.argpartition(widest, len(rows) // 2)]
        waiting += [halves[len(rows) // 2 :], halves[: len(rows) // 2]]
    bounds = [np.stack([kind.reduce(measures[leaf]) for leaf in leaves]) for kind in (np.minimum, np.maximum)]
    return np.concatenate(leaves), np.cumsum([0, *map(len, leaves)]), bounds[0], bounds[1]


def _blocks(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Few rows at a time: a bit as a float32 is 32 times larger."""
    return (rows[at : at + _CHUNK] for at in range(0, len(rows), _CHUNK))


def _signed_sums(words: NDArray[np.uint64], main: NDArray[np.float32]) -> NDArray[np.int64]:
    """The bits of each row summed with the signs of the first directions, int64 (N, 3)."""
    positive = np.packbits(main[:, :_MEASURES] >= 0, axis=0).T
    masks = np.ascontiguousarray(positive).view(np.uint64)
    sums = np.empty((len(words), len(masks)), np.int64)
    for some, out in zip(_blocks(words), _blocks(sums), strict=True):
        counts = np.bitwise_count(some).sum(axis=1, dtype=np.int64)
        out[:] = 2 * np.bitwise_count(some[:, None] & masks).sum(axis=2, dtype=np.int64) - counts[:, None]
    return sums


def _project(
    words: NDArray[np.uint64], order: NDArray[np.int64], main: NDArray[np.float32], offset: NDArray[np.float32]
) -> NDArray[np.floating[Any]]:
    """The rows' bits on the directions, in that order, (N, 64): float32, or float16 if they are many."""
    places = np.empty((len(words), main.shape[1]), np.float32 if len(words) <= _WIDE else np.float16)
    for rows, out in zip(_blocks(order), _blocks(places), strict=True):
        out[:] = _bits(words[rows]).astype(np.float32) @ main - offset
    return places


def _directions(words: NDArray[np.uint64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Orthonormal directions in which the bits differ most, the first the most.

    By subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4): nearly the principal ones.

    Returns:
        float32 (bits, 64), and the place of the mean row on them.
    """
    bits = _sample(words)
    centre = bits.mean(axis=0, dtype=np.float32)
    wide = min(_DIRECTIONS + _MARGIN, bits.shape[1])
    basis = np.random.default_rng(0).standard_normal((bits.shape[1], wide)).astype(np.float32)
    for _ in range(_ROUNDS):
        image = np.zeros_like(basis)
        for some in _blocks(bits):
            centred = some - centre
            image += centred.T @ (centred @ basis)
        basis, sizes = np.linalg.qr(image)
    # R of the image of an orthonormal basis: its singular vectors put the directions in order
    turn, _, _ = np.linalg.svd(sizes)
    main = np.ascontiguousarray((basis @ turn)[:, :_DIRECTIONS])
    return main, centre @ main
