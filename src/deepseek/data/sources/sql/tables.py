"""What a database says of its tables: their names, and which columns tell their rows apart."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deepseek.data.sources.sql.failures import talking
from deepseek.data.sources.sql.statements import Relation
from deepseek.errors import DataError, UnknownNameError, closest

if TYPE_CHECKING:
    import sqlalchemy as sa

    from deepseek.data.sources.sql.engines import Engine

_SHOWN = 20


def find_table(engine: Engine, name: str | None) -> Relation:
    """Return the table or view of a name, which may begin with its schema's: `sales.customers`.

    Raises:
        DataError: No name is given; the message lists the tables.
        UnknownNameError: There is no such table.
    """
    with _inspector(engine, "the tables cannot be listed") as inspector:
        known = [*inspector.get_table_names(), *inspector.get_view_names()]
        if name is None:
            listed = ", ".join(known[:_SHOWN]) + (" …" if len(known) > _SHOWN else "")
            raise DataError(f"no table of {engine.address} is named", hint=f"say table or query; the tables: {listed or 'none'}")
        if name in known:
            return Relation(table=name)
        schema, dot, table = name.partition(".")
        if dot and schema in inspector.get_schema_names():
            inside = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
            if table in inside:
                return Relation(table=table, schema=schema)
            known = [f"{schema}.{one}" for one in inside]
        if inspector.has_table(name):  # a materialised or foreign table, or one that another schema on the search path has
            return Relation(table=name)
    if len(known) > _SHOWN:
        guess = closest(name, known)
        hint = f"did you mean {guess!r}?" if guess else f"it has {len(known)} others"
        raise DataError(f"{engine.address} has no table {name!r}", hint=hint)
    raise UnknownNameError(f"table of {engine.address}", name, known)


def primary_key(engine: Engine, relation: Relation) -> list[str]:
    """Return the columns of a table's primary key, in order; none where it has none."""
    with _inspector(engine, "the primary key cannot be found") as inspector:
        found = inspector.get_pk_constraint(str(relation.table), relation.schema)
        return [str(name) for name in found.get("constrained_columns") or ()]


def unique_keys(engine: Engine, relation: Relation) -> tuple[list[list[str]], set[str]]:
    """Return the sets of columns that no two rows of a table share, and the columns that have a value in every row."""
    if relation.table is None:
        return [], set()
    with _inspector(engine, "the table's keys cannot be found") as inspector:
        never_missing = {column["name"] for column in inspector.get_columns(relation.table, relation.schema) if not column["nullable"]}
        found = [one["column_names"] for one in inspector.get_unique_constraints(relation.table, relation.schema)]
    return [[str(name) for name in names] for names in found if names and set(names) <= never_missing], never_missing


@contextmanager
def _inspector(engine: Engine, doing: str) -> Iterator[sa.Inspector]:
    import sqlalchemy as sa

    with talking(engine.address, doing=doing), engine.alchemy.connect() as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)  # it knows not every type; the drivers do
        yield sa.inspect(connection)
