"""All near pairs among 100,000 hashes in seconds: discard most pairs by a bound that costs little, then count bits.

Two bounds, both exact. Hashes that fill their space (random ones) are found by bands: hashes that differ in d bits
agree in one of d + 1 bands. Hashes of photos on white do not fill it: they crowd, and every band has huge buckets. But
they lie near a space of few dimensions. The squared distance of two bit vectors is the number of differing bits, and a
projection onto orthogonal directions can only make it smaller: 64 principal directions leave few pairs to look at.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["near_pairs"]

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]

_DIRECTIONS = 64  # 32 leave 80 times the pairs, 96 cost as much as they save
_ROWS = 1024
_CELLS = 1 << 22  # pairs looked at in one go: 16 MB of float32
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
    bands = _bands(words, max_distance)
    sizes = sum(_bucket_pairs(band) for band in bands)
    candidates = (
        _by_bands(bands) if sizes * _BAND_COST <= len(words) ** 2 else _by_projection(words, counts, max_distance)
    )
    for left, right in candidates:
        limit = np.minimum(max_distance, (counts[left] + counts[right]) // 8)
        for column in words.T:  # most pairs are over their limit after two words of eight
            limit = limit - np.bitwise_count(column[left] ^ column[right])
            near = limit >= 0
            left, right, limit = left[near], right[near], limit[near]
        yield order[left], order[right]


def _bits(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.unpackbits(words.view(np.uint8), axis=1)


def _bands(words: NDArray[np.uint64], max_distance: int) -> list[NDArray[np.unsignedinteger]]:
    """The values of max_distance + 1 bands of bits, dealt so that every band gets its share of the lively ones."""
    bits = _bits(words)
    rate = bits.mean(axis=0)
    lively = np.argsort(-np.minimum(rate, 1 - rate), kind="stable")
    bands: list[NDArray[np.unsignedinteger]] = []
    for band in range(min(max_distance + 1, bits.shape[1])):
        # the first 64 bits of a wide band are enough to tell hashes apart; 16 bits are sorted by radix
        packed = np.packbits(bits[:, lively[band :: max_distance + 1][:64]], axis=1)
        size = 2 if packed.shape[1] <= 2 else 8
        filled = np.zeros((len(packed), size), np.uint8)
        filled[:, : packed.shape[1]] = packed
        bands.append(filled.view(f"u{size}").ravel())
    return bands


def _bucket_pairs(band: NDArray[np.unsignedinteger]) -> int:
    ordered = np.sort(band, kind="stable")
    sizes = np.diff(np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1], True]))
    return int((sizes * (sizes - 1) // 2).sum())


def _by_bands(bands: list[NDArray[np.unsignedinteger]]) -> Iterator[Pairs]:
    """Pairs that agree in a band; those that agree in several come several times."""
    for band in bands:
        order = np.argsort(band, kind="stable")
        ordered = band[order]
        edges = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1], True])
        ends = np.repeat(edges[1:], np.diff(edges))
        places = np.arange(len(order))
        step = 1
        while len(places := places[places + step < ends[places]]):
            yield order[places], order[places + step]
            step += 1


def _by_projection(words: NDArray[np.uint64], counts: NDArray[np.int64], max_distance: int) -> Iterator[Pairs]:
    """Pairs whose projections are near enough; `words` sorted by `counts`.

    With a and b the projections and |a|, |b| the bits set, near implies (a - b)^2 - (|a| + |b|) / 8 <= 0, which one
    matrix product gives for a block of pairs; and b - a <= differing <= (a + b) / 8 limits the block to b <= 9/7 a.
    """
    places = _project(words)
    squares = np.einsum("ij,ij->i", places, places) - (counts / 8).astype(np.float32)
    ones = np.ones_like(squares)
    left_side = np.column_stack([-2 * places, squares, ones])
    right_side = np.column_stack([places, ones, squares])
    ends = np.searchsorted(counts, np.minimum(counts + max_distance, counts * 9 // 7), side="right")
    # (a - b)^2 <= max_distance too, and |a| <= |b|; the last term is for float32's rounding
    limits = (np.minimum(0, max_distance - counts / 4) + 0.01).astype(np.float32)[:, None]
    begin = 0
    while begin < len(words):
        rows = np.arange(1, min(_ROWS, len(words) - begin) + 1)
        fits = np.flatnonzero(rows * (ends[begin : begin + len(rows)] - begin) <= _CELLS)
        stop = begin + (int(rows[fits[-1]]) if len(fits) else 1)
        end = int(ends[stop - 1])
        found = left_side[begin:stop] @ right_side[begin:end].T <= limits[begin:stop]
        left, right = np.divmod(np.flatnonzero(found), end - begin)  # 40 times faster than nonzero on two axes
        later = left < right
        yield left[later] + begin, right[later] + begin
        begin = stop


def _project(words: NDArray[np.uint64]) -> NDArray[np.float32]:
    """The bit vectors on their principal directions, float32 (N, 64)."""
    chunks = range(0, len(words), 8192)  # a bit as a float32 is 32 times larger
    mean = sum(_bits(words[at : at + 8192]).sum(axis=0, dtype=np.float64) for at in chunks) / len(words)
    centre = np.asarray(mean, np.float32)
    scatter = np.zeros((len(centre), len(centre)), np.float64)
    for at in chunks:
        centred = _bits(words[at : at + 8192]).astype(np.float32) - centre
        scatter += centred.T @ centred
    _, directions = np.linalg.eigh(scatter)
    main = directions[:, -_DIRECTIONS:].astype(np.float32)
    return np.concatenate([(_bits(words[at : at + 8192]).astype(np.float32) - centre) @ main for at in chunks])
