"""Answers as a client gets them: a table of `prediction` and `probability_CLASS` columns becomes one JSON object a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

_PREDICTION, _PROBABILITY, _QUANTILE = "prediction", "probability_", "quantile_"


class AnswerWriter:
    """Writes the answers of one model.

    Args:
        schema: The columns of its answers.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.classes = tuple(name.removeprefix(_PROBABILITY) for name in schema.names if name.startswith(_PROBABILITY))
        self._probabilities = [place for place, name in enumerate(schema.names) if name.startswith(_PROBABILITY)]
        self._quantiles = [place for place, name in enumerate(schema.names) if name.startswith(_QUANTILE)]
        beside = {*self._probabilities, *self._quantiles}
        self._predictions = [place for place in range(len(schema.names)) if place not in beside]
        self._names = [schema.names[place].removeprefix(f"{_PREDICTION}_") for place in self._predictions]

    def write(self, table: pa.Table) -> list[dict[str, Any]]:
        """Return one object a row: `prediction`, and `probabilities` by class or `quantiles` by level where there are such.

        The numbers of float32 columns stay float32, whose shortest spelling JSON then holds.
        """
        predictions = self._written(table)
        if self._quantiles:
            names = [self.schema.names[place].removeprefix(_QUANTILE) for place in self._quantiles]
            rows = zip(*(table.column(place).to_pylist() for place in self._quantiles), strict=True)
            return [
                {_PREDICTION: value, "quantiles": dict(zip(names, row, strict=True))} for value, row in zip(predictions, rows, strict=True)
            ]
        if not self._probabilities:
            return [{_PREDICTION: value} for value in predictions]
        columns = [list(table.column(place).to_numpy()) for place in self._probabilities]
        classes = self.classes
        return [
            {_PREDICTION: value, "probabilities": dict(zip(classes, row, strict=True))}
            for value, row in zip(predictions, zip(*columns, strict=True), strict=True)
        ]

    def _written(self, table: pa.Table) -> Iterator[Any]:
        columns = [_values(table.column(place)) for place in self._predictions]
        if len(columns) == 1:
            return iter(columns[0])
        return (dict(zip(self._names, row, strict=True)) for row in zip(*columns, strict=True))

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of one answer."""
        parts = {name: _type_schema(self.schema.field(place).type) for name, place in zip(self._names, self._predictions, strict=True)}
        several = {"type": "object", "properties": parts, "required": list(parts)}
        prediction = next(iter(parts.values())) if len(parts) == 1 else several
        properties: dict[str, Any] = {_PREDICTION: prediction}
        if self.classes:
            if prediction.get("type") == "string":
                prediction["enum"] = list(self.classes)
            share = {"type": "number", "minimum": 0, "maximum": 1}
            values = {"type": "object", "properties": dict.fromkeys(self.classes, share), "required": list(self.classes)}
            properties["probabilities"] = values
        if self._quantiles:
            levels = {self.schema.names[place].removeprefix(_QUANTILE): place for place in self._quantiles}
            parts = {name: _type_schema(self.schema.field(place).type) for name, place in levels.items()}
            properties["quantiles"] = {"type": "object", "properties": parts, "required": list(parts)}
        return {"type": "object", "properties": properties, "required": list(properties)}


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Return a column's values, the float32 numbers within boxes as such: as Python's they would be spelled to twice the digits."""
    rows: list[Any] = column.to_pylist()
    if not (pa.types.is_list(column.type) and pa.types.is_struct(column.type.value_type)):
        return rows
    names = [field.name for field in column.type.value_type if field.type == pa.float32()]
    for box in (one for row in rows for one in row or ()):
        box |= {name: np.float32(box[name]) for name in names}
    return rows


def _type_schema(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_struct(kind):
        parts = {field.name: _type_schema(field.type) for field in kind}
        return {"type": "object", "properties": parts, "required": list(parts)}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return {"type": "array", "items": _type_schema(kind.value_type)}
    if pa.types.is_integer(kind):
        return {"type": "integer"}
    return {"type": "number"} if pa.types.is_floating(kind) else {"type": "string"}
