"""Rows that production brings and validation may not hold, made of real ones: missing and unseen values, longest and empty texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.columns import is_text
from deepseek.fields import Kind, Schema

UNSEEN = "never seen \N{SNOWMAN}"
LONGEST_CHARACTERS = 1 << 14
"""At least so many: enough to fill the 1,024 tokens that a tokenizer keeps unless a recipe says otherwise."""
LONGEST_ROWS = 2
"""So few bear it: a long text costs a network as much as hundreds of short ones."""
_BY_FILE = {Kind.IMAGE, Kind.AUDIO, Kind.VOLUME}


def hard_rows(batch: pa.RecordBatch, schema: Schema, columns: Sequence[str]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Yield rows by what is hard about them.

    Args:
        batch: Some real rows, at least one.
        schema: What the columns are.
        columns: Those that the model needs.
    """
    names = [name for name in columns if schema[name].kind not in _BY_FILE]
    if len(names) < len(columns):
        yield "no files", _changed(batch, [name for name in columns if name not in names], lambda values, _: [None] * len(values))
    if names:
        yield "missing values", _changed(batch, names, lambda values, _: [None] * len(values))
        if len(names) > 1:
            each = pa.Table.from_batches([batch.slice(0, 1)] * len(names)).combine_chunks().to_batches()[0]
            for place, name in enumerate(names):
                each = _changed(each, [name], lambda values, _, place=place: [*values[:place], None, *values[place + 1 :]])  # type: ignore[misc]
            yield "one value missing", each
        yield "values never seen", _changed(batch, names, _unseen)
    texts = [name for name in names if schema[name].kind is Kind.TEXT]
    if texts:
        yield "the longest text", _changed(batch.slice(0, LONGEST_ROWS), texts, lambda values, _: [_longest(values)] * len(values))
        yield "empty texts", _changed(batch, texts, lambda values, _: [""] * len(values))


def _changed(batch: pa.RecordBatch, names: Sequence[str], change: Callable[[list[Any], pa.DataType], list[Any]]) -> pa.RecordBatch:
    for name in names:
        place = batch.schema.get_field_index(name)
        field = batch.schema.field(place)
        values = change(_values(batch.column(place)), field.type)
        batch = batch.set_column(place, field.with_nullable(True), _column(values, field.type))
    return batch


def _values(column: pa.Array) -> list[Any]:
    """Return a column as Python's values; of arrays of numbers, such as the images of an npz file, the numbers as they lie in memory."""
    values: list[Any] = (column.storage if isinstance(column, pa.ExtensionArray) else column).to_pylist()
    return values


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    return pa.array(values, kind)


def _unseen(values: list[Any], kind: pa.DataType) -> list[Any]:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if is_text(kind):
        return [UNSEEN] * len(values)
    if pa.types.is_floating(kind):
        return [None if value is None else value * 1000 + 1 for value in values]
    if pa.types.is_integer(kind):
        whole = np.iinfo(kind.to_pandas_dtype())
        return [None if value is None else min(max(value * 1000 + 1, int(whole.min)), int(whole.max)) for value in values]
    return values


def _longest(values: list[Any]) -> str:
    text = max(("" if value is None else str(value) for value in values), key=len) or UNSEEN
    return " ".join([text] * -(-LONGEST_CHARACTERS // (len(text) + 1)))
