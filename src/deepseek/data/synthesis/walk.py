"""Which features there are: every looking up, deriving and aggregating that the tables' relationships allow, up to a depth.

The walk is that of Featuretools (J. M. Kanter and K. Veeramachaneni, "Deep Feature Synthesis: Towards Automating Data Science Endeavors",
2015, https://doi.org/10.1109/DSAA.2015.7344858), so that the same tables give the same features of the same names: from a table first down
to the tables that refer to it, then back up to those that it refers to, each table visited once; what is aggregated, derived or looked up
may have taken at most `depth` steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from deepseek.data.synthesis.aggregations.base import Aggregation
from deepseek.data.synthesis.derivations import Derivation
from deepseek.data.synthesis.feature import Aggregated, Condition, Derived, Direct, Feature, Identity, Relationship, root_of
from deepseek.data.synthesis.plan import TablePlan

Path = tuple[Relationship, ...]


class Synthesis:
    """Lists the features of a table.

    Args:
        plans: The tables.
        relationships: How they are related.
        aggregations: How many values become one.
        derivations: What is computed from one value.
        where: The symbols of aggregations that also look at some rows alone.
        values: By table and column the values that these rows have.
    """

    def __init__(
        self,
        plans: Mapping[str, TablePlan],
        relationships: Sequence[Relationship],
        *,
        aggregations: Sequence[Aggregation],
        derivations: Sequence[Derivation],
        where: frozenset[str],
        values: Mapping[str, Mapping[str, Sequence[str | bool | float]]],
    ) -> None:
        self._plans, self._relationships = plans, relationships
        self._aggregations = sorted(aggregations, key=lambda part: part.symbol.lower())
        self._derivations = sorted(derivations, key=lambda part: part.symbol.lower())
        self._where, self._values = where, values
        self._features: dict[str, dict[str, Feature]] = {}
        self._conditions: dict[str, list[Condition]] = {}

    def features(self, target: str, *, depth: int) -> list[Feature]:
        """Return the features of a table that a model can be given, shallow ones first.

        Args:
            target: The table.
            depth: How many steps a feature may take.
        """
        self._features.clear()
        self._conditions.clear()
        self._visit(target, depth)
        found = [one for one in self._features[target].values() if one.sort != "time" and not one.key]
        return sorted(found, key=lambda one: one.depth)

    def _visit(self, table: str, depth: int) -> None:
        if depth < 0:
            return
        self._features[table] = {}
        for one in self._columns(table):
            self._add(table, one)
        for relation in self._below(table):
            if relation.child not in self._features:
                self._visit(relation.child, depth - 1)
        for path in self._paths_down(table):
            self._aggregate(path, depth)
        self._derive(table, depth)
        for relation in self._above(table):
            if relation.parent not in self._features:
                self._visit(relation.parent, depth - 1)
        for relation in self._above(table):
            self._look_up(relation, depth)
        self._conditions[table] = [
            Condition(one, value)
            for one in self._features[table].values()
            if isinstance(one, Identity) or (isinstance(one, Direct) and isinstance(one.of, Identity))
            for value in self._values.get(root_of(one).table, {}).get(_column(one), ())
        ]

    def _columns(self, table: str) -> Iterator[Identity]:
        plan = self._plans[table]
        keys = {relation.child_column for relation in self._relationships if relation.child == table}
        for name, column in plan.columns.items():
            yield Identity(table, name, column.sort, column.whole, key=name in keys, row_time=name == plan.time)

    def _aggregate(self, path: Path, depth: int) -> None:
        parent, rows = path[0].parent, path[-1].child
        plain = sum(1 for _ in self._paths_up(rows, parent)) == 1
        # What is aggregated is what the table offered when the walk came by; features that it gets later are not gone back for.
        offered = [one for one in self._features.get(rows, {}).values() if one.depth <= depth - 1]
        for aggregation in self._aggregations:
            for of in self._inputs(aggregation, rows, offered, path, depth):
                self._add(parent, Aggregated(of, aggregation, path, None, plain))
                if aggregation.symbol not in self._where or _has_condition(of):
                    continue
                for condition in self._conditions.get(rows, ()):
                    if condition.of != of:
                        self._add(parent, Aggregated(of, aggregation, path, condition, plain))

    def _inputs(self, aggregation: Aggregation, rows: str, offered: Sequence[Feature], path: Path, depth: int) -> Iterator[Feature | None]:
        plan = self._plans[rows]
        if aggregation.takes in ("rows", "row_time"):
            if depth < 1 or rows not in self._features or (aggregation.takes == "row_time" and plan.time is None):
                return
            yield None if aggregation.takes == "rows" else Identity(rows, plan.time or "", "time", row_time=True)
            return
        for one in offered:
            direct_of_parent = isinstance(one, Direct) and one.relationship.parent == path[0].parent
            if direct_of_parent or _on_path(one, path) or not _stacks(aggregation, one):
                continue
            if aggregation.takes in (one.sort, "any"):
                yield one

    def _derive(self, table: str, depth: int) -> None:
        made = [
            Derived(one, derivation)
            for derivation in self._derivations
            for one in self._features[table].values()
            if one.depth <= depth - 1 and one.sort == derivation.takes and not isinstance(root_of(one), Derived) and not one.key
        ]
        for one in made:
            self._add(table, one)

    def _look_up(self, relation: Relationship, depth: int) -> None:
        for one in [one for one in self._features.get(relation.parent, {}).values() if one.depth <= depth]:
            self._add(relation.child, Direct(one, relation))

    def _add(self, table: str, feature: Feature) -> None:
        self._features[table].setdefault(feature.name, feature)

    def _below(self, table: str) -> list[Relationship]:
        return [relation for relation in self._relationships if relation.parent == table]

    def _above(self, table: str) -> list[Relationship]:
        return [relation for relation in self._relationships if relation.child == table]

    def _paths_down(self, table: str) -> Iterator[Path]:
        for relation in self._below(table):
            yield (relation,)
            for path in self._paths_down(relation.child):
                yield (relation, *path)

    def _paths_up(self, table: str, target: str) -> Iterator[Path]:
        for relation in self._above(table):
            if relation.parent == target:
                yield (relation,)
            for path in self._paths_up(relation.parent, target):
                yield (relation, *path)


def _column(feature: Feature) -> str:
    root = root_of(feature)
    return root.column if isinstance(root, Identity) else ""


def _stacks(aggregation: Aggregation, feature: Feature) -> bool:
    root = root_of(feature)
    if not isinstance(root, Aggregated):
        return True
    return root.aggregation.symbol not in aggregation.not_on and (aggregation.on_itself or type(root.aggregation) is not type(aggregation))


def _has_condition(feature: Feature | None) -> bool:
    while feature is not None and not isinstance(feature, Identity):
        if isinstance(feature, Aggregated) and feature.where is not None:
            return True
        feature = feature.of
    return False


def _on_path(feature: Feature, path: Path) -> bool:
    """Whether a feature is a key that the path itself goes along."""
    if not isinstance(feature, Identity):
        return False
    ends = {(step.child, step.child_column) for step in path} | {(step.parent, step.parent_column) for step in path}
    return (feature.table, feature.column) in ends
