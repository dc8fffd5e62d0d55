"""Transforms: columns of one kind become arrays, the same way in training, evaluation and production."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepseek.data.transforms.base import Array, InputSpec, Ragged, Transform
from deepseek.errors import InputError, UnknownNameError
from deepseek.fields import Field, Kind, Schema
from deepseek.registry import Spec, family

__all__ = ["Array", "Grouped", "InputSpec", "Ragged", "Transform", "group_fields"]

TRANSFORM_OF = {
    Kind.NUMBER: "number",
    Kind.CATEGORY: "category",
    Kind.BINARY: "category",
    Kind.TIMESTAMP: "timestamp",
    Kind.IMAGE: "image",
    Kind.VOLUME: "volume",
    Kind.TEXT: "text",
    Kind.AUDIO: "audio",
    Kind.SERIES: "series",
}
"""Which transform treats a kind unless the recipe says otherwise; kinds that are not here are left out, and named."""

_MAY_LACK = {TRANSFORM_OF[kind] for kind in (Kind.IMAGE, Kind.AUDIO, Kind.SERIES)}
"""Transforms of what a row may lack, and says nothing without where it is the only input."""


class Grouped:
    """Columns sorted by the transform that treats them.

    Attributes:
        parts: For each transform its validated spec, its columns and the name of its input (nothing for its class's own).
        left_out: The columns that no transform treats, and why.
    """

    def __init__(self) -> None:
        self.parts: list[tuple[dict[str, Any], tuple[Field, ...], str | None]] = []
        self.left_out: dict[str, str] = {}

    def build(self) -> list[Transform]:
        """Return the transforms, not fitted."""
        return [family("transform").build(spec, fields, name) for spec, fields, name in self.parts]


def group_fields(schema: Schema, specs: Mapping[str, Spec] | None = None, *, weighted: bool = False) -> Grouped:
    """Sort a schema's input columns by transform: one for a kind's columns, one for each image, text, sound, series and column in `specs`.

    Args:
        schema: The columns after cleaning.
        specs: By column, the transform that treats this column alone; by kind (`number`, `category` …), the one for all other columns of
            that kind.
        weighted: Whether rows have weights, whose name in a batch no input can have then.

    Raises:
        UnknownNameError: A key of `specs` is neither an input column nor a kind.
        InputError: There is no input, two have the same name, or one has a name that a batch needs itself.
    """
    given = dict(specs or {})
    names = {field.name for field in schema.inputs}
    for key in given:
        if key not in names and key not in set(Kind):
            raise UnknownNameError("column or kind under transforms", key, names | {kind.value for kind in TRANSFORM_OF})
    grouped = Grouped()
    shared: dict[str, list[Field]] = {}
    for field in schema.inputs:
        if field.name in given:
            grouped.parts.append((family("transform").validate(given[field.name]), (field,), field.name))
        elif field.kind.value in given or field.kind in TRANSFORM_OF:
            shared.setdefault(_key(field, given), []).append(field)
        else:
            grouped.left_out[field.name] = f"no transform turns {field.kind.value} columns into arrays"
    for key, fields in shared.items():
        _add_shared(
            grouped, given.get(key, TRANSFORM_OF.get(fields[0].kind, key)), fields, name=None if key in set(TRANSFORM_OF.values()) else key
        )
    if len(grouped.parts) == 1 and grouped.parts[0][0]["type"] in _MAY_LACK and not given:
        spec, alone, name = grouped.parts[0]
        grouped.parts = [({**spec, "missing": "fail"}, alone, name)]  # without its only input a row says nothing
    if not grouped.parts:
        raise InputError(
            "no column can be used as an input; "
            + ("; ".join(f"{name!r} is left out: {reason}" for name, reason in grouped.left_out.items()) or "there is none but the target"),
            hint="say what columns are under data.fields, or add columns to learn from",
        )
    _require_distinct(grouped.build(), taken={*(["target"] if schema.target else []), *(["weight"] if weighted else [])})
    return grouped


def _key(field: Field, given: Mapping[str, Spec]) -> str:
    return field.kind.value if field.kind.value in given else TRANSFORM_OF[field.kind]


def _add_shared(grouped: Grouped, spec: Spec, fields: Sequence[Field], *, name: str | None) -> None:
    validated = family("transform").validate(spec)
    if fields[0].kind in {Kind.IMAGE, Kind.VOLUME, Kind.TEXT, Kind.AUDIO, Kind.SERIES, Kind.TAGS}:
        grouped.parts += [(validated, (field,), None) for field in fields]
    else:
        grouped.parts.append((validated, tuple(fields), name))


def _require_distinct(transforms: Sequence[Transform], *, taken: set[str]) -> None:
    for name in (str(transform.name) for transform in transforms):
        if name in taken:
            raise InputError(
                f"the input {name!r} has the name under which a batch holds each row's {name}",
                hint=f"rename the column {name!r} in the table, or leave it out: data.fields={{{name}: id}}",
            )
    names = [str(transform.name) for transform in transforms]
    names += [f"{transform.name}_mask" for transform in transforms if transform.ragged]  # what a batch also has of it
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(f"two inputs of the model would be named {', '.join(doubled)}", hint="rename the columns of these names")
