"""How the parts of a topic keep columns whose type differs from content to content: once for each type, so that no value is ever changed.

Beside each stored column stands the number of the first content that brought it. So a reader up to some content sees the columns, the
types and the values of then, whatever came later and however parts were joined: what is 1 stays 1 where a later content says "x".
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from deepseek.data.sources.merging import one_column

_NAME, _FIRST = b"deepseek.column", b"deepseek.first"


def came_with(table: pa.Table, number: int) -> pa.Table:
    """Return a content's rows with its number beside each column."""
    return table.cast(pa.schema([field.with_metadata(_about(field.name, number)) for field in table.schema]))


def stored_schema(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """Return the columns of a part: one for each name and type, in the order of their first coming.

    Args:
        schemas: The schemas of parts and of what `came_with` returned, in the order of the contents.
    """
    found: dict[str, list[pa.Field]] = {}
    fields: list[pa.Field] = []
    for schema in schemas:
        for field in schema:
            kinds = found.setdefault(_name(field), [])
            if all(one.type != field.type for one in kinds):
                kinds.append(field)
                fields.append(field)
    taken = set(found)
    return pa.schema([field.with_name(_free(field, found[_name(field)][0], taken)) for field in fields])


def to_stored(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows, of a part or of what `came_with` returned, with the columns of a `stored_schema` that was made of theirs and others."""
    places: dict[str, list[int]] = {}
    for place, field in enumerate(table.schema):
        places.setdefault(_name(field), []).append(place)
    columns = []
    for target in schema:
        found = [table.column(place) for place in places.get(_name(target), ()) if table.schema.field(place).type == target.type]
        columns.append(one_column(found, target.type, table.num_rows))
    return pa.table(columns, schema=schema)


def columns_up_to(schema: pa.Schema, number: int | None) -> dict[str, pa.Field]:
    """Return by its stored name each column of a part that had come with some content, under its own name.

    Args:
        schema: The schema of a part.
        number: The number of the last content that counts; all where not given.
    """
    return {
        field.name: pa.field(_name(field), field.type)
        for field in schema
        if number is None or int((field.metadata or {}).get(_FIRST, 0)) <= number
    }


def _name(field: pa.Field) -> str:
    return bytes((field.metadata or {}).get(_NAME, field.name.encode())).decode()


def _about(name: str, number: int) -> dict[bytes, bytes]:
    return {_NAME: name.encode(), _FIRST: str(number).encode()}


def _free(field: pa.Field, first: pa.Field, taken: set[str]) -> str:
    """Return what a column is stored as: its name where it is the first of that, else that with a number."""
    name = _name(field)
    if field is first:
        return name
    number = 2
    while f"{name} ({number})" in taken:
        number += 1
    taken.add(f"{name} ({number})")
    return f"{name} ({number})"
