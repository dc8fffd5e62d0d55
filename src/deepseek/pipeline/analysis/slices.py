"""Where a model is worse: slices by the values of the inputs, the lengths of texts, the brightness of images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.columns import is_number, is_text
from deepseek.data.targets import TargetSpec
from deepseek.fields import Field, Kind
from deepseek.pipeline.analysis.predictions import Predictions
from deepseek.pipeline.analysis.quality import row_errors
from deepseek.reporting.facts import SliceFact, SliceFacts
from deepseek.statistics.slices import Feature, categories, quantile_bins, worst_slices

_LEAST_SHARE = 0.01
_LEAST_ROWS = 30
_KINDS = (Kind.NUMBER, Kind.CATEGORY, Kind.BINARY, Kind.TIMESTAMP, Kind.TEXT)


def slice_facts(spec: TargetSpec, predictions: Predictions, *, table: pa.Table, fields: Sequence[Field]) -> SliceFacts:
    """Return where the model is significantly worse: values and pairs of values of the inputs, lengths of texts, brightness of images."""
    errors, what = row_errors(spec, predictions)
    least = max(_LEAST_ROWS, math.ceil(_LEAST_SHARE * len(predictions)))
    features = _features(predictions, table, fields)
    found, tested = worst_slices(errors, features, least_rows=least, weight=predictions.row_weights)
    named = [
        SliceFact(" and ".join(f"{name} = {value}" for name, value in one.conditions), one.rows, one.error, one.others, one.p_value)
        for one in found[:20]
    ]
    return SliceFacts(what, tested, least, named)


def _features(predictions: Predictions, table: pa.Table, fields: Sequence[Field]) -> dict[str, Feature]:
    made = {f"brightness of {name}": quantile_bins(values) for name, values in predictions.brightness.items()}
    for item in fields:
        if item.name not in table.column_names or item.kind not in _KINDS:
            continue
        cut = feature_of(table[item.name].combine_chunks(), item.kind)
        if cut is not None:
            made[f"length of {item.name}" if item.kind is Kind.TEXT else item.name] = cut
    return made


def feature_of(column: pa.Array, kind: Kind) -> Feature | None:
    """Return a column cut into values: names as they are, numbers and times at their quantiles, texts by length; nothing for what has none.

    Args:
        column: The column's values.
        kind: What it is.
    """
    if kind is Kind.TEXT:
        return quantile_bins(_floats(pc.utf8_length(pc.cast(column, pa.string()))))
    if pa.types.is_temporal(column.type):
        return quantile_bins(_floats(pc.cast(pc.cast(column, pa.timestamp("us")), pa.int64())), write=_day)
    if kind is Kind.NUMBER and is_number(column.type):
        return quantile_bins(_floats(column))
    if is_text(column.type) or is_number(column.type) or pa.types.is_boolean(column.type):
        return categories(column.to_pylist())
    return None


def _day(micros: float) -> str:
    return str(np.datetime64(int(micros), "us").astype("datetime64[D]"))


def _floats(column: pa.Array) -> np.ndarray:
    return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
