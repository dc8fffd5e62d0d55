"""Dealing rows into parts: in a random order, stratum by stratum, label by label, or group by group.

Every function here is pure: the order comes from `mix64` of the seed and the row's number, never from a generator's state, so that the same
table and seed give the same parts with any version of any library.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deepseek.statistics import mix64

_CHUNK = 1 << 20


def deal(strata: np.ndarray, shares: Sequence[float], seed: int, *, cover: bool = True) -> np.ndarray:
    """Deal rows into parts so that each stratum has its share of each part, to within one row.

    The rows of a stratum that cannot be divided go where the parts so far are furthest behind, so that many small strata do not all give
    their odd row to the same part: the parts as a whole are exact to within a row or two as well.

    Args:
        strata: Integers from 0, `[rows]`: each row's class, bin or whatever is to be equally represented; 0 everywhere for a plain split.
        shares: Each part's share, adding up to 1.
        seed: Changes which rows go where, not how many.
        cover: Whether the first part (`train`) gets at least one row of every stratum, where its share is not zero.

    Returns:
        int8 `[rows]` (wider for more than 128 parts): each row's part. Memory: about 10 bytes a row while it runs, the strata not counted.
    """
    counts = np.bincount(strata, minlength=1)
    sizes = _sizes(counts, np.asarray(shares, dtype=np.float64), cover=cover)
    order = shuffled(len(strata), seed, strata)
    kind = _part_type(len(shares))
    parts = np.empty(len(strata), dtype=kind)
    parts[order] = np.repeat(np.tile(np.arange(len(shares), dtype=kind), len(counts)), sizes.ravel())
    return parts


def shuffled(rows: int, seed: int, strata: np.ndarray | None = None) -> np.ndarray:
    """Return the row numbers in random order; where strata are given, stratum after stratum: int64 `[rows]`.

    Each row is one 64-bit number: its stratum in the highest bits, then as much of its random key as there is room for, its own number in
    the lowest. Sorting those in place takes 8 bytes a row, where an `argsort` takes 20.
    """
    row_bits = max(rows - 1, 1).bit_length()
    stratum_bits = 0 if strata is None or not rows else int(strata.max()).bit_length()
    keys = np.empty(rows, dtype=np.uint64)
    for start in range(0, rows, _CHUNK):
        numbers = np.arange(start, min(start + _CHUNK, rows), dtype=np.uint64)
        key = mix64(numbers, seed) >> np.uint64(stratum_bits)
        key = (key >> np.uint64(row_bits) << np.uint64(row_bits)) | numbers
        if strata is not None and stratum_bits:
            key |= strata[start : start + len(numbers)].astype(np.uint64) << np.uint64(64 - stratum_bits)
        keys[start : start + len(numbers)] = key
    keys.sort()
    keys &= np.uint64((1 << row_bits) - 1)
    return keys.view(np.int64)


def deal_labels(labels: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Deal rows with any number of labels each into parts so that each label has its share of each part.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011): the label with
    the fewest rows left is dealt first, each row to the part that lacks this label most. Rows with the same labels are the same to the
    method, so that each combination is first dealt in bulk; only what is left over (fewer rows than parts for each combination) goes
    through the loop.

    Args:
        labels: Boolean `[rows, labels]`.
        shares: Each part's share, adding up to 1.
        seed: Changes which rows go where.

    Returns:
        int8 `[rows]` (wider for more than 128 parts): each row's part.
    """
    wanted = np.asarray(shares, dtype=np.float64)
    sets, codes = np.unique(np.packbits(labels, axis=1), axis=0, return_inverse=True)
    codes = codes.reshape(-1)
    bulk = np.floor(np.bincount(codes, minlength=len(sets))[:, None] * wanted + 1e-9).astype(np.int64)
    order = shuffled(len(codes), seed, codes)
    left = np.bincount(codes, minlength=len(sets)) - bulk.sum(axis=1)
    kind = _part_type(len(wanted))
    pattern = np.tile(np.append(np.arange(len(wanted), dtype=kind), kind.type(-1)), len(sets))
    parts = np.empty(len(codes), dtype=kind)
    parts[order] = np.repeat(pattern, np.column_stack((bulk, left)).ravel())
    rest = np.flatnonzero(parts < 0)
    rest = rest[np.argsort(mix64(rest.astype(np.uint64), seed), kind="stable")]
    given = np.array([labels[parts == part].sum(axis=0) for part in range(len(wanted))])
    rows_given = np.array([(parts == part).sum() for part in range(len(wanted))])
    lack = wanted[:, None] * labels.sum(axis=0) - given
    parts[rest] = _iterate(labels[rest], lack, wanted * len(parts) - rows_given)
    return parts


def deal_groups(groups: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Deal whole groups into parts: the largest group first, each to the part that lacks the most rows.

    Greedy placement in falling order of size (Graham, "Bounds on multiprocessing timing anomalies", 1969) keeps the parts as near to their
    shares as the groups' sizes allow, almost always; groups of one size come in a random order.

    Args:
        groups: Integers from 0, `[rows]`: each row's group.
        shares: Each part's share, adding up to 1.
        seed: Changes the order of equally large groups.

    Returns:
        int8 `[rows]` (wider for more than 128 parts): each row's part, the same for all rows of a group.
    """
    sizes = np.bincount(groups)
    order = np.lexsort((mix64(np.arange(len(sizes), dtype=np.uint64), seed), -sizes))
    lack = [share * len(groups) for share in shares]
    places = range(len(lack))
    part_of = np.zeros(len(sizes), dtype=_part_type(len(lack)))
    for group, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        part = max(places, key=lack.__getitem__)
        part_of[group] = part
        lack[part] -= size
    return np.asarray(part_of[groups])


def quantile_bins(values: np.ndarray, bins: int) -> np.ndarray:
    """Return each number's bin, 0 to `bins`, bins holding about equally many rows; missing numbers (NaN) have bin 0 to themselves."""
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(len(values), dtype=np.int32)
    edges = np.unique(np.quantile(values[known], np.linspace(0, 1, bins + 1)[1:-1]))
    return np.asarray(np.where(known, np.searchsorted(edges, values, side="right") + 1, 0), dtype=np.int32)


def _part_type(parts: int) -> np.dtype[np.signedinteger]:
    return np.dtype(np.int8 if parts <= 128 else np.int16 if parts <= 1 << 15 else np.int32)


def _sizes(counts: np.ndarray, shares: np.ndarray, *, cover: bool) -> np.ndarray:
    """Return how many rows of each stratum each part gets: int64 `[strata, parts]`."""
    exact = counts[:, None] * shares
    sizes = np.floor(exact + 1e-9).astype(np.int64)
    behind = np.zeros(len(shares))
    for stratum in np.flatnonzero(counts):
        owed = behind + exact[stratum] - sizes[stratum]
        for _ in range(int(counts[stratum] - sizes[stratum].sum())):
            starved = cover and shares[0] > 0 and sizes[stratum, 0] == 0
            part = 0 if starved else int(np.argmax(np.where(exact[stratum] > sizes[stratum] + 1e-9, owed, -np.inf)))
            sizes[stratum, part] += 1
            owed[part] -= 1
        behind = owed
    return np.asarray(sizes)


def _iterate(labels: np.ndarray, lack: np.ndarray, rows_lack: np.ndarray) -> np.ndarray:
    parts = np.full(len(labels), -1, dtype=_part_type(len(rows_lack)))
    remaining = labels.sum(axis=0)
    while remaining.any():
        label = int(np.argmin(np.where(remaining > 0, remaining, np.iinfo(remaining.dtype).max)))
        for row in np.flatnonzero(labels[:, label] & (parts < 0)):
            most = np.flatnonzero(lack[:, label] >= lack[:, label].max() - 1e-9)
            part = int(most[np.argmax(rows_lack[most])])
            parts[row] = part
            lack[part] -= labels[row]
            rows_lack[part] -= 1
            remaining = remaining - labels[row]
    for row in np.flatnonzero(parts < 0):
        part = int(np.argmax(rows_lack))
        parts[row] = part
        rows_lack[part] -= 1
    return parts
