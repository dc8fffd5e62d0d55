"""Targets of one class, several labels or some numbers a row, fitted on training rows only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepseek.data.columns import get_column, spell, to_float64
from deepseek.data.targets.base import TargetTransform
from deepseek.data.targets.classes import sort_classes
from deepseek.data.targets.spec import TargetSpec
from deepseek.errors import ColumnError, DataError, InputError, RowError
from deepseek.fields import Field
from deepseek.statistics import Moments

if TYPE_CHECKING:
    import pyarrow as pa

    from deepseek.data.transforms.base import Array


class PlainTarget(TargetTransform):
    """One class, any number of labels, or one or several numbers a row.

    Classes are sorted: numbers by value, everything else as text, so that their order depends on nothing but their names. For two classes
    the usual words go first and last whatever their spelling: `no` before `yes`, `false` before `true`, `negative` before `positive`; the
    second is the positive one.

    Args:
        fields: The target columns.
    """

    def __init__(self, fields: Sequence[Field], /) -> None:
        super().__init__(fields)
        if not fields or (self.kind in ("binary", "classes") and len(fields) != 1):
            what = f"a target of kind {self.kind!r} is given {len(fields)} columns"
            raise InputError(what, hint="binary and classes take exactly one column")
        self._counts: dict[str, int] = {}
        self._integers = True
        self._rows = 0
        self._moments = Moments(len(self.columns))
        self._low, self._high = np.full(len(self.columns), np.inf), np.full(len(self.columns), -np.inf)
        self._codes: dict[str, int] = {}

    def missing(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array `[rows]`: true where a target is null or NaN; such rows can neither be trained nor measured on.

        Raises:
            DataError: A value of a regression target is infinite.
        """
        mask = np.zeros(batch.num_rows, dtype=bool)
        for name in self.columns:
            column = get_column(batch, name)
            mask |= (
                np.isnan(_numbers(column, name))
                if self.kind == "values"
                else column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
            )
        return mask

    def unseen(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a boolean array `[rows]`: true where a class or label was not among the training rows (missing targets are not)."""
        if self.kind == "values" or (self.kind == "labels" and len(self.columns) > 1):
            return np.zeros(batch.num_rows, dtype=bool)
        codes, rows = self._coded(batch)
        mask = np.zeros(batch.num_rows, dtype=bool)
        mask[rows[codes < 0]] = True
        mask &= ~self.missing(batch)
        return mask

    def observe(self, batch: pa.RecordBatch) -> None:
        """Look at a batch of training rows that have a target."""
        self._rows += batch.num_rows
        if self.kind == "values":
            values = self._values(batch)
            self._moments.update(values)
            self._low = np.minimum(self._low, values.min(axis=0, initial=np.inf))
            self._high = np.maximum(self._high, values.max(axis=0, initial=-np.inf))
        elif self.kind == "labels" and len(self.columns) > 1:
            for name, count in zip(self.columns, self._flags(batch).sum(axis=0), strict=True):
                self._counts[name] = self._counts.get(name, 0) + int(count)
        else:
            texts, indices, _, integers = self._texts(batch)
            self._integers = self._integers and integers
            for text, count in zip(texts, np.bincount(indices[indices >= 0], minlength=len(texts)), strict=True):
                if text is not None and count:
                    self._counts[text] = self._counts.get(text, 0) + int(count)

    def finish(self) -> None:
        """Settle the classes, or mean and spread.

        Raises:
            DataError: No row has a target, there is only one class or value, or there are more than two classes for a binary target.
        """
        what = ", ".join(map(repr, self.columns))
        if not self._rows:
            raise DataError(f"no training row has a target: {what} is missing everywhere", hint="is this the column to predict?")
        if self.kind == "values":
            self._require_spread()
            mean, std = tuple(self._moments.mean.tolist()), tuple(self._moments.std().tolist())
            self._set(TargetSpec("values", self.columns, rows=self._rows, mean=mean, std=std))
            return
        flags = self.kind == "labels" and len(self.columns) > 1
        classes = self.columns if flags else tuple(sort_classes(self._counts))
        if self.kind != "labels" and len(classes) < 2:
            raise DataError(f"all {self._rows} training rows of {what} are {classes[0]!r}", hint="there is nothing to tell apart")
        if self.kind == "binary" and len(classes) > 2:
            raise DataError(
                f"{what} has {len(classes)} classes ({', '.join(classes[:5])} …), not two",
                hint="use the task multiclass, or regression for numbers",
            )
        if not classes:
            raise DataError(f"no training row of {what} has a label", hint="is this the column to predict?")
        integers = self._integers and not flags
        counts = tuple(self._counts[name] for name in classes)
        self._set(TargetSpec(self.kind, self.columns, classes, counts, self._rows, integer_classes=integers))

    def _require_spread(self) -> None:
        for name, low, high, std in zip(self.columns, self._low, self._high, self._moments.std(), strict=True):
            if low == high:
                raise DataError(f"all {self._rows} training rows of {name!r} are {low:g}", hint="there is nothing to predict")
            if not std > np.spacing(max(abs(low), abs(high))):
                raise DataError(
                    f"the values of {name!r} lie between {low!r} and {high!r}, which float64 hardly tells apart",
                    hint="subtract a constant, or give the target in another unit",
                )

    def _set(self, spec: TargetSpec) -> None:
        super()._set(spec)
        self._codes = {name: code for code, name in enumerate(spec.classes)}

    def apply(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Return `target`: float32 0/1 or values `[rows]`, class codes int64 `[rows]`, 0/1 float32 `[rows, labels]`, or values `[rows, n]`.

        Values are in standard deviations from the training mean. That is reckoned here, in float64: float32 has 24 bits, and a large mean
        would leave none of them for what is to be predicted.

        Raises:
            DataError: A class was not among the training rows, or a target is missing.
        """
        return {"target": self._array(batch)}

    def _array(self, batch: pa.RecordBatch) -> np.ndarray:
        if self.kind == "values":
            values = ((self._values(batch) - np.array(self.spec.mean)) / np.array(self.spec.std)).astype(np.float32)
            return np.asarray(values[:, 0] if len(self.columns) == 1 else values)
        if self.kind == "labels" and len(self.columns) > 1:
            return self._flags(batch).astype(np.float32)
        codes, rows = self._coded(batch)
        if len(bad := np.flatnonzero(codes < 0)):
            value = batch.column(batch.schema.get_field_index(self.columns[0]))[int(rows[bad[0]])].as_py()
            raise RowError(
                rows[bad[0]],
                f": {value!r} is no class of {self.columns[0]!r} that training knew",
                hint=f"known: {', '.join(self.spec.classes[:10])}; split so that each class has training rows, or set such rows aside",
            )
        if self.kind == "labels":
            many = np.zeros((batch.num_rows, len(self.spec.classes)), dtype=np.float32)
            many[rows, codes] = 1
            return many
        return codes if self.kind == "classes" else codes.astype(np.float32)

    def columns_for_means(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return the target as float64 `[rows, k]`, as `Transform.observe_target` takes it."""
        target = self._array(batch)
        if self.kind == "classes":
            target = np.eye(len(self.spec.classes))[target]
        return target.reshape(len(target), -1).astype(np.float64)

    def _coded(self, batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
        """Return a code for each label that stands in the batch (-1: unknown), and its row."""
        self.spec  # noqa: B018  raises where nothing is fitted
        texts, indices, rows, _ = self._texts(batch)
        table = np.array([*(-1 if text is None else self._codes.get(text, -1) for text in texts), -1], dtype=np.int64)
        return table[indices], rows

    def _texts(self, batch: pa.RecordBatch) -> tuple[list[str | None], np.ndarray, np.ndarray, bool]:
        """Return the different names, each label's index into them and its row, and whether the table holds them as whole numbers."""
        column, rows = get_column(batch, self.columns[0]), np.arange(batch.num_rows)
        if self.kind == "labels":
            column, rows = _flatten(column, self.separator)
        texts, indices = spell(column, self.columns[0])
        value_type = getattr(column.type, "value_type", column.type)
        return texts, indices, rows, _holds_integers(str(value_type), texts)

    def _values(self, batch: pa.RecordBatch) -> np.ndarray:
        return np.column_stack([_numbers(get_column(batch, name), name) for name in self.columns])

    def _flags(self, batch: pa.RecordBatch) -> np.ndarray:
        values = self._values(batch)
        if not np.isin(values, (0.0, 1.0)).all():
            row, column = np.argwhere(~np.isin(values, (0.0, 1.0)))[0]
            raise RowError(row, f": the label {self.columns[column]!r} is {values[row, column]}", hint="labels are 0 or 1")
        return values


class BinaryTarget(PlainTarget):
    """One column of two classes, of which the second is the positive one.

    Args:
        fields: The column.
    """

    kind = "binary"


class ClassesTarget(PlainTarget):
    """One column of several classes.

    Args:
        fields: The column.
    """

    kind = "classes"


class LabelsTarget(PlainTarget):
    """Any number of labels a row: one column of lists, or of texts with separators, or several columns of 0 and 1.

    Args:
        fields: The columns.
        separator: What stands between the labels of one text.
    """

    kind = "labels"

    def __init__(self, fields: Sequence[Field], /, *, separator: str = ",") -> None:
        super().__init__(fields)
        self.separator = separator


class ValuesTarget(PlainTarget):
    """One or several columns of numbers.

    Args:
        fields: The columns.
    """

    kind = "values"


def _numbers(column: pa.Array, name: str) -> np.ndarray:
    """Return float64 `[rows]`, NaN where missing."""
    values = to_float64(column, name)
    known = np.isnan(values) & ~column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(known):
        given = column[int(row)].as_py()
        if str(given).strip().casefold() not in ("", "nan"):
            raise RowError(row, f": the target {name!r} is {given}", hint="correct or remove targets that are infinite or beyond 3e38")
    return values


def _holds_integers(kind: str, texts: Sequence[str | None]) -> bool:
    names = [text for text in texts if text is not None]
    whole = all(name.removeprefix("-").isdigit() for name in names)
    return kind.startswith(("int", "uint")) or (kind.startswith(("float", "double", "halffloat", "decimal")) and whole)


def _flatten(column: pa.Array, separator: str) -> tuple[pa.Array, np.ndarray]:
    """Return all labels one after the other, and the row of each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = pc.split_pattern(column, separator)
    elif not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise ColumnError(f"a column of labels holds {kind}", hint="give lists, texts with separators, or several columns of 0 and 1")
    labels, rows = pc.list_flatten(column), pc.list_parent_indices(column).to_numpy()
    if pa.types.is_string(labels.type) or pa.types.is_large_string(labels.type):
        labels = pc.utf8_trim_whitespace(labels)
        kept = pc.fill_null(pc.not_equal(labels, ""), fill_value=False)
        return labels.filter(kept), rows[kept.to_numpy(zero_copy_only=False)]
    return labels, rows
