"""Series of numbers as arrays of steps: from lists, lists of lists, arrays, and from files of NumPy or of comma-separated values."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import as_float64, is_number, is_text, plain
from deepseek.errors import ColumnError

Series = np.ndarray
"""float64 `[steps, values a step]`, NaN where a value is missing."""


class SeriesError(ValueError):
    """What is no series; the message says why."""


def read_rows(column: pa.Array, name: str, root: Path) -> Iterator[Series | str | None]:
    """Yield each row's series, why it cannot be read, or nothing where there is none.

    A row without steps counts as missing. Of the values that a step has in an array of more than two dimensions one line is made.

    Args:
        column: Lists of numbers, lists of equally long lists, arrays of one shape, or paths of `.npy` and `.csv` files.
        name: The column's name.
        root: The folder that relative paths start in.

    Raises:
        ColumnError: The column holds something else.
    """
    shape = tuple(column.type.shape) if isinstance(column.type, pa.FixedShapeTensorType) else None
    values = plain(column)
    if not (pa.types.is_null(values.type) or is_text(values.type) or holds_series(values.type)):
        raise ColumnError(
            f"the column {name!r} of type {values.type} holds no series",
            hint="a series is a list of numbers, a list of lists, an array, or the path of a .npy or .csv file",
        )
    for value in values:
        if not value.is_valid:
            yield None
            continue
        try:
            steps = _read_file(root / value.as_py()) if is_text(values.type) else _listed(value.values, shape)
        except SeriesError as error:
            yield f"the series in column {name!r} cannot be read: {error}"
            continue
        yield steps if len(steps) else None


def holds_series(kind: pa.DataType) -> bool:
    """Whether each value of an Arrow type is a list of numbers, or a list of such lists."""
    inner = _inner(kind)
    return inner is not None and (is_number(inner) or (_inner(inner) is not None and is_number(_inner(inner))))


def _inner(kind: pa.DataType) -> pa.DataType | None:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return kind.value_type if is_list else None


def _listed(values: pa.Array, shape: tuple[int, ...] | None) -> Series:
    if is_number(values.type):
        numbers = as_float64(values)
        return numbers.reshape(shape[0], -1) if shape is not None and shape[0] else numbers.reshape(-1, 1)
    if values.null_count:
        raise SeriesError(
            "a step is null",
        )
    sizes = pc.unique(pc.list_value_length(values)).to_pylist()
    if len(sizes) > 1:
        raise SeriesError(f"its steps have {min(sizes)} to {max(sizes)} values, and all must have equally many")
    width = sizes[0] if sizes else 0
    return as_float64(values.flatten()).reshape(len(values) if width else 0, width)


def _read_file(path: Path) -> Series:
    try:
        steps = _numbers(path) if path.suffix.lower() == ".npy" else _table(path)
    except (OSError, ValueError, EOFError, csv.Error) as error:
        raise SeriesError(f"{path}: {error}") from error
    return steps.reshape(len(steps), -1) if steps.ndim != 1 else steps[:, None]


def _numbers(path: Path) -> np.ndarray:
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf" or not array.ndim:
        raise SeriesError(f"{path}: an array of numbers was expected, one row a step")
    return array.astype(np.float64)


def _table(path: Path) -> np.ndarray:
    """Return the numbers of a file of comma-, semicolon- or tab-separated values; a first line that is no numbers is a head."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        file.seek(0)
        separator = max(",;\t", key=first.count)
        lines = [line for line in csv.reader(file, delimiter=separator) if any(cell.strip() for cell in line)]
    if lines and not any(_is_number(cell) for cell in lines[0]):
        lines = lines[1:]
    sizes = {len(line) for line in lines}
    if len(sizes) > 1:
        raise SeriesError(f"{path}: its lines have {min(sizes)} to {max(sizes)} values, and all must have equally many")
    return np.array([[float(cell) if cell.strip() else np.nan for cell in line] for line in lines], np.float64).reshape(len(lines), -1)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
