"""All near pairs among 100,000 hashes in seconds: discard most pairs by a bound that costs little, then count bits.

Two bounds, both exact. Hashes that fill their space (random ones) are found by bands: hashes that differ in d bits
agree in one of d + 1 bands. Hashes of photos on white do not fill it: they crowd, and every band has huge buckets. But
they lie near a space of few dimensions. The squared distance of two bit vectors is the number of differing bits, and a
projection onto orthogonal directions can only make it smaller: 32 principal directions leave few pairs to look at.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["near_pairs"]

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]

_DIRECTIONS = 32
_CELLS = 1 << 22  # pairs looked at in one go: 16 MB of float32
_BAND_PAIRS = 40_000_000  # about 4 s; above it the projection is faster


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
    candidates = _by_bands(bands) if sizes <= _BAND_PAIRS else _by_projection(words, counts, max_distance)
    for left, right in candidates:
        differing = np.zeros(len(left), np.int64)
        for column in words.T:
            differing += np.bitwise_count(column[left] ^ column[right])
        near = (differing <= max_distance) & (8 * differing <= counts[left] + counts[right])
        yield order[left[near]], order[right[near]]


def _bits(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.unpackbits(words.view(np.uint8), axis=1)


def _bands(words: NDArray[np.uint64], max_distance: int) -> list[NDArray[np.void]]:
    """The values of max_distance + 1 bands of bits, the bits dealt so that every band gets its share of lively ones."""
    bits = _bits(words)
    lively = np.argsort(-np.minimum(rate := bits.mean(axis=0), 1 - rate), kind="stable")
    bands = []
    for band in range(min(max_distance + 1, bits.shape[1])):
        packed = np.packbits(bits[:, lively[band :: max_distance + 1]], axis=1)
        bands.append(np.ascontiguousarray(packed).view(f"V{packed.shape[1]}").ravel())
    return bands


def _bucket_pairs(band: NDArray[np.void]) -> int:
    _, sizes = np.unique(band, return_counts=True)
    return int((sizes * (sizes - 1) // 2).sum())


def _by_bands(bands: list[NDArray[np.void]]) -> Iterator[Pairs]:
    """Pairs that agree in a band; those that agree in several come several times."""
    for band in bands:
        order = np.argsort(band, kind="stable")
        ordered = band[order]
        begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        ends = np.repeat(np.r_[begins[1:], len(order)], np.diff(np.r_[begins, len(order)]))
        step = 1
        places = np.arange(len(order))
        while len(places := places[places + step < ends[places]]):
            yield order[places], order[places + step]
            step += 1


def _by_projection(words: NDArray[np.uint64], counts: NDArray[np.int64], max_distance: int) -> Iterator[Pairs]:
    """Pairs whose projections are near enough; `words` sorted by `counts`."""
    places = _project(words)
    norms = np.einsum("ij,ij->i", places, places)
    # near: differing <= (a + b) / 8 and b - a <= differing, so b <= a * 9 / 7
    reach = np.minimum(counts + max_distance, counts * 9 // 7)
    ends = np.searchsorted(counts, reach, side="right")
    begin = 0
    while begin < len(words):
        rows = max(1, _CELLS // max(1, int(ends[begin]) - begin))
        stop = min(begin + rows, len(words))
        end = int(ends[stop - 1])
        # |a - b|^2 = |a|^2 + |b|^2 - 2ab; the slack is for float32
        squared = places[begin:stop] @ places[begin:end].T
        squared *= -2
        squared += norms[begin:stop, None]
        squared += norms[begin:end]
        limit = np.minimum(max_distance, (counts[begin:stop] * 2 + np.minimum(max_distance, counts[begin:stop])) / 8)
        left, right = np.nonzero(squared <= (limit + 0.05).astype(np.float32)[:, None])
        later = left < right
        yield left[later] + begin, right[later] + begin
        begin = stop


def _project(words: NDArray[np.uint64]) -> NDArray[np.float32]:
    """The bit vectors on their principal directions, float32 (N, 32)."""
    chunks = range(0, len(words), 8192)  # a bit as a float32 is 32 times larger
    mean = np.mean([_bits(words[at : at + 8192]).mean(axis=0) for at in chunks], axis=0).astype(np.float32)
    size = words.shape[1] * 64
    scatter = np.zeros((size, size), np.float64)
    for at in chunks:
        centred = _bits(words[at : at + 8192]).astype(np.float32) - mean
        scatter += centred.T @ centred
    _, directions = np.linalg.eigh(scatter)
    main = directions[:, -_DIRECTIONS:].astype(np.float32)
    return np.concatenate([(_bits(words[at : at + 8192]).astype(np.float32) - mean) @ main for at in chunks])
