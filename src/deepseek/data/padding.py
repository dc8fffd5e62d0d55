"""Prepared rows as a network is given them, in NumPy: rows of unequal length are padded to the longest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from deepseek.data.transforms.base import Array, Ragged

MASK = "_mask"
"""What the name of a ragged input's mask ends with; `mask_name` makes it."""
PADDED_ELEMENTS = 1 << 17
"""What a batch that is only answered may hold of ragged inputs, padding included: 256 texts of 512 tokens."""
ANSWERED_BYTES = 1 << 23
"""What the rows of a batch that is only answered may take: photographs and volumes are many numbers, and their maps many times more."""
LEAST_ROWS = 4
"""So many rows are answered together however large they are."""


def mask_name(name: str) -> str:
    """Return the name of a ragged input's mask."""
    return name + MASK


def pad(column: Ragged, rows: np.ndarray, *, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of a ragged column `[b, l, …]`, zeros behind each row's end, and the mask `[b, l]` of what is real; `l` is at least 1.

    Args:
        column: The column.
        rows: Which rows, in any order, int64 `[b]`.
        out: Where the values are written; an array of its own where not given.
    """
    starts, mask = column.offsets[rows], mask_of(column, rows)
    shape = (*mask.shape, *column.values.shape[1:])
    if not len(column.values):
        out = np.zeros(shape, column.values.dtype) if out is None else out
        out[...] = 0
        return out, mask
    out = np.empty(shape, column.values.dtype) if out is None else out
    # one gather that runs into the rows that follow, and is blanked there: cheaper than to reckon where every element goes
    np.take(column.values, starts[:, None] + np.arange(mask.shape[1]), axis=0, out=out, mode="clip")
    out[~mask] = 0
    return out, mask


def mask_of(column: Ragged, rows: np.ndarray) -> np.ndarray:
    """Return bool `[b, l]`: where rows of a ragged column have an element, `l` being the longest of them, at least 1."""
    lengths = column.offsets[rows + 1] - column.offsets[rows]
    mask: np.ndarray = np.arange(max(1, int(lengths.max(initial=1)))) < lengths[:, None]
    return mask


def rows_of(arrays: Mapping[str, Array], rows: np.ndarray) -> dict[str, Array]:
    """Return some rows of prepared arrays, in the order that is asked for, int64 `[b]`."""
    return {name: array.take(rows) if isinstance(array, Ragged) else array[rows] for name, array in arrays.items()}


def as_arrays(arrays: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Return what `Preparation.apply` gave as a network is given it: rows of unequal length padded, with `NAME_mask` beside them.

    Args:
        arrays: By input name, with equally many rows. Memory is shared where it can be written to.
    """
    inputs = {}
    for name, array in arrays.items():
        if isinstance(array, Ragged):
            inputs[name], inputs[mask_name(name)] = pad(array, np.arange(len(array.offsets) - 1))
        else:
            inputs[name] = np.require(array, requirements=["C", "W"])
    return inputs


def in_array_pieces(
    arrays: Mapping[str, Array], *, most: int = PADDED_ELEMENTS
) -> Iterator[tuple[np.ndarray | None, dict[str, np.ndarray]]]:
    """Yield the rows of prepared arrays as inputs, in pieces that fit into memory: rows of like length together, each row once.

    One long text would otherwise pad a thousand short ones, and a thousand photographs make maps of gigabytes. Without ragged inputs the
    rows stay in order.

    Args:
        arrays: By input name, with equally many rows.
        most: The most elements of a piece's ragged inputs, padding included; a single row may have more. What the other inputs of a piece
            take is at most `ANSWERED_BYTES`; `LEAST_ROWS` rows may take more.

    Yields:
        Which rows they are, int64 `[b]`, or nothing for all of them in order; and the arrays by name.
    """
    ragged = [array for array in arrays.values() if isinstance(array, Ragged)]
    lengths = sum((np.diff(array.offsets) for array in ragged), start=np.zeros(0 if not ragged else len(ragged[0].offsets) - 1, np.int64))
    count, together = len(next(iter(arrays.values()))), _rows_together(arrays)
    if len(lengths) * int(lengths.max(initial=0)) <= most and count <= together:
        yield None, as_arrays(arrays)
        return
    order = np.argsort(-lengths, kind="stable") if ragged else np.arange(count)
    start = 0
    while start < count:
        longest = int(lengths[order[start]]) if ragged else 0
        rows = order[start : start + min(together, max(1, most // max(longest, 1)))]
        inputs = as_arrays({name: array[rows] for name, array in arrays.items() if isinstance(array, np.ndarray)})
        for name, array in arrays.items():
            if isinstance(array, Ragged):
                inputs[name], inputs[mask_name(name)] = pad(array, rows)
        yield rows, inputs
        start += len(rows)


def _rows_together(arrays: Mapping[str, Array]) -> int:
    """Return how many rows of the inputs that are not ragged may be answered at once."""
    row_bytes = sum(array[:1].nbytes for array in arrays.values() if isinstance(array, np.ndarray))
    return max(ANSWERED_BYTES // max(row_bytes, 1), LEAST_ROWS)


def rows_together(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the rows of several arrays `[b, …]` one after the other, those of fewer elements with zeros behind them.

    Args:
        parts: At least one, of as many dimensions.
    """
    shape = tuple(np.max([part.shape[1:] for part in parts], axis=0).astype(int)) if parts[0].ndim > 1 else ()
    if all(part.shape[1:] == shape for part in parts):
        return np.concatenate(parts)
    made = np.zeros((sum(map(len, parts)), *shape), dtype=parts[0].dtype)
    start = 0
    for part in parts:
        made[(slice(start, start + len(part)), *(slice(size) for size in part.shape[1:]))] = part
        start += len(part)
    return made
