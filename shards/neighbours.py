"""All near pairs among 100,000 hashes in seconds: discard most pairs by a bound that costs little, then count bits.

Two bounds, both exact. Hashes that fill their space (random ones) are found by bands: hashes that differ in d bits
agree in one of d + 1 bands. Hashes of photos on white do not fill it: they crowd, and every band has huge buckets. But
they lie near a space of few dimensions. The squared distance of two bit vectors is the number of differing bits, and a
projection onto orthogonal directions can only make it smaller: 64 principal directions leave few pairs to look at. A
k-d tree spares most of the projection.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["near_pairs"]

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]

_SMALL = 2048  # hashes; up to here finding directions costs more than comparing all pairs
_DIRECTIONS = 64  # 32 leave 80 times the pairs, 96 cost as much as they save
_SAMPLE = 4096  # rows that tell where the principal directions lie; any orthogonal ones would be exact
_MEASURES = 3  # and the number of bits set; in more dimensions the leaves get too long
_LEAF = 128  # rows
_COLUMNS = 32768  # with a leaf's rows 16 MB of float32
_BAND_BITS = 16  # sorted by radix, and 65,536 buckets are enough for 100,000 hashes
_BAND_COST = 64  # a pair out of a bucket costs as much as so many cells of the projection


def near_pairs(hashes: NDArray[np.uint8], max_distance: int) -> Iterator[Pairs]:
    """Yields, in chunks, every pair of rows that is near (`shards.duplicates.groups` says what near is).

    Args:
        hashes: uint8 (N, bytes), no two rows equal.
        max_distance: in bits, at least 1.
    """
    width = -(-hashes.shape[1] // 8) * 8
    padded = np.zeros((len(hashes), width), np.uint8)
    padded[:, : hashes.shape[1]] = hashes
    words = padded.view(np.uint64)
    order = np.argsort(np.bitwise_count(words).sum(axis=1, dtype=np.int64), kind="stable")
    words = words[order]
    counts = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    for left, right in _candidates(words, counts, max_distance):
        limit = np.minimum(max_distance, (counts[left] + counts[right]) // 10)
        for column in words.T:  # most pairs are over their limit after a few words
            limit = limit - np.bitwise_count(column[left] ^ column[right])
            near = limit >= 0
            left, right, limit = left[near], right[near], limit[near]
        yield order[left], order[right]


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
    limit in each. Leaves that are further apart in one are not compared. For the rest, with a and b the projections
    and |a|, |b| the bits set, near implies (a - b)^2 - (|a| + |b|) / 10 <= 0: one matrix product for many pairs.
    """
    places, measures = _project(words)
    measures = np.column_stack([counts, measures])
    order, edges = _leaves(measures)
    counts, places, measures = counts[order], places[order], measures[order]
    lows, highs = (kind.reduceat(measures, edges[:-1], axis=0) for kind in (np.minimum, np.maximum))
    squares = np.einsum("ij,ij->i", places, places) - (counts / 10).astype(np.float32)
    ones = np.ones_like(squares)
    left_side = np.column_stack([-2 * places, squares, ones])
    right_side = np.column_stack([places, ones, squares])
    # (a - b)^2 <= max_distance too, and |b| >= 9/11 |a|; the last term is for float32's rounding
    limits = (np.minimum(0, max_distance - counts * 2 / 11) + 0.01).astype(np.float32)[:, None]
    leaf_of = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    for leaf, (begin, end) in enumerate(itertools.pairwise(edges.tolist())):
        reach = np.minimum(max_distance, (highs[leaf, 0] + highs[:, 0]) / 10)
        apart = np.maximum(lows - highs[leaf], lows[leaf] - highs).max(axis=1)
        others = np.flatnonzero((apart <= reach)[leaf_of[begin:]]) + begin
        for some in np.split(others, range(_COLUMNS, len(others), _COLUMNS)):
            found = left_side[begin:end] @ right_side[some].T <= limits[begin:end]
            left, right = np.divmod(np.flatnonzero(found), len(some))  # 40 times faster than nonzero on two axes
            left, right = left + begin, some[right]
            later = left < right
            yield order[left[later]], order[right[later]]


def _leaves(measures: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A k-d tree's leaves: an order of the rows, and the edges of runs of at most _LEAF that lie close together."""
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
    return np.concatenate(leaves), np.cumsum([0, *map(len, leaves)])


def _project(words: NDArray[np.uint64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The bits on their principal directions, float32 (N, 64), and summed with the signs of the first, int64 (N, 3)."""
    some = _sample(words).astype(np.float32)
    centre = some.mean(axis=0)
    some -= centre
    _, directions = np.linalg.eigh(some.T @ some)
    main = directions[:, -_DIRECTIONS:]
    signs = np.where(main[:, -_MEASURES:] < 0, np.float32(-1), np.float32(1))
    both = np.column_stack([main, signs])
    chunks = range(0, len(words), _SAMPLE)  # a bit as a float32 is 32 times larger
    found = np.concatenate([_bits(words[at : at + _SAMPLE]).astype(np.float32) @ both for at in chunks])
    return found[:, : main.shape[1]] - centre @ main, np.rint(found[:, main.shape[1] :]).astype(np.int64)
