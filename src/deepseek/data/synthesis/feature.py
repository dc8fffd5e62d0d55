"""What a synthesised feature is: a small tree of looking up, deriving and aggregating, with a name and an explanation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from deepseek.data.synthesis.aggregations.base import Aggregation
from deepseek.data.synthesis.derivations import Derivation
from deepseek.registry import family

Sort = Literal["number", "category", "boolean", "time"]
"""What the values of a feature are, which decides what can be made of them."""


@dataclass(frozen=True)
class Relationship:
    """Rows of one table that belong to rows of another.

    Attributes:
        parent: The table whose rows are referred to.
        parent_column: Its index.
        child: The table whose rows refer.
        child_column: The column that holds the parent's index.
        unique: Whether no other relationship joins the same two tables; its column is then left out of names.
    """

    parent: str
    parent_column: str
    child: str
    child_column: str
    unique: bool = True

    @property
    def child_name(self) -> str:
        """The child in names of features."""
        return self.child if self.unique else f"{self.child}[{self.child_column}]"

    @property
    def parent_name(self) -> str:
        """The parent in names of features."""
        return self.parent if self.unique else f"{self.parent}[{self.child_column}]"

    def __str__(self) -> str:
        return f"{self.parent}.{self.parent_column} -> {self.child}.{self.child_column}"


@dataclass(frozen=True)
class Identity:
    """A column as it stands.

    Attributes:
        table: Its table.
        column: Its name.
        sort: What it holds.
        whole: Whether its numbers are whole.
        key: Whether it is an index or refers to one: it is no feature by itself, but can be counted.
        row_time: Whether it says when its row became known.
    """

    table: str
    column: str
    sort: Sort
    whole: bool = False
    key: bool = False
    row_time: bool = False

    @property
    def name(self) -> str:
        """The column's name."""
        return self.column

    @property
    def depth(self) -> int:
        """No step is taken."""
        return 0

    def explain(self) -> str:
        """Say what the feature is."""
        return f"{self.column} of {self.table}"


@dataclass(frozen=True)
class Direct:
    """A feature of the row that a row refers to.

    Attributes:
        of: The feature of the parent.
        relationship: How the parent is found.
    """

    of: Feature
    relationship: Relationship

    @property
    def table(self) -> str:
        """The table that the feature belongs to."""
        return self.relationship.child

    @property
    def name(self) -> str:
        """As Featuretools writes it: `drivers.MEAN(results.points)`."""
        return f"{self.relationship.parent_name}.{self.of.name}"

    @property
    def sort(self) -> Sort:
        """What it holds."""
        return self.of.sort

    @property
    def whole(self) -> bool:
        """Whether its numbers are whole."""
        return self.of.whole

    @property
    def key(self) -> bool:
        """Whether it is a key, looked up."""
        return isinstance(self.of, Identity | Direct) and self.of.key

    @property
    def depth(self) -> int:
        """How many steps it takes."""
        return self.of.depth + 1

    def explain(self) -> str:
        """Say what the feature is."""
        return f"{self.of.explain()}, looked up by {self.relationship.child_column}"


@dataclass(frozen=True)
class Derived:
    """A value computed from another of the same row.

    Attributes:
        of: The other.
        derivation: What is done to it.
    """

    of: Feature
    derivation: Derivation

    @property
    def table(self) -> str:
        """The table that the feature belongs to."""
        return self.of.table

    @property
    def name(self) -> str:
        """As Featuretools writes it: `YEAR(dob)`."""
        return f"{self.derivation.symbol}({self.of.name})"

    @property
    def sort(self) -> Sort:
        """What it holds."""
        return self.derivation.gives

    @property
    def whole(self) -> bool:
        """Whether its numbers are whole."""
        return self.derivation.whole

    @property
    def key(self) -> bool:
        """Never."""
        return False

    @property
    def depth(self) -> int:
        """How many steps it takes."""
        return self.of.depth + 1

    def explain(self) -> str:
        """Say what the feature is."""
        return f"{self.derivation.words} {self.of.explain()}"


@dataclass(frozen=True)
class Condition:
    """Which rows an aggregation looks at: those whose feature has a value.

    Attributes:
        of: A column of the rows' table, or of one that they refer to.
        value: The value; text for categories.
    """

    of: Feature
    value: str | float | bool

    @property
    def name(self) -> str:
        """As Featuretools writes it: `device = tablet`."""
        return f"{self.of.name} = {self.value}"

    @property
    def depth(self) -> int:
        """How many steps it takes."""
        return self.of.depth + 1


@dataclass(frozen=True)
class Aggregated:
    """One value of many rows that belong to a row.

    Attributes:
        of: The feature of those rows; nothing where the rows themselves are counted.
        aggregation: How many values become one.
        path: From the table that the feature belongs to down to that of the rows.
        where: Which of the rows, where not all.
        plain_path: Whether no other path leads down to the same table; the tables between are then left out of the name.
    """

    of: Feature | None
    aggregation: Aggregation
    path: tuple[Relationship, ...]
    where: Condition | None = None
    plain_path: bool = True

    @property
    def table(self) -> str:
        """The table that the feature belongs to."""
        return self.path[0].parent

    @property
    def rows(self) -> str:
        """The table whose rows are aggregated."""
        return self.path[-1].child

    @property
    def name(self) -> str:
        """As Featuretools writes it: `MEAN(results.points)`, `COUNT(sessions WHERE device = tablet)`."""
        rows = self.rows if self.plain_path else ".".join(step.child_name for step in self.path)
        what = rows if self.of is None else f"{rows}.{self.of.name}"
        return f"{self.aggregation.symbol}({what}{'' if self.where is None else f' WHERE {self.where.name}'})"

    @property
    def sort(self) -> Sort:
        """What it holds."""
        return self.of.sort if self.aggregation.gives == "same" and self.of is not None else cast(Sort, self.aggregation.gives)

    @property
    def whole(self) -> bool:
        """Whether its numbers are whole."""
        return self.of.whole if self.aggregation.gives == "same" and self.of is not None else self.aggregation.whole

    @property
    def key(self) -> bool:
        """Never: what is chosen among keys may be worth knowing."""
        return False

    @property
    def depth(self) -> int:
        """How many steps it takes."""
        below = [part.depth for part in (self.of, self.where) if part is not None]
        return 1 + max(below, default=0)

    def explain(self) -> str:
        """Say what the feature is."""
        which = "" if self.where is None else f" with {self.where.name}"
        if self.of is None:
            return f"{self.aggregation.words} rows of {self.rows}{which} that belong to the row of {self.table}"
        what = f"{self.aggregation.words} {self.of.explain()}"
        return f"{what}, over the rows of {self.rows}{which} that belong to the row of {self.table}"


Feature = Identity | Direct | Derived | Aggregated


def root_of(feature: Feature) -> Feature:
    """Return a feature without the looking up around it."""
    while isinstance(feature, Direct):
        feature = feature.of
    return feature


def leaf_of(feature: Feature) -> Identity | None:
    """Return the column that a feature's values are chosen from unchanged, or nothing where they are computed."""
    while not isinstance(feature, Identity):
        if isinstance(feature, Derived) or (isinstance(feature, Aggregated) and feature.aggregation.gives != "same") or feature.of is None:
            return None
        feature = feature.of
    return feature


def columns_of(feature: Feature) -> set[tuple[str, str]]:
    """Return the tables and columns that a feature is computed from; keys and times of rows are not among them."""
    if isinstance(feature, Identity):
        return {(feature.table, feature.column)}
    found = set() if feature.of is None else columns_of(feature.of)
    if isinstance(feature, Aggregated) and feature.where is not None:
        found |= columns_of(feature.where.of)
    return found


def feature_to_json(feature: Feature) -> dict[str, Any]:
    """Return a feature as plain JSON values."""
    if isinstance(feature, Identity):
        return {"step": "column", **vars(feature)}
    if isinstance(feature, Direct):
        return {"step": "look_up", "of": feature_to_json(feature.of), "relationship": vars(feature.relationship)}
    if isinstance(feature, Derived):
        return {"step": "derive", "of": feature_to_json(feature.of), "by": feature.derivation.spec}
    where = feature.where
    return {
        "step": "aggregate",
        "of": None if feature.of is None else feature_to_json(feature.of),
        "by": feature.aggregation.spec,
        "path": [vars(step) for step in feature.path],
        "where": None if where is None else {"of": feature_to_json(where.of), "value": where.value},
        "plain_path": feature.plain_path,
    }


def feature_from_json(value: Mapping[str, Any]) -> Feature:
    """Return the feature that `feature_to_json` wrote."""
    step = value["step"]
    if step == "column":
        return Identity(**{key: part for key, part in value.items() if key != "step"})
    if step == "look_up":
        return Direct(feature_from_json(value["of"]), Relationship(**value["relationship"]))
    if step == "derive":
        return Derived(feature_from_json(value["of"]), build_part("derivation", value["by"]))
    where = value["where"]
    return Aggregated(
        None if value["of"] is None else feature_from_json(value["of"]),
        build_part("aggregation", value["by"]),
        tuple(Relationship(**part) for part in value["path"]),
        None if where is None else Condition(feature_from_json(where["of"]), where["value"]),
        value["plain_path"],
    )


def build_part(name: str, spec: Mapping[str, Any]) -> Any:
    """Return an aggregation or a derivation made from its spec, which it remembers: two of the same spec are equal."""
    part = family(name).build(spec)
    part.spec = dict(spec)
    return part
