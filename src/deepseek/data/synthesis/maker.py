"""From tables and a recipe's words to features and their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.data.columns import spell
from deepseek.data.sources.base import Source
from deepseek.data.synthesis.aggregations.base import Aggregation
from deepseek.data.synthesis.derivations import Derivation
from deepseek.data.synthesis.engine import Engine
from deepseek.data.synthesis.feature import (
    Aggregated,
    Derived,
    Direct,
    Feature,
    Identity,
    Relationship,
    build_part,
    columns_of,
    feature_from_json,
    feature_to_json,
    leaf_of,
)
from deepseek.data.synthesis.plan import TablePlan, read_relationships, table_plan, with_forms, with_kinds
from deepseek.data.synthesis.questions import questions_of, unseen
from deepseek.data.synthesis.sections import CutoffsSection, TableSection
from deepseek.data.synthesis.spool import Spool
from deepseek.data.synthesis.tables import Table, build_tables, read_raw
from deepseek.data.synthesis.walk import Synthesis
from deepseek.errors import InputError, UnknownNameError
from deepseek.fields import Kind

VERSION = 1
_LOOK = 100_000


@dataclass(frozen=True)
class Wishes:
    """What a recipe wishes for: the arguments of the source, checked."""

    target: str
    tables: Mapping[str, TableSection]
    relationships: tuple[str, ...]
    cutoffs: CutoffsSection
    aggregations: tuple[Mapping[str, Any], ...]
    derivations: tuple[Mapping[str, Any], ...]
    where: tuple[str, ...]
    window_us: int | None
    inclusive: bool
    depth: int
    max_features: int
    orphans: str


class FeatureMaker:
    """The features of one set of tables, and what is asked of them.

    Args:
        wishes: What the recipe says.
        sources: The tables' sources, by name.
        cutoffs: The source of cut-offs, where they are a table.
        definitions: Features as `definitions` returned them for other rows; found anew where not given.

    Attributes:
        features: The features, in the order of the table's columns.
        plans: What each table is.
        asked: What is asked.

    Raises:
        InputError: The recipe does not fit the tables.
        DataError: A table cannot be read, or its keys or times cannot be used.
    """

    def __init__(
        self,
        wishes: Wishes,
        sources: Mapping[str, Source],
        *,
        cutoffs: Source | None = None,
        definitions: Mapping[str, Any] | None = None,
    ) -> None:
        if wishes.target not in sources:
            raise UnknownNameError("target table", wishes.target, sources)
        self._wishes, self._delay = wishes, 0 if wishes.inclusive else 1
        known = None if definitions is None else _known_plans(definitions, wishes, sources)
        self.relationships = read_relationships(wishes.relationships, {name: source.schema().names for name, source in sources.items()})
        tables = {name: _read(source, self._unread(name), _texts(wishes.tables[name])) for name, source in sources.items()}
        plans = known or self._plans(tables, own=cutoffs is None and wishes.cutoffs.at is None)
        self._raw = read_raw(tables, plans, self.relationships, orphans=wishes.orphans)
        target = plans[wishes.target]
        self.asked = questions_of(
            wishes.cutoffs,
            self._raw,
            wishes.target,
            index=target.index,
            time=target.time,
            source=cutoffs,
            orphans=wishes.orphans,
        )
        self.plans = plans if known else self._with_kinds(plans)
        self.features = self._features() if definitions is None else [feature_from_json(one) for one in definitions["features"]]
        self._refuse_doubles()
        self._tables: dict[str, Table] | None = None

    def _unread(self, name: str) -> set[str]:
        """Return the columns of a table that are dropped, and that nothing else is told from."""
        sections = self._wishes.tables
        section, prefix = sections[name], f"{name}."
        keys = {end for step in self.relationships for table, end in _ends(step) if table == name}
        lent = {other.time.removeprefix(prefix) for other in sections.values() if other.time is not None and other.time.startswith(prefix)}
        return {*section.drop} - {section.index, section.time, *section.later.values(), *keys, *lent}

    def _plans(self, tables: Mapping[str, pa.Table], *, own: bool) -> dict[str, TablePlan]:
        """Return what each table is, but for the kinds of its columns."""
        wishes = self._wishes
        plans = {}
        for name, table in tables.items():
            section = wishes.tables[name]
            hidden = self._outcomes(table, section) if own and name == wishes.target and not section.static else ()
            plans[name] = table_plan(name, section, schema=table.schema, relationships=self.relationships, outcomes=hidden)
        lent: dict[str, list[str]] = {name: [] for name in tables}
        for plan in plans.values():
            if plan.via is not None:
                lent[plan.via.parent].append(_lent_column(plan, tables[plan.via.parent]))
        return {name: with_forms(plan, tables[name], lent[name]) for name, plan in plans.items()}

    def _outcomes(self, table: pa.Table, section: TableSection) -> tuple[str, ...]:
        """Return the columns of the target table that nobody knows at a row's own time: all but its time, its keys and what is said."""
        wishes = self._wishes
        keys = {relation.child_column for relation in self.relationships if relation.child == wishes.target}
        known = {*wishes.cutoffs.known, *keys, section.time}
        return tuple(name for name in table.column_names if name not in known)

    def _with_kinds(self, plans: Mapping[str, TablePlan]) -> dict[str, TablePlan]:
        last = int(self.asked.cutoffs.max(initial=0)) - self._delay
        found = {}
        for name, plan in plans.items():
            keys = {relation.child_column for relation in self.relationships if relation.child == name}
            hidden = self._wishes.cutoffs.labels if self.asked.own and name == self._wishes.target and plan.time is None else ()
            found[name] = with_kinds(plan, self._wishes.tables[name], self._raw.known_by(name, last, _LOOK), keys=keys, hidden=hidden)
        return found

    def _features(self) -> list[Feature]:
        wishes = self._wishes
        aggregations: list[Aggregation] = [build_part("aggregation", spec) for spec in wishes.aggregations]
        derivations: list[Derivation] = [build_part("derivation", spec) for spec in wishes.derivations]
        self._refuse_what_moves([*aggregations, *derivations])
        names = {spec["type"]: part.symbol for spec, part in zip(wishes.aggregations, aggregations, strict=True)}
        for name in wishes.where:
            if name not in names:
                raise UnknownNameError("aggregation of where", name, names, hint="it has to be among the aggregations as well")
        values = {name: section.where for name, section in wishes.tables.items()}
        synthesis = Synthesis(
            self.plans,
            self.relationships,
            aggregations=aggregations,
            derivations=derivations,
            where=frozenset(names[name] for name in wishes.where),
            values=values,
        )
        found = [one for one in synthesis.features(wishes.target, depth=wishes.depth) if not self._hidden(one)]
        if not found:
            raise InputError("no feature can be made of these tables", hint="relate them, allow a greater depth, or name aggregations")
        if len(found) > wishes.max_features:
            raise InputError(
                f"there would be {len(found):,} features, and max_features is {wishes.max_features:,}",
                hint="take fewer aggregations or derivations, a smaller depth, or drop columns; or allow more with max_features",
            )
        return found

    def _refuse_what_moves(self, parts: Sequence[Aggregation | Derivation]) -> None:
        """See that nothing is counted up to a cut-off where there are no cut-offs."""
        if any(times is not None for times in self._raw.times.values()) or self.asked.timed:
            return
        for part in parts:
            if part.moves:
                raise InputError(
                    f"{part.symbol} counts up to the cut-off, and there are no cut-offs", hint="leave it out, or give cut-offs"
                )

    def _hidden(self, feature: Feature) -> bool:
        """Whether a feature is of the row's own columns, and these are not known when it is asked about."""
        while isinstance(feature, Derived):
            feature = feature.of
        if not (self.asked.own and isinstance(feature, Identity)):
            return False
        return feature.column in self.plans[self._wishes.target].outcomes

    def _refuse_doubles(self) -> None:
        names = [one.name for one in self.features]
        doubled = sorted({*self.asked.given.column_names} & {*names})
        if doubled:
            raise InputError(
                f"{', '.join(map(repr, doubled))} would stand in the feature table twice: as given and as a feature",
                hint="rename the column of the cut-offs, or drop that of the target table",
            )

    def schema(self) -> pa.Schema:
        """Return the columns of the feature table: what was given, then the features."""
        given = [pa.field(one.name, one.type) for one in self.asked.given.schema]
        return pa.schema([*given, *(pa.field(one.name, type_of(one)) for one in self.features)])

    def compute(self, wanted: Sequence[Feature]) -> Spool:
        """Return the values of some features for all questions, by the features' names."""
        tables = self._built(wanted)
        wishes, asked, delay = self._wishes, self.asked, self._delay
        engine = Engine(tables, window_us=wishes.window_us, delay_us=delay)
        early = unseen(asked, self._raw, wishes.target, delay_us=delay)
        if early.any():
            progress.log(f"{early.sum():,} rows of {wishes.target!r} are asked about before they are there: nothing is known of them")
        rows = np.where(early, -1, asked.rows)
        seen = asked.cutoffs - delay
        spool = Spool(len(asked))
        with progress.task("making features", len(wanted)) as advance:
            for feature in sorted(wanted, key=_likeness):
                spool.write(feature.name, engine.values(feature, rows, seen))
                advance(1)
        return spool

    def _built(self, wanted: Sequence[Feature]) -> dict[str, Table]:
        columns = {one for feature in wanted for one in columns_of(feature)}
        self._tables = build_tables(self._raw, self.plans, columns)
        return self._tables

    def column(self, feature: Feature, values: np.ndarray) -> pa.Array:
        """Return a feature's numbers as the feature table holds them."""
        kind, absent = type_of(feature), np.isnan(values)
        if pa.types.is_string(kind):
            leaf = leaf_of(feature)
            assert leaf is not None, "only columns have texts"
            assert self._tables is not None, "was computed before"
            codes = pa.array(np.where(absent, 0, values).astype(np.int64), mask=absent)
            return self._tables[leaf.table].columns[leaf.column].texts.take(codes)
        if pa.types.is_boolean(kind):
            return pa.array(np.where(absent, 0, values) != 0, mask=absent)
        if pa.types.is_integer(kind):
            return pa.array(np.where(absent, 0, values).astype(np.int64), mask=absent)
        return pa.array(values, mask=absent)

    def definitions(self) -> dict[str, Any]:
        """Return everything by which the same features can be made of other rows, as plain JSON values."""
        return {
            "version": VERSION,
            "target_table": self._wishes.target,
            "relationships": list(self._wishes.relationships),
            "tables": {name: plan.to_json() for name, plan in self.plans.items()},
            "features": [feature_to_json(one) for one in self.features],
        }

    def catalogue(self) -> list[dict[str, Any]]:
        """Return the name, the type, the depth and an explanation of each feature."""
        return [{"name": one.name, "type": str(type_of(one)), "depth": one.depth, "what": one.explain()} for one in self.features]


def type_of(feature: Feature) -> pa.DataType:
    """Return the type that a feature has in the feature table."""
    if feature.sort == "boolean":
        return pa.bool_()
    if feature.sort == "category":
        return pa.string() if leaf_of(feature) is not None else pa.int64()
    return pa.int64() if feature.whole else pa.float64()


def _ends(step: Relationship) -> tuple[tuple[str, str], tuple[str, str]]:
    return (step.parent, step.parent_column), (step.child, step.child_column)


def _texts(section: TableSection) -> set[str]:
    return {name for name, kind in section.fields.items() if kind is Kind.CATEGORY}


def _read(source: Source, unread: set[str], texts: set[str]) -> pa.Table:
    """Return a table; columns that are called categories are texts, so that keys of tables that hold them in different types are equal."""
    schema = source.schema()
    names = [name for name in schema.names if name not in unread]
    table = pa.Table.from_batches(list(source.read(columns=names)), pa.schema([schema.field(name) for name in names]))
    for name in sorted(texts & {*names}):
        chunks = [pa.array(words, pa.string()).take(pa.array(rows, mask=rows < 0)) for words, rows in _spelled(table.column(name), name)]
        table = table.set_column(table.column_names.index(name), name, pa.chunked_array(chunks, pa.string()))
    return table


def _spelled(column: pa.ChunkedArray, name: str) -> Iterator[tuple[list[str | None], np.ndarray]]:
    yield from (spell(chunk, name) for chunk in column.chunks)


def _lent_column(plan: TablePlan, parent: pa.Table) -> str:
    column = str(plan.time)[len(plan.via.parent) + 1 :] if plan.via is not None else ""
    if column not in parent.column_names:
        raise UnknownNameError(f"time of the table {plan.name!r}", str(plan.time), [f"{plan.via}.{one}" for one in parent.column_names])
    return column


def _likeness(feature: Feature) -> str:
    """Return a key that brings features of the same values together, so that these are worked out once."""
    if isinstance(feature, Direct):
        return f"2 {feature.relationship} {_likeness(feature.of)}"
    if isinstance(feature, Aggregated):
        return f"1 {feature.path} {'' if feature.of is None else feature.of.name}"
    return "0"


def _known_plans(definitions: Mapping[str, Any], wishes: Wishes, sources: Mapping[str, Source]) -> dict[str, TablePlan]:
    for key, ours in (("target_table", wishes.target), ("relationships", list(wishes.relationships))):
        if definitions[key] != ours:
            raise InputError(
                f"the definitions were made with {key} {definitions[key]!r}, and here it is {ours!r}", hint="use the same tables"
            )
    plans = {name: TablePlan.from_json(plan) for name, plan in definitions["tables"].items()}
    for name in sources:
        if name not in plans:
            raise UnknownNameError("table, as the definitions know it,", name, plans)
    for name, plan in plans.items():
        if name not in sources:
            raise UnknownNameError("table of the definitions", name, sources)
        present = sources[name].schema().names
        for column in plan.columns:
            if column not in present:
                raise UnknownNameError(f"column of the table {name!r} that the features are made of", column, present)
    return plans
