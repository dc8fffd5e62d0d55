"""Related tables in memory, as the engine wants them: numbers, codes of categories, times, and rows found by key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek import progress
from deepseek.data.columns import EXACT, as_float64, is_number, is_text, parse_numbers, plain, spell
from deepseek.data.synthesis.feature import Relationship
from deepseek.data.synthesis.plan import ColumnPlan, TablePlan
from deepseek.data.timestamps import from_numbers, read_timestamps
from deepseek.errors import ColumnError, DataError

NEVER, ALWAYS = 2**62, -(2**62)
"""The time of a row that is never known, and of one that always was."""
_EXAMPLES = 3
_FINER = r"\.\d{6}\d*[1-9]"
"""What a text holds that tells of less than a microsecond, which reading it cuts off."""


@dataclass(frozen=True)
class Column:
    """One column's values.

    Attributes:
        values: float64 `[rows]`, NaN where missing: numbers, codes of categories in the order of their texts, 0 and 1, or microseconds.
        known: From when on each value was known where that is later than its row, int64 `[rows]`.
        categories: The texts of the codes.
    """

    values: np.ndarray
    known: np.ndarray | None = None
    categories: tuple[str, ...] = ()

    @cached_property
    def texts(self) -> pa.Array:
        """The texts of the codes, to be taken from."""
        return pa.array(self.categories, pa.string())

    def code(self, value: str | float | bool) -> float:
        """Return the number that stands for a value, NaN where no row has it."""
        if not self.categories:
            return float(value) if not isinstance(value, str) else float("nan")
        text = value if isinstance(value, str) else spell(pa.array([value]), "where")[0][0]
        return float(self.categories.index(text)) if text in self.categories else float("nan")


@dataclass(frozen=True)
class Table:
    """A table's rows.

    Attributes:
        name: Its name.
        rows: How many there are.
        times: When each became known, microseconds since 1970, int64 `[rows]`; nothing where all always were.
        rank: The order of rows of the same time, int64 `[rows]`: that of the index, so that the order in a file makes no difference.
        columns: By name.
        links: By the column that refers, the row of the other table, int64 `[rows]`, -1 for none.
    """

    name: str
    rows: int
    times: np.ndarray | None
    rank: np.ndarray
    columns: Mapping[str, Column] = field(default_factory=dict)
    links: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """Tables as they were read, their keys looked up and the times of their rows known.

    Attributes:
        tables: By name.
        indexes: The index of each that has one.
        links: By name and by the column that refers, the row of the other table, -1 for none.
        times: When each row became known, microseconds, where the table has a time.
    """

    tables: Mapping[str, pa.Table]
    indexes: Mapping[str, pa.ChunkedArray | None]
    links: Mapping[str, Mapping[str, np.ndarray]]
    times: Mapping[str, np.ndarray | None]

    def known_by(self, name: str, last: int, most: int) -> pa.Table:
        """Return the first rows of a table, in its order, of those that are known by a time."""
        times = self.times[name]
        return self.tables[name].slice(0, most) if times is None else self.tables[name].take(pa.array(np.flatnonzero(times <= last)[:most]))


def read_raw(
    tables: Mapping[str, pa.Table], plans: Mapping[str, TablePlan], relationships: Sequence[Relationship], *, orphans: str = "fail"
) -> Raw:
    """Look up the keys of tables, and the times of their rows.

    Args:
        tables: By name.
        plans: What each is.
        relationships: How they are related.
        orphans: `fail`, or `keep` rows whose key the table that they refer to lacks.

    Raises:
        DataError: A key is missing, doubled or of another type; a time cannot be read.
    """
    indexes = {name: _index(tables[name], plan) for name, plan in plans.items()}
    links = {name: _links(tables, indexes, relationships, name, orphans=orphans) for name in tables}
    return Raw(tables, indexes, links, {name: _row_times(tables, plans, links, name) for name in tables})


def build_tables(raw: Raw, plans: Mapping[str, TablePlan], wanted: Iterable[tuple[str, str]]) -> dict[str, Table]:
    """Return the tables as the engine wants them.

    Args:
        raw: What was read.
        plans: What each is.
        wanted: The tables and columns that features are computed from.

    Raises:
        DataError: A value is not what its column is.
    """
    needed = set(wanted)
    built = {}
    for name, table in raw.tables.items():
        times = raw.times[name]
        columns = {one: _column(table, plans[name], one, times) for one in plans[name].columns if (name, one) in needed}
        built[name] = Table(name, table.num_rows, times, _rank(raw.indexes[name], table.num_rows), columns, raw.links[name])
    return built


def moments(column: pa.ChunkedArray, form: str | None, *, what: str, up: bool = True) -> np.ndarray:
    """Return points in time in microseconds since 1970, int64 `[rows]`, `NEVER` where missing.

    Args:
        column: Timestamps, dates, text or compact dates.
        form: How text or whole numbers spell them.
        what: What they are, for messages.
        up: Whether what is finer than a microsecond is rounded up, for a row is never seen before it was there; else it is rounded down, as
            nothing after a cut-off may be seen.

    Raises:
        ColumnError: They are none.
    """
    parts = [_moments(plain(chunk), form, what=what, up=up) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _moments(array: pa.Array, form: str | None, *, what: str, up: bool) -> np.ndarray:
    kind = array.type
    if is_number(kind):
        if form is None:
            raise ColumnError(f"{what} holds {kind}, which is no time", hint="give a column of dates or timestamps")
        read = from_numbers(array, pattern=form)
    elif pa.types.is_timestamp(kind) and kind.unit == "ns":
        whole = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
        return np.where(array.is_null().to_numpy(zero_copy_only=False), NEVER, -(-whole // 1000) if up else whole // 1000)
    else:
        try:
            read = read_timestamps(array, pattern=form)
        except ColumnError as error:
            raise ColumnError(f"{what}: {error.message}", hint=error.hint) from None
        lost = array.null_count < read.null_count
        if lost:
            bad = array.filter(pc.and_(pc.is_valid(array), pc.is_null(read)))[0].as_py()
            raise ColumnError(
                f"{what} holds {bad!r}, which is no point in time", hint="allowed: timestamps, dates, text as 2024-01-31 10:00"
            )
    values = pc.fill_null(read.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    if up and is_text(kind):
        values = values + pc.fill_null(pc.match_substring_regex(array.cast(pa.string()), _FINER), False).to_numpy(zero_copy_only=False)
    return np.where(read.is_null().to_numpy(zero_copy_only=False), NEVER, values)


def places_of(keys: pa.ChunkedArray, index: pa.ChunkedArray, *, what: str) -> tuple[np.ndarray, pa.ChunkedArray]:
    """Return the row of the index that each key names, int64 `[keys]`, -1 for none, and the keys that it lacks.

    Raises:
        ColumnError: The two are of types that cannot be equal.
    """
    ours, theirs = _key_type(keys), _key_type(index)
    if ours.type != theirs.type and not pa.types.is_null(ours.type):
        raise ColumnError(
            f"{what}: keys of type {keys.type} cannot name rows whose index is of type {index.type}",
            hint="read both as the same type: under fields call the columns a category, and both are taken as text",
        )
    if pa.types.is_null(ours.type):
        return np.full(len(keys), -1, dtype=np.int64), keys.filter(pc.is_valid(keys))
    found = pc.index_in(ours, value_set=theirs.combine_chunks() if isinstance(theirs, pa.ChunkedArray) else theirs)
    lacking = keys.filter(pc.and_(pc.is_null(found), pc.is_valid(keys)))
    return pc.fill_null(found, -1).to_numpy().astype(np.int64), lacking


def examples(values: pa.ChunkedArray) -> str:
    """Return a few different values, for a message."""
    some = pc.unique(values.slice(0, 10_000)).to_pylist()
    return ", ".join(map(repr, some[:_EXAMPLES])) + (" …" if len(some) > _EXAMPLES else "")


def _index(table: pa.Table, plan: TablePlan) -> pa.ChunkedArray | None:
    if plan.index is None:
        return None
    index = table.column(plan.index)
    if index.null_count:
        raise DataError(f"{index.null_count:,} rows of the table {plan.name!r} have no {plan.index}", hint="every row needs its index")
    counts = pc.value_counts(index)
    doubled = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(doubled):
        some = examples(pa.chunked_array([doubled]))
        raise DataError(
            f"the index {plan.index!r} of the table {plan.name!r} has {len(doubled):,} values that name several rows: {some}",
            hint="an index is different in every row: choose another column, or remove the doubled rows",
        )
    return index


def _links(
    raw: Mapping[str, pa.Table],
    indexes: Mapping[str, pa.ChunkedArray | None],
    relationships: Sequence[Relationship],
    name: str,
    *,
    orphans: str,
) -> dict[str, np.ndarray]:
    links = {}
    for relation in relationships:
        index = indexes[relation.parent]
        if relation.child != name or index is None:
            continue
        found, lacking = places_of(raw[name].column(relation.child_column), index, what=f"the relationship {relation}")
        if len(lacking):
            said = f"{len(lacking):,} rows of {name!r} have a {relation.child_column} that {relation.parent!r} lacks: {examples(lacking)}"
            if orphans == "fail":
                raise DataError(said, hint="add the missing rows, or say orphans: keep, and these rows belong to none of them")
            progress.log(said)
        links[relation.child_column] = found
    return links


def _row_times(
    raw: Mapping[str, pa.Table], plans: Mapping[str, TablePlan], links: Mapping[str, Mapping[str, np.ndarray]], name: str
) -> np.ndarray | None:
    plan = plans[name]
    if plan.time is None:
        return None
    if plan.via is None:
        times = moments(raw[name].column(plan.time), plan.form_of(plan.time), what=f"the time {plan.time!r} of the table {name!r}")
    else:
        column = plan.time.partition(".")[2]
        parent = plans[plan.via.parent]
        above = moments(raw[parent.name].column(column), parent.form_of(column), what=f"the time {plan.time!r} of the table {name!r}")
        rows = links[name][plan.via.child_column]
        times = np.where(rows >= 0, above[np.where(rows < 0, 0, rows)] if len(above) else NEVER, NEVER)
    if lost := int((times == NEVER).sum()):
        progress.log(f"{lost:,} of {len(times):,} rows of {name!r} have no {plan.time} and are never seen")
    return times


def _column(table: pa.Table, plan: TablePlan, name: str, times: np.ndarray | None) -> Column:
    what = plan.columns[name]
    column, values = table.column(name), np.empty(0)
    categories: tuple[str, ...] = ()
    label = f"{plan.name}.{name}"
    if what.sort == "category":
        values, categories = _codes(column, label)
    elif what.sort == "time":
        ticks = moments(column, what.form, what=f"the column {label!r}")
        values = np.where(ticks == NEVER, np.nan, ticks.astype(np.float64))
    else:
        values = np.concatenate([np.empty(0), *(_numbers(chunk, what, label) for chunk in column.chunks)])
    known = _known(table, plan, name, times)
    if known is not None:
        values = np.where(known == NEVER, np.nan, values)
        known = np.where(known == NEVER, ALWAYS, known)
    return Column(values, known, categories)


def _known(table: pa.Table, plan: TablePlan, name: str, times: np.ndarray | None) -> np.ndarray | None:
    """Return from when on the values of a column were known, where that is later than their rows."""
    known = None
    column = plan.later.get(name)
    if column is not None:
        known = moments(table.column(column), plan.form_of(column), what=f"the time {column!r} of the column {plan.name}.{name}")
    if name in plan.outcomes and times is not None:
        after = np.where(times == NEVER, NEVER, times + 1)
        known = after if known is None else np.maximum(known, after)
    return known


def _numbers(chunk: pa.Array, what: ColumnPlan, name: str) -> np.ndarray:
    values = plain(chunk)
    if is_text(values.type):
        values = parse_numbers(values.cast(pa.string()), name)
    numbers = as_float64(values, name)
    if what.whole and pa.types.is_integer(values.type) and len(numbers) and np.nanmax(np.abs(numbers), initial=0.0) > EXACT:
        raise DataError(
            f"the column {name!r} holds whole numbers beyond 2^53, which cannot be reckoned with exactly",
            hint="call it a category under the table's fields, or leave it out with drop",
        )
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _codes(column: pa.ChunkedArray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return each text's place among the different ones in their order, NaN where missing, and these."""
    parts = [spell(plain(chunk), name) for chunk in column.chunks]
    texts = sorted({text for some, _ in parts for text in some if text is not None})
    place = {text: float(number) for number, text in enumerate(texts)}
    coded = [
        np.asarray([*(place.get(text, np.nan) if text is not None else np.nan for text in some), np.nan])[rows] for some, rows in parts
    ]
    return np.concatenate([np.empty(0), *coded]), tuple(texts)


def _rank(index: pa.ChunkedArray | None, rows: int) -> np.ndarray:
    if index is None:
        return np.arange(rows)
    rank = np.empty(rows, dtype=np.int64)
    rank[pc.sort_indices(index).to_numpy()] = np.arange(rows)
    return rank


def _key_type(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return keys of any integer type as int64, of any layout of text as text, and whole numbers that a missing one made fractions."""
    kind = keys.type
    if pa.types.is_dictionary(kind):
        return _key_type(keys.cast(kind.value_type))
    if is_text(kind):
        return keys.cast(pa.string())
    if pa.types.is_integer(kind):
        return keys if pa.types.is_uint64(kind) else keys.cast(pa.int64())  # hashes of 64 bits fit into no other type
    if pa.types.is_floating(kind):
        whole = pc.if_else(pc.fill_null(pc.is_nan(keys), True), pa.scalar(None, kind), keys)
        largest = EXACT if pa.types.is_float64(kind) else 2**24 if pa.types.is_float32(kind) else 2**11
        exact = pc.and_(pc.equal(pc.floor(whole), whole), pc.less(pc.abs(whole), float(largest)))  # beyond, a float is several numbers
        if pc.all(exact, min_count=0).as_py():
            return whole.cast(pa.int64())
    return keys
