"""Labelled rows of production, from the monitor's log, as a table that training takes."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.preparation import Preparation
from deepseek.errors import RunError
from deepseek.monitoring.store import LabelledRow
from deepseek.monitoring.watcher import BYTES


@dataclass(frozen=True)
class FreshRows:
    """Labelled rows of production, the oldest first.

    Attributes:
        table: The model's columns and the target's, with the types of training.
        ids: The rows' ids.
        at: When each was asked, in seconds, float64 `[rows]`.
        labelled_at: When its label came, in seconds, float64 `[rows]`.
        aside: How many rows cannot be used, by reason.
    """

    table: pa.Table
    ids: list[str]
    at: np.ndarray
    labelled_at: np.ndarray
    aside: dict[str, int]


def fresh_rows(rows: Sequence[LabelledRow], preparation: Preparation) -> FreshRows:
    """Turn rows of the log into a table; what cannot be used is left out and counted.

    Args:
        rows: What `Store.labelled_rows` returned.
        preparation: Of the model that answered them: it knows the columns and their types.

    Raises:
        RunError: The log keeps no values of inputs.
    """
    kept = [row for row in rows if isinstance(row.inputs, Mapping)]
    if rows and not kept:
        raise RunError("the monitor's log keeps no values of inputs", hint="say monitor.keep_inputs: values; rows count from then on")
    aside = {"inputs were not kept": len(rows) - len(kept)} if len(kept) < len(rows) else {}
    names = (*preparation.columns, *preparation.schema.target)
    values = {name: [_plain(row.inputs.get(name)) for row in kept] for name in preparation.columns}
    values |= _labels(kept, preparation)
    columns, good = {}, np.ones(len(kept), dtype=bool)
    for name in names:
        columns[name], bad = _column(values[name], preparation.types.get(name))
        if bad.any():
            aside[f"{name} cannot be read"] = int((bad & good).sum())
            good &= ~bad
    mask = pa.array(good)
    return FreshRows(
        pa.table({name: column.filter(mask) for name, column in columns.items()}),
        [row.id for row, fine in zip(kept, good, strict=True) if fine],
        np.array([row.at for row in kept], dtype=np.float64)[good],
        np.array([row.labelled_at for row in kept], dtype=np.float64)[good],
        {reason: count for reason, count in aside.items() if count},
    )


def _labels(rows: Sequence[LabelledRow], preparation: Preparation) -> dict[str, list[Any]]:
    names = preparation.schema.target
    if len(names) > 1:
        return {name: [row.label[place] for row in rows] for place, name in enumerate(names)}
    kind = preparation.types.get(names[0])
    listed = kind is not None and pa.types.is_nested(kind)
    separator = preparation.target.separator if preparation.target else ","
    return {names[0]: [separator.join(row.label) if isinstance(row.label, list) and not listed else row.label for row in rows]}


def _plain(value: Any) -> Any:
    return base64.b64decode(value[BYTES]) if isinstance(value, Mapping) and set(value) == {BYTES} else value


def _column(values: list[Any], kind: pa.DataType | None) -> tuple[pa.Array, np.ndarray]:
    """Return a column of a type, and which values are none of it: all at once where that goes, else each by itself."""
    for made in (pa.array, _from_text):
        try:
            return made(values, kind), np.zeros(len(values), dtype=bool)
        except (pa.ArrowException, TypeError, ValueError):
            continue
    found = [_one(value, kind) for value in values]
    bad = np.array([one is None and value is not None for one, value in zip(found, values, strict=True)], dtype=bool)
    return pa.array(found, kind or pa.string()), bad


def _from_text(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    """Read a column from text: points in time, decimals and class names were kept as such."""
    return pa.array([None if value is None else str(value) for value in values], pa.string()).cast(kind or pa.string())


def _one(value: Any, kind: pa.DataType | None) -> Any:
    try:
        return _from_text([value], kind)[0].as_py()
    except (pa.ArrowException, TypeError, ValueError):
        return None
