"""From table to arrays: cleaners, transforms and target as one object, fitted on training rows, kept in the bundle, used in production."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from deepseek.data.cleaning.base import Cleaner
from deepseek.data.columns import get_column, is_text, parse_numbers, to_float64, with_columns
from deepseek.data.spellings import Spellings, respell
from deepseek.data.targets import TargetTransform, build_target
from deepseek.data.threads import AtOnce, threads_here
from deepseek.data.transforms import Array, InputSpec, Transform, group_fields
from deepseek.data.types import as_type, named_type, spelled_as, type_name
from deepseek.data.unknown_categories import Unknown
from deepseek.errors import DataError, InputError, RowError, rows_counted
from deepseek.fields import Field, Kind, Schema
from deepseek.registry import Spec, family, split_spec
from deepseek.statistics import Moments

if TYPE_CHECKING:
    from torch import nn

_SENSES = frozenset({Kind.TEXT, Kind.IMAGE, Kind.VOLUME, Kind.AUDIO})
"""Kinds whose absence a network meets as such, without a median or a code in its place."""
_NAMED = frozenset({Kind.CATEGORY, Kind.BINARY})
"""Kinds of which a value is a name."""
Batches = Callable[[], Iterator[pa.RecordBatch]]
"""Gives the training rows from their beginning, in the same order each time it is called."""


class Aside:
    """Rows that are set aside: how many and which, by reason."""

    def __init__(self) -> None:
        self._rows: dict[str, list[np.ndarray]] = {}

    def add(self, reason: str, rows: np.ndarray) -> None:
        """Note rows by their numbers."""
        if len(rows):
            self._rows.setdefault(reason, []).append(rows)

    @property
    def rows(self) -> dict[str, np.ndarray]:
        """The rows' numbers by reason."""
        return {reason: np.concatenate(parts) for reason, parts in self._rows.items()}

    @property
    def counts(self) -> dict[str, int]:
        """How many rows there are, by reason."""
        return {reason: sum(map(len, parts)) for reason, parts in self._rows.items()}

    def __str__(self) -> str:
        return ", ".join(f"{reason}: {count}" for reason, count in self.counts.items()) or "none was given"


class Preparation:
    """Everything between a table and a model.

    The same object prepares training, validation and test rows and, read from the bundle, a row of production. It learns in `fit`, from
    training rows only; nothing else changes it.

    Args:
        schema: The table's columns and its target.
        clean: The cleaners, in order.
        transforms: By column or by kind, the transforms that are not the usual ones.
        target: The kind of what is predicted, or a mapping with its `type` and settings, or nothing.
        weight: The column that says how much a row weighs, or nothing; it is no input. Weights are divided by their mean over the training
            rows: only their ratios count, and tiny ones lose no digits in float32.
        spellings: By column, what a value is to be instead of what stands there.

    Attributes:
        schema: As given.
        cleaners: The cleaners.
        transforms: The transforms, one an input; fitted by `fit`.
        target: The target's transform, or nothing.
        left_out: Columns that no transform treats, and why.
        dropped: How many training rows each cleaner left out, and how many had no target; known after `fit`.
        types: The Arrow type that each column used had in training, by name; known after `fit`.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        clean: Sequence[Spec] = (),
        transforms: Mapping[str, Spec] | None = None,
        target: Spec | None = None,
        weight: str | None = None,
        spellings: Spellings | None = None,
    ) -> None:
        self.schema = schema
        self._kinds = {field.name: field.kind for field in schema}
        self.spellings = {name: dict(meant) for name, meant in (spellings or {}).items()}
        self.weight = weight
        if weight is not None:
            schema[weight]
        self._specs = [family("cleaner").validate(spec) for spec in clean]
        free = target is not None and family("target").get(split_spec("target", target)[0]).in_inputs
        self._target_spec = family("target").validate(target) if target and (schema.target or free) else None
        self.target = self._new_target()
        usual = {} if self.target is None else {kind.value: name for kind, name in self.target.transforms.items()}
        self._overrides = {**usual, **(transforms or {})}
        self.cleaners: list[Cleaner] = []
        self.transforms: list[Transform] = []
        self.dropped: dict[str, int] = {}
        self.types: dict[str, pa.DataType] = {}
        self._unknown: Unknown | None = None
        self._weight_mean = 1.0
        self._complete: tuple[str, ...] = ()
        self._begin()

    def _new_target(self) -> TargetTransform | None:
        return None if self._target_spec is None else build_target(self._target_spec, self.schema.targets)

    def _begin(self) -> None:
        fields = [replace(field, kind=Kind.ID) if field.name == self.weight else field for field in self.schema]
        unused = group_fields(Schema(tuple(fields), self.schema.target), self._overrides, weighted=self.weight is not None).left_out
        # as ids, columns that no transform treats are cleaned by nobody, and so need not be there in production
        fields = [replace(field, kind=Kind.ID) if field.name in unused else field for field in fields]
        self.cleaners = [family("cleaner").build(spec) for spec in self._specs]
        for cleaner in self.cleaners:
            cleaner.begin(Schema(tuple(fields), self.schema.target))
            fields += cleaner.added
        self._grouped = group_fields(Schema(tuple(fields), self.schema.target), self._overrides, weighted=self.weight is not None)
        self._grouped.left_out = unused
        self.transforms = self._grouped.build()

    @property
    def left_out(self) -> dict[str, str]:
        """Columns that no transform treats, and why."""
        return dict(self._grouped.left_out)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of the training rows; known after `fit`."""
        own = () if self.target is None else self.target.warnings
        return (*(warning for transform in self.transforms for warning in transform.warnings), *own)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a table must have to be prepared for prediction."""
        return tuple(field.name for field in self.schema.inputs if field.name not in {*self.left_out, self.weight})

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns that were text in training: what `Source.as_text` is to be asked for."""
        return tuple(name for name, kind in self.types.items() if is_text(kind))

    @property
    def inputs(self) -> dict[str, InputSpec]:
        """What a model meets, by name."""
        return {spec.name: spec for transform in self.transforms for spec in transform.inputs}

    @property
    def placed(self) -> dict[str, InputSpec]:
        """What an augmentation meets, by name: the inputs, and targets that have a place in the picture."""
        return {**self.inputs, **(self.target.described if self.target else {})}

    def graph(self) -> dict[str, nn.Module]:
        """Return the part of the transforms that runs inside the model, by input name."""
        modules = {transform.inputs[0].name: transform.module() for transform in self.transforms}
        return {name: module for name, module in modules.items() if module is not None}

    def fit(self, batches: Batches) -> Preparation:
        """Learn from the training rows: one pass for each cleaner, then one for target and transforms (two if a transform uses the target).

        Args:
            batches: Gives the training rows, and no others.

        Raises:
            DataError: There is no row, no row weighs anything, or the target cannot be learned.
        """
        self._begin()
        self.types = self._types_of(next(batches(), None))
        if self.target:
            self.target = self._new_target()
        for index, cleaner in enumerate(self.cleaners):
            for batch, rows in self.training_rows(batches(), layers=index):
                with rows_counted(rows):
                    cleaner.observe(batch)
            cleaner.finish()
        aside = Aside()
        weights = Moments()
        seen, senses = 0, [field.name for field in self.schema.inputs if field.kind in _SENSES and field.name in self.columns]
        lacking: set[str] = set()
        with AtOnce(threads_here()) as at_once:
            for batch, rows in self.training_rows(batches(), aside=aside):
                seen += batch.num_rows
                lacking.update(name for name in senses if get_column(batch, name).null_count)
                with rows_counted(rows):
                    self._observe(batch, at_once)
                    if self.weight is not None:
                        weights.update(self._raw_weights(batch, self.weight))
        if not seen:
            raise DataError(f"there is no training row ({aside})", hint="look at the split, the target and the cleaners")
        if self.weight is not None:
            self._weight_mean = float(weights.mean[0])
            if not self._weight_mean:
                raise DataError(f"the weights {self.weight!r} of all training rows are 0", hint="leave data.weight out to weigh rows alike")
        self._complete = tuple(name for name in senses if name not in lacking)
        self._finish(batches)
        self.dropped = aside.counts
        return self

    def _finish(self, batches: Batches) -> None:
        if self.target:
            self.target.finish()
        if any(transform.uses_target for transform in self.transforms):
            self._observe_target(self.training_rows(batches()))
        for transform in self.transforms:
            transform.finish()
        if self.target:
            self.target.follow(self.transforms)

    def _types_of(self, batch: pa.RecordBatch | None) -> dict[str, pa.DataType]:
        used = {*self.columns, *self.schema.target, self.weight}
        types = {} if batch is None else {field.name: field.type for field in batch.schema if field.name in used and type_name(field.type)}
        numbers = {field.name for field in self.schema.inputs if field.kind is Kind.NUMBER}
        return {name: pa.float64() if name in numbers and is_text(kind) else kind for name, kind in types.items()}

    def typed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows of any origin with the types of training, where no value changes by that; text that is to be numbers is read.

        Where a column of names has a value that is none of its type, the others are spelled as those of training all the same.
        Values whose other spelling is meant (`spellings`) are put right first.

        Raises:
            DataError: The text in a column of numbers is none.
        """
        batch = self._respelled(batch)
        schema, changed = batch.schema, {}
        for name, kind in self.types.items():
            place = schema.get_field_index(name)
            if place < 0 or schema.field(place).type == kind:
                continue
            given = batch.column(place)
            column = as_type(given, kind)
            if column is given and self._kinds[name] in _NAMED:
                column = spelled_as(given, kind, name)
            if is_text(column.type) and self._kinds[name] is Kind.NUMBER and name not in self.schema.target:
                column = parse_numbers(column.cast(pa.string()), name)
            changed[name] = column
        return with_columns(batch, changed)

    def _respelled(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows with values put right, in columns that hold text: in others no other spelling can stand."""
        if not self.spellings:
            return batch
        texts = {}
        for name in self.spellings:
            place = batch.schema.get_field_index(name)
            if place >= 0 and is_text(self.types.get(name, pa.null())):
                texts[name] = as_type(batch.column(place), pa.string())
        batch = with_columns(batch, texts)
        held = {field.name for field in batch.schema if is_text(getattr(field.type, "value_type", field.type))}
        return respell(batch, {name: meant for name, meant in self.spellings.items() if name in held})

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return the arrays of rows of any origin, by input name; every row is kept.

        Raises:
            ColumnError: A column is missing.
            DataError: A value cannot be what its column is.
        """
        return self.arrays(self.cleaned(batch))

    def cleaned(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows of any origin with the types of training, as the cleaners leave them; raises as `apply` does."""
        batch = self.typed(batch)
        for cleaner in self.cleaners:
            batch = cleaner.apply(batch)
        return batch

    def arrays(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return the arrays of rows that the cleaners have been through; raises as `apply` does."""
        arrays = {name: array for transform in self.transforms for name, array in transform.apply(batch).items()}
        self.count_unknown(self.unknown(batch))
        if self._unknown is not None:
            self._unknown.lack({name: (get_column(batch, name).null_count, batch.num_rows) for name in self._complete})
        return arrays

    def without_target(self) -> Preparation:
        """Return the same preparation for rows that have neither target nor weight: those that are only answered."""
        made = copy(self)
        made.target, made.weight = None, None
        return made

    def watched(self, unknown: Unknown) -> Self:
        """Return the same preparation, which tells of the categories that training did not know in the rows that it prepares."""
        made = copy(self)
        made._unknown = unknown  # noqa: SLF001 - a copy of itself
        return made

    def unknown(self, batch: pa.RecordBatch) -> dict[str, tuple[int, int]]:
        """Return the unknown categories of cleaned rows by column, as `Transform.unknown` counts them; nothing where nobody is told."""
        if self._unknown is None:
            return {}
        return {name: counts for transform in self.transforms for name, counts in transform.unknown(batch).items()}

    def count_unknown(self, counts: Mapping[str, tuple[int, int]]) -> None:
        """Tell of unknown categories, where anybody is to be told."""
        if self._unknown is not None:
            self._unknown.add(counts)

    def started(self) -> Preparation:
        """Return a preparation for one pass over one table, whose batches `apply` then takes in order, each once.

        What cleaners carry from batch to batch (the last value, for `forward_fill`) is that pass's own: the size of the batches does not
        matter, and neither do other passes at the same time.
        """
        made = copy(self)
        made.cleaners = self._started(None)
        return made

    def unreadable(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array `[rows]`: true where an input of cleaned rows cannot be read (a corrupt image); as dear as `apply`."""
        mask = np.zeros(batch.num_rows, dtype=bool)
        for transform in self.transforms:
            mask |= transform.bad(batch)
        return mask

    def weights(self, batch: pa.RecordBatch) -> np.ndarray | None:
        """Return how much each row weighs beside the mean training row, float32 `[rows]`, or nothing where rows weigh alike.

        Raises:
            ColumnError: The column is missing.
            DataError: A weight is missing, infinite or negative.
        """
        return None if self.weight is None else (self._raw_weights(batch, self.weight) / self._weight_mean).astype(np.float32)

    @staticmethod
    def _raw_weights(batch: pa.RecordBatch, column: str) -> np.ndarray:
        weight = to_float64(get_column(batch, column), column)
        if len(wrong := np.flatnonzero(~(weight >= 0))):
            raise RowError(wrong[0], f": the weight {column!r} is {weight[wrong[0]]}", hint="weights are finite and not negative")
        return weight

    def to_json(self) -> dict[str, Any]:
        """Return arguments and everything fitted, as plain JSON values: what a bundle keeps. No row of the data is in it."""
        return {
            "schema": self.schema.to_json(),
            "weight": self.weight,
            "spellings": self.spellings,
            "types": {name: type_name(kind) for name, kind in self.types.items()},
            "weight_mean": self._weight_mean,
            "complete": list(self._complete),
            "cleaners": [{"spec": spec, "state": part.to_json()} for spec, part in zip(self._specs, self.cleaners, strict=True)],
            "overrides": self._overrides,
            "transforms": [
                {"spec": spec, "fields": [field.to_json() for field in fields], "name": name, "state": part.to_json()}
                for (spec, fields, name), part in zip(self._grouped.parts, self.transforms, strict=True)
            ],
            "left_out": self.left_out,
            "dropped": self.dropped,
            "target": None
            if self.target is None
            else {"kind": self.target.kind, "spec": self._target_spec, "state": self.target.to_json()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preparation:
        """Return the fitted preparation that `to_json` wrote."""
        made = cls(
            Schema.from_json(value["schema"]),
            clean=[part["spec"] for part in value["cleaners"]],
            transforms=value["overrides"],
            target=value["target"].get("spec", value["target"]["kind"]) if value["target"] else None,
            weight=value["weight"],
            spellings=value.get("spellings"),
        )
        for cleaner, part in zip(made.cleaners, value["cleaners"], strict=True):
            cleaner.load_json(part["state"])
        if made.target:
            made.target.load_json(value["target"]["state"])
        made._grouped.parts = [(part["spec"], tuple(map(Field.from_json, part["fields"])), part["name"]) for part in value["transforms"]]
        made._grouped.left_out = dict(value["left_out"])
        made.transforms = [part.load_json(given["state"]) for part, given in zip(made._grouped.build(), value["transforms"], strict=True)]
        if made.target:
            made.target.follow(made.transforms)
        made.dropped = dict(value["dropped"])
        made.types = {name: named_type(kind) for name, kind in value["types"].items()}
        made._weight_mean = float(value["weight_mean"])
        made._complete = tuple(value.get("complete", ()))
        return made

    def _observe(self, batch: pa.RecordBatch, at_once: AtOnce) -> None:
        learners: list[TargetTransform | Transform] = [self.target] if self.target else []
        learners += [transform for transform in self.transforms if not transform.uses_target]
        at_once.run([partial(learner.observe, batch) for learner in learners])

    def _observe_target(self, batches: Iterator[tuple[pa.RecordBatch, np.ndarray]]) -> None:
        if self.target is None:
            raise InputError("a transform learns from the target, and there is none", hint="name data.target, or choose another encoding")
        for batch, rows in batches:
            with rows_counted(rows):
                target = self.target.columns_for_means(batch)
                for transform in self.transforms:
                    if transform.uses_target:
                        transform.observe(batch)
                        transform.observe_target(target)

    def training_rows(
        self, batches: Iterator[pa.RecordBatch], *, layers: int | None = None, aside: Aside | None = None
    ) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        """Yield training rows as the cleaners leave them, and which of the given rows they are; cleaners may drop rows here, and only here.

        Args:
            batches: The training rows.
            layers: How many cleaners are asked; all where not given.
            aside: Is told of the dropped rows.
        """
        aside = Aside() if aside is None else aside
        cleaners = self._started(layers)
        for given, numbers in _numbered(batches):
            with rows_counted(numbers):
                batch, rows = self.with_target(self.typed(given), numbers, aside)
            for layer, cleaner in enumerate(cleaners):
                with rows_counted(rows):
                    drop = cleaner.drop(batch)
                    batch = cleaner.apply(batch)
                if drop is not None:
                    batch, rows = _only(batch, rows, ~drop, aside, f"clean[{layer}] {self._specs[layer]['type']}")
            if batch.num_rows:
                yield batch, rows

    def other_rows(self, batches: Iterator[pa.RecordBatch], *, aside: Aside | None = None) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        """Yield validation or test rows as the cleaners leave them, and which of the given rows they are.

        Args:
            batches: The rows.
            aside: Is told of the rows without a target: they, and no others, are set aside.
        """
        aside = Aside() if aside is None else aside
        cleaners = self._started(None)
        for given, numbers in _numbered(batches):
            with rows_counted(numbers):
                batch, rows = self.with_target(self.typed(given), numbers, aside)
            with rows_counted(rows):
                for cleaner in cleaners:
                    batch = cleaner.apply(batch)
            if batch.num_rows:
                yield batch, rows

    def _started(self, layers: int | None) -> list[Cleaner]:
        """Return copies of the cleaners for one pass: what they carry from batch to batch must not reach `apply` on other rows."""
        cleaners = [deepcopy(cleaner) for cleaner in self.cleaners[:layers]]
        for cleaner in cleaners:
            cleaner.start()
        return cleaners

    def with_target(self, batch: pa.RecordBatch, rows: np.ndarray, aside: Aside) -> tuple[pa.RecordBatch, np.ndarray]:
        """Return the rows that have a target."""
        if self.target is None:
            return batch, rows
        return _only(batch, rows, ~self.target.missing(batch), aside, "target missing")


def _numbered(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    start = 0
    for batch in batches:
        yield batch, np.arange(start, start + batch.num_rows)
        start += batch.num_rows


def _only(batch: pa.RecordBatch, rows: np.ndarray, keep: np.ndarray, aside: Aside, reason: str) -> tuple[pa.RecordBatch, np.ndarray]:
    if keep.all():
        return batch, rows
    aside.add(reason, rows[~keep])
    return batch.filter(pa.array(keep)), rows[keep]
