"""Which columns a cleaner treats."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from deepseek.data.columns import require_columns
from deepseek.errors import ColumnError, InputError
from deepseek.fields import Kind, Schema


def choose_columns(schema: Schema, named: Sequence[str] | None, kinds: Collection[Kind], *, what: str) -> tuple[str, ...]:
    """Return the columns that a cleaner treats: those named, or every input of some kinds.

    Args:
        schema: The columns there are.
        named: The names from the recipe, or nothing.
        kinds: The kinds that the cleaner can treat.
        what: The cleaner, for messages: `the cleaner missing`.

    Raises:
        ColumnError: A named column is missing or of another kind.
        InputError: A named column is a target: what is to be predicted is not there in production and must not be changed.
    """
    if named is None:
        return tuple(field.name for field in schema.inputs if field.kind in kinds)
    require_columns(named, schema.names, what=what)
    for name in named:
        if name in schema.target:
            raise InputError(f"{what} was given the target {name!r}", hint="a target is never cleaned; set bad ones aside with a check")
        if schema[name].kind not in kinds:
            allowed = ", ".join(sorted(kind.value for kind in kinds))
            raise ColumnError(f"{what} cannot treat the column {name!r} of kind {schema[name].kind.value}", hint=f"it treats: {allowed}")
    return tuple(dict.fromkeys(named))
