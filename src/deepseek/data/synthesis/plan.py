"""What the tables and their columns are, settled once and kept with a model, so that later tables are read as the first ones were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa

from deepseek.data.columns import is_number, is_text
from deepseek.data.synthesis.feature import Relationship, Sort
from deepseek.data.synthesis.sections import TableSection
from deepseek.errors import InputError, UnknownNameError
from deepseek.fields import Kind
from deepseek.fields.inference import infer_kind
from deepseek.fields.timestamps import COMPACT, ISO, forms_of, is_compact

_LOOK = 100_000
_USABLE = (Kind.NUMBER, Kind.CATEGORY, Kind.BINARY, Kind.TIMESTAMP)


@dataclass(frozen=True)
class ColumnPlan:
    """What a column is.

    Attributes:
        sort: What it holds.
        whole: Whether its numbers are whole.
        form: How its texts spell points in time.
    """

    sort: Sort
    whole: bool = False
    form: str | None = None


@dataclass(frozen=True)
class TablePlan:
    """What a table is.

    Attributes:
        name: Its name.
        index: The column that names its rows.
        time: The column that says when a row became known; with `via` as `TABLE.COLUMN`.
        via: The relationship to the table that has that column, where it is another.
        later: Columns known later than their row, and the column that says when.
        outcomes: Columns that become known right after their row's time.
        columns: Those that features are made of.
        forms: How texts of its times are spelled.
        left_out: Columns that nothing is made of, and why.
    """

    name: str
    index: str | None = None
    time: str | None = None
    via: Relationship | None = None
    later: Mapping[str, str] = field(default_factory=dict)
    outcomes: tuple[str, ...] = ()
    columns: Mapping[str, ColumnPlan] = field(default_factory=dict)
    forms: Mapping[str, str | None] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def form_of(self, column: str) -> str | None:
        """Return how the texts of a time are spelled; nothing for the usual way."""
        return self.forms.get(column)

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that are taken as text."""
        return tuple(name for name, plan in self.columns.items() if plan.sort == "category")

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {**asdict(self), "outcomes": list(self.outcomes)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TablePlan:
        """Return the plan that `to_json` wrote."""
        via = None if value["via"] is None else Relationship(**value["via"])
        columns = {name: ColumnPlan(**plan) for name, plan in value["columns"].items()}
        return cls(**{**value, "via": via, "outcomes": tuple(value["outcomes"]), "columns": columns})


def read_relationships(texts: Sequence[str], columns: Mapping[str, Sequence[str]]) -> tuple[Relationship, ...]:
    """Return the relationships that a recipe writes as `races.raceId -> results.raceId`.

    Args:
        texts: The relationships, the table that is referred to first.
        columns: The columns of each table, by its name.

    Raises:
        InputError: One cannot be read, stands twice, or they lead in a circle.
        UnknownNameError: A table or a column is not there.
    """
    ends = []
    for text in texts:
        sides = [side.strip() for side in text.split("->")]
        if len(sides) != 2:
            raise InputError(
                f"the relationship {text!r} cannot be read", hint="write it as races.raceId -> results.raceId, the parent first"
            )
        ends.append((*_end(sides[0], columns, text), *_end(sides[1], columns, text)))
    doubled = [end for end in ends if ends.count(end) > 1]
    if doubled:
        raise InputError(f"the relationship {'{}.{} -> {}.{}'.format(*doubled[0])} stands twice", hint="say it once")
    pairs = [(parent, child) for parent, _, child, _ in ends]
    found = tuple(Relationship(*end, unique=pairs.count((end[0], end[2])) == 1) for end in ends)
    _refuse_circles(found)
    return found


def _end(side: str, columns: Mapping[str, Sequence[str]], text: str) -> tuple[str, str]:
    tables = [name for name in columns if side.startswith(f"{name}.")]
    if not tables:
        raise UnknownNameError("table", side.partition(".")[0], columns, hint=f"it stands in the relationship {text!r}")
    table = max(tables, key=len)
    column = side[len(table) + 1 :]
    if column not in columns[table]:
        raise UnknownNameError(f"column of the table {table!r}", column, columns[table], hint=f"it stands in the relationship {text!r}")
    return table, column


def _refuse_circles(relationships: Sequence[Relationship]) -> None:
    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            circle = " -> ".join((*trail[trail.index(name) :], name))
            raise InputError(f"the relationships lead in a circle: {circle}", hint="leave one of them out")
        for relation in relationships:
            if relation.parent == name:
                visit(relation.child, (*trail, name))

    for relation in relationships:
        visit(relation.parent, ())


def table_plan(
    name: str, section: TableSection, *, schema: pa.Schema, relationships: Sequence[Relationship], outcomes: Sequence[str] = ()
) -> TablePlan:
    """Return what a table is, its columns but for their kinds.

    Args:
        name: Its name.
        section: What the recipe says of it.
        schema: Its columns.
        relationships: Of all tables.
        outcomes: Columns that become known right after their row's time; all but those known already, where rows are asked about as of
            their own times.

    Raises:
        InputError: The recipe says nothing of its time, or contradicts itself.
        UnknownNameError: A column is not there.
    """
    what = f"column of the table {name!r}"
    for column in (
        *section.later,
        *section.later.values(),
        *section.fields,
        *section.drop,
        *section.where,
        *filter(None, (section.index,)),
    ):
        if column not in schema.names:
            raise UnknownNameError(what, column, schema.names)
    if section.static == (section.time is not None):
        given = "both time and static" if section.static else "neither time nor static"
        raise InputError(
            f"the table {name!r} has {given}: nobody can tell when its rows became known",
            hint="time: COLUMN, the column that says when a row became known; static: true, where each has always been as it is",
        )
    if section.static and section.later:
        raise InputError(f"the table {name!r} is static, and has columns that are known later", hint="say when its rows became known")
    parents = {relation.parent_column for relation in relationships if relation.parent == name}
    if len(parents | ({section.index} - {None})) > 1:
        raise InputError(f"the table {name!r} is referred to by several columns: {', '.join(sorted(parents))}", hint="refer to its index")
    index = section.index or next(iter(parents), None)
    via = _via(name, section.time, schema, relationships) if section.time is not None else None
    later = {**section.later, **{column: column for column in section.later.values() if column not in section.later}}
    return TablePlan(name, index, section.time, via, later, tuple(outcomes))


def _via(name: str, time: str, schema: pa.Schema, relationships: Sequence[Relationship]) -> Relationship | None:
    if time in schema.names:
        return None
    found = [relation for relation in relationships if relation.child == name and time.startswith(f"{relation.parent}.")]
    if len(found) != 1:
        hint = f"{len(found)} relationships lead there" if found else "or one of a table that it refers to, as races.date"
        raise UnknownNameError(f"time of the table {name!r}", time, schema.names, hint=hint)
    return found[0]


def with_kinds(plan: TablePlan, section: TableSection, table: pa.Table, *, keys: set[str], hidden: Sequence[str] = ()) -> TablePlan:
    """Return a plan with the kinds of the table's columns.

    Args:
        plan: The plan.
        section: What the recipe says.
        table: Rows that are known by the last cut-off: what comes later must not decide what a column is.
        keys: Columns that refer to other tables.
        hidden: Labels that nobody can tell the time of.
    """
    columns, left_out = {}, {}
    for name in table.column_names:
        if name == plan.index:
            continue
        if name in section.drop or name in hidden:
            left_out[name] = "dropped" if name in section.drop else "a label, which is known at no time"
            continue
        found = ColumnPlan("category") if name in keys else _kind(table.column(name), name, section.fields.get(name))
        if isinstance(found, ColumnPlan):
            columns[name] = found
        else:
            left_out[name] = found
    return replace(plan, columns=columns, left_out=left_out)


def with_forms(plan: TablePlan, table: pa.Table, lent: Sequence[str]) -> TablePlan:
    """Return a plan that says how the texts of its times are spelled.

    Args:
        plan: The plan.
        table: Its rows.
        lent: Columns that other tables take their times from.
    """
    own = [plan.time] if plan.time is not None and plan.via is None else []
    names = dict.fromkeys((*own, *plan.later.values(), *lent))
    forms = {name: time_form(table.column(name), f"the column {name!r} of the table {plan.name!r}") for name in names}
    return replace(plan, forms=forms)


def time_form(column: pa.ChunkedArray, what: str) -> str | None:
    """Return how texts or whole numbers spell times by which rows are seen; nothing where they need no form, or are none.

    Args:
        column: The times.
        what: What they are, for the message.

    Raises:
        InputError: They can be read in two ways: taken for the other, days and months would show rows the future.
    """
    forms = _forms(column)
    if len(forms) > 1 and ISO not in forms:
        raise InputError(f"{what} can be read as {' and as '.join(forms)}", hint="give the times as 2024-01-31, or as timestamps")
    return next(iter(forms), None)


def _forms(column: pa.ChunkedArray) -> tuple[str, ...]:
    known = column.drop_null()
    if is_text(known.type):
        return forms_of(known.cast(pa.string()).combine_chunks())
    return (COMPACT,) if pa.types.is_integer(known.type) and is_compact(known.combine_chunks()) else ()


def _kind(column: pa.ChunkedArray, name: str, said: Kind | None) -> ColumnPlan | str:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if said is not None:
        return _said(column, kind, said)
    if pa.types.is_boolean(kind):
        return ColumnPlan("boolean")
    if pa.types.is_temporal(kind) and not (pa.types.is_duration(kind) or pa.types.is_time(kind)):
        return ColumnPlan("time")
    if is_number(kind) or pa.types.is_duration(kind) or pa.types.is_time(kind):
        return ColumnPlan("number", whole=bool(pa.types.is_integer(kind)))
    if pa.types.is_dictionary(column.type) and is_text(kind):
        return ColumnPlan("category")
    if not is_text(kind):
        return f"of type {kind}" if column.null_count < len(column) else "empty"
    found, reason = infer_kind(column.slice(0, _LOOK), name)
    if found is Kind.TIMESTAMP:
        return ColumnPlan("time", form=next(iter(_forms(column.slice(0, _LOOK))), ISO))
    return ColumnPlan("category") if found in _USABLE else f"taken for {found.value}: {reason}"


def _said(column: pa.ChunkedArray, kind: pa.DataType, said: Kind) -> ColumnPlan | str:
    if said is Kind.NUMBER:
        return ColumnPlan("number", whole=bool(pa.types.is_integer(kind)))
    if said is Kind.TIMESTAMP:
        return ColumnPlan("time", form=next(iter(_forms(column)), None))
    if said is Kind.BINARY and not is_text(kind):
        return ColumnPlan("boolean")
    return ColumnPlan("category") if said in _USABLE else f"{said.value}, says the recipe"
