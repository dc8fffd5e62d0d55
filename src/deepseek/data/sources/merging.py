"""Tables whose columns and types differ, as one: what came in parts, each with the types that its own rows had."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import EXACT

MICROSECONDS = pa.timestamp("us")
_TOLD_BY_FLOATS = 15
"""The digits up to which floats tell decimals apart."""

Look = Callable[[int, int], Iterable[pa.ChunkedArray]]
"""Gives the values of a column: the number of its schema, and its place in that."""


def merged(schemas: Sequence[pa.Schema], look: Look | None = None) -> pa.Schema:
    """Return the columns of all schemas in the order of their first coming; types that do not go together become text.

    Args:
        schemas: The schemas.
        look: Gives the values of a column by the places of its schema and in that: whole numbers that no float holds are looked for where
            others in the column are floats, and the column is text then. What is not looked at is taken for such as floats hold.
    """
    fields: dict[str, pa.Field] = {}
    for schema in schemas:
        for one in schema:
            known = fields.get(one.name)
            fields[one.name] = one.with_nullable(True) if known is None else known.with_type(_wider(known.type, one.type))
    if look is not None:
        for number, schema in enumerate(schemas):
            for place, one in enumerate(schema):
                meets_floats = pa.types.is_floating(_inner(fields[one.name].type)) and _inner(one.type) in (pa.int64(), pa.uint64())
                if meets_floats and any(no_float_holds(column) for column in look(number, place)):
                    fields[one.name] = fields[one.name].with_type(pa.string())
    return pa.schema(list(fields.values()))


def as_shown(fields: Iterable[pa.Field], texts: Collection[str]) -> pa.Schema:
    """Return columns as a reader is shown them: some as text, lists apart, and those that were added to what came, `_NAME`, last."""
    typed = [field.with_type(pa.string()) if field.name in texts and not pa.types.is_nested(field.type) else field for field in fields]
    return pa.schema(sorted(typed, key=lambda field: field.name.startswith("_")))


def _wider(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if first == second:
        return first
    if all(pa.types.is_timestamp(kind) or pa.types.is_date(kind) for kind in (first, second)):
        return MICROSECONDS
    if pa.uint64() in (first, second) and all(pa.types.is_integer(kind) for kind in (first, second)):
        # Arrow would take numbers with a sign, and the greatest one without for -1
        return pa.uint64() if all(pa.types.is_unsigned_integer(kind) for kind in (first, second)) else pa.decimal128(20, 0)
    if any(pa.types.is_decimal(kind) for kind in (first, second)):
        return _wider_decimal(first, second)
    try:
        schemas = [pa.schema([pa.field("", kind)]) for kind in (first, second)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return pa.string()


def _wider_decimal(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Return the number that holds what two types do, one of which is a decimal; text where there is none."""
    decimals = [kind for kind in (first, second) if pa.types.is_decimal(kind)]
    if any(pa.types.is_null(kind) for kind in (first, second)):
        return decimals[0]
    if any(pa.types.is_floating(kind) for kind in (first, second)):
        return pa.float64() if decimals[0].precision <= _TOLD_BY_FLOATS else pa.string()
    sizes = [size for size in map(_digits, (first, second)) if size is not None]
    whole, scale = (max(size[part] for size in sizes) for part in (0, 1))
    return pa.decimal128(whole + scale, scale) if len(sizes) == 2 and whole + scale <= 38 else pa.string()


def _digits(kind: pa.DataType) -> tuple[int, int] | None:
    """Return how many digits a number has before its point and behind it at most; nothing for other types."""
    if pa.types.is_decimal(kind):
        return kind.precision - kind.scale, kind.scale
    if not pa.types.is_integer(kind):
        return None
    return len(str(2 ** (kind.bit_width - pa.types.is_signed_integer(kind)))), 0


def _inner(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_list(kind) else kind


def no_float_holds(column: pa.ChunkedArray) -> bool:
    """Whether a column of whole numbers, or of lists of them, has any that no float holds for certain."""
    values = pc.list_flatten(column, recursive=True) if pa.types.is_list(column.type) else column
    ends = pc.min_max(values).as_py()
    return ends["min"] is not None and bool(max(-ends["min"], ends["max"]) > EXACT)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns and types of a schema that was merged from its own and others.

    Missing columns are null; of columns with the same name a row has a value in one at most.
    """
    columns = []
    for target in schema:
        found = [_as_type(table.column(place), target.type) for place in table.schema.get_all_field_indices(target.name)]
        columns.append(one_column(found, target.type, table.num_rows))
    return pa.table(columns, schema=schema)


def one_column(columns: Sequence[pa.ChunkedArray], kind: pa.DataType, rows: int) -> pa.ChunkedArray:
    """Return columns of one type, of which a row has a value in one at most, as one; nulls where there is none."""
    if not columns:
        return pa.chunked_array([pa.nulls(rows, kind)])
    return columns[0] if len(columns) == 1 else pc.coalesce(*columns)


def _as_type(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    bytes_or_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or _is_bytes(column.type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or (_is_bytes(kind) and not bytes_or_text):
        return as_text(column).cast(kind)
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False).cast(kind)
    return column.cast(kind, safe=False)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return values as text, spelled the same whether they become text at once or were widened before: 1 and 1.0 are both `1`."""
    kind = column.type
    if pa.types.is_floating(kind):
        whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), float(EXACT)))
        as_whole = pc.if_else(whole, column, 0.0).cast(pa.int64()).cast(pa.string())
        return pc.if_else(whole, as_whole, column.cast(pa.string()))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _as_type(column, MICROSECONDS).cast(pa.string())
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        return pa.chunked_array([[None if value is None else _text(value) for value in column.to_pylist()]], pa.string())
    return column.cast(pa.string())


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
