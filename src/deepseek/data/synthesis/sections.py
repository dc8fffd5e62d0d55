"""The recipe's words for related tables: what each table is, and when each row is asked about."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from deepseek.data.sources import open_source
from deepseek.data.sources.base import Source
from deepseek.errors import InputError
from deepseek.recipe.quantities import Flag
from deepseek.recipe.sections import Section
from deepseek.recipe.values import KindName, Text
from deepseek.registry import component, family
from deepseek.validation import checked


def _check_table(value: object) -> object:
    if isinstance(value, Mapping) and isinstance(value.get("type"), str):
        return family("source").validate(value)
    if isinstance(value, str | PathLike) and fspath(value):
        return fspath(value)
    if isinstance(value, list | tuple) and value and all(isinstance(path, str | PathLike) for path in value):
        return [fspath(path) for path in value]
    if isinstance(value, Source):
        return value
    if value is None or isinstance(value, str):
        raise InputError("names no table", hint="give a path, a mapping with a source's name under 'type', or from Python a table")
    open_source(value)  # a table in memory, or an error that says what may be given
    return value


def _check_optional(value: object) -> object:
    return None if value is None else _check_table(value)


_SHAPE: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"x-family": "source"}]}
if TYPE_CHECKING:
    TableSource = Any
    OptionalSource = Any
    AggregationSpec = dict[str, Any]
    DerivationSpec = dict[str, Any]
else:
    TableSource = Annotated[Any, BeforeValidator(checked(_check_table)), WithJsonSchema(_SHAPE)]
    """Where a table comes from: a path, several, a source by name, or from Python a table in memory."""
    OptionalSource = Annotated[Any, BeforeValidator(checked(_check_optional)), WithJsonSchema(_SHAPE)]
    AggregationSpec = component("aggregation")
    DerivationSpec = component("derivation")


class TableSection(Section):
    """One of the tables."""

    source: TableSource
    """Where its rows come from."""
    index: Text | None = None
    """The column whose values name its rows; where relationships lead to it, they say it already."""
    time: Text | None = None
    """The column that says when a row became known: of this table, or of one that it refers to, as `races.date`."""
    static: Flag = False
    """In the place of `time`: every row has always been known as it is."""
    later: dict[Text, Text] = Field(default_factory=dict)
    """Columns that were filled in after the row was made, and for each the column that says when."""
    fields: dict[Text, KindName] = Field(default_factory=dict)
    """The kinds of columns, where the inferred ones are wrong: number, category, binary, timestamp; any other leaves the column out."""
    drop: tuple[Text, ...] = ()
    """Columns that nothing is made of."""
    where: dict[Text, tuple[bool | int | float | str, ...]] = Field(default_factory=dict)
    """Columns and values of them by which rows are also aggregated alone: `{device: [tablet, phone]}`."""


class CutoffsSection(Section):
    """Which rows are asked about, and as of when."""

    source: OptionalSource = None
    """A table with one row for each question; where not given, each row of the target table is asked about once."""
    id: Text | None = None
    """Its column with the index of a row of the target table; by default it is called as that index is."""
    time: Text | None = None
    """Its column with the cut-off times."""
    at: Text | None = None
    """One moment for all rows of the target table that are known by then: `2024-06-01`, or `now`."""
    labels: tuple[Text, ...] = ()
    """Its columns that go into the feature table as they stand; all others where not given. Without a table of its own: columns of the
    target table that are to be predicted, which at a row's own time are not known yet."""
    known: tuple[Text, ...] = ()
    """Without a table of its own: columns of the target table that are known already at the row's own time."""
