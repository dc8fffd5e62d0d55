"""What a column is: its name, its kind and its shape, and the schema of a table. No vocabulary and no statistic lives here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from deepseek.errors import ColumnError, InputError, UnknownNameError


class Kind(StrEnum):
    """The kinds of columns that the framework knows."""

    NUMBER = "number"
    CATEGORY = "category"
    BINARY = "binary"
    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    SERIES = "series"
    VOLUME = "volume"
    BOXES = "boxes"
    MASK = "mask"
    TAGS = "tags"
    ID = "id"
    TIMESTAMP = "timestamp"


@dataclass(frozen=True, slots=True)
class Field:
    """One column.

    Attributes:
        name: The column's name in the table.
        kind: What it holds.
        nullable: Whether a row may lack it.
        shape: The shape of one row's value: `()` for a scalar, `(height, width, channels)` for an image; empty where it varies.

    Example:
        >>> Field("age", Kind.NUMBER).to_json()
        {'name': 'age', 'kind': 'number', 'nullable': True, 'shape': []}
    """

    name: str
    kind: Kind
    nullable: bool = True
    shape: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the field as plain JSON values."""
        return {**asdict(self), "kind": self.kind.value, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Field:
        """Return the field that `to_json` wrote."""
        return cls(value["name"], parse_kind(value["kind"]), bool(value["nullable"]), tuple(value["shape"]))


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a table, in order, and which of them are to be predicted.

    Attributes:
        fields: Every column, the targets included.
        target: The names of the target columns; empty where there is none.

    Raises:
        ColumnError: A name stands twice, or a target is not among the fields.
    """

    fields: tuple[Field, ...]
    target: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = Counter(field.name for field in self.fields)
        doubled = sorted(name for name, count in counts.items() if count > 1)
        if doubled:
            raise ColumnError(f"the table has more than one column named {', '.join(map(repr, doubled))}", hint="rename one of them")
        for name in self.target:
            self[name]

    def __getitem__(self, name: str) -> Field:
        for field in self.fields:
            if field.name == name:
                return field
        raise UnknownNameError("column", name, (field.name for field in self.fields))

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of every column, in order."""
        return tuple(field.name for field in self.fields)

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The columns that are not targets and not ids, in order."""
        return tuple(field for field in self.fields if field.name not in self.target and field.kind is not Kind.ID)

    @property
    def targets(self) -> tuple[Field, ...]:
        """The target columns, in the order of `target`."""
        return tuple(self[name] for name in self.target)

    def to_json(self) -> dict[str, Any]:
        """Return the schema as plain JSON values."""
        return {"fields": [field.to_json() for field in self.fields], "target": list(self.target)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Schema:
        """Return the schema that `to_json` wrote."""
        return cls(tuple(Field.from_json(field) for field in value["fields"]), tuple(value["target"]))


def parse_kind(name: str) -> Kind:
    """Return the kind of this name.

    Raises:
        UnknownNameError: There is no such kind.
        InputError: It is no text at all.
    """
    if not isinstance(name, str):
        raise InputError(f"a kind of column is given as {name!r}", hint=f"allowed: {', '.join(Kind)}")
    try:
        return Kind(name)
    except ValueError:
        raise UnknownNameError("kind of column", name, [kind.value for kind in Kind]) from None
