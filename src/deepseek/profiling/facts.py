"""What a survey found, as plain JSON values."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from deepseek.fields import Field, Kind, target_kind
from deepseek.profiling.associations import comparables, leaks, missing_by_target, pairs, with_target
from deepseek.profiling.measures import NameMeasure
from deepseek.profiling.survey import Column, Survey

SHOWN_PAIRS = 50
SHOWN_CLASSES = 100


def survey_facts(seen: Survey, *, target: str | None = None) -> dict[str, Any]:
    """Return what a survey found: `rows`, `malformed`, `repeated_rows`, `sample_rows`, `columns`, `pairs`, and `target` where one is named.

    Args:
        seen: The survey.
        target: The column to predict.
    """
    return {
        "rows": seen.rows,
        "malformed": seen.malformed,
        "repeated_rows": seen.repeats,
        "sample_rows": seen.sample.num_rows,
        "columns": [_column_facts(column, seen) for column in seen.columns.values()],
        "pairs": pairs([one for one in comparables(seen.columns, seen.sample) if one.name != target])[:SHOWN_PAIRS],
        "target": _target_facts(target, seen) if target else None,
    }


def _column_facts(column: Column, seen: Survey) -> dict[str, Any]:
    present = seen.rows - column.missing
    return {
        "name": column.name,
        "type": _type_name(column.type),
        "kind": column.kind.value,
        "reason": column.reason,
        "missing": column.missing,
        "missing_share": column.missing / seen.rows,
        "distinct": min(column.distinct, present),
        "distinct_exact": column.distinct_exact,
        "constant": column.distinct <= 1,
        "id_like": column.kind is Kind.ID or (column.kind is Kind.CATEGORY and column.distinct >= 0.95 * present >= 100),
        **column.measure.facts(),
    }


def _target_facts(name: str, seen: Survey) -> dict[str, Any]:
    column, sample = seen.columns[name], seen.sample
    kind, reason = target_kind(sample.column(name), Field(name, column.kind))
    facts: dict[str, Any] = {"column": name, "kind": kind, "reason": reason, "missing": column.missing}
    if kind == "labels":
        return facts | {"associations": [], "leaks": [], "missing_by_target": []}
    if kind != "values":
        facts["classes"] = _classes(column, sample.column(name))
    goal, *others = comparables(seen.columns, sample, first=[name], named=name if kind != "values" else None)
    plain = sample.select([field for field in sample.column_names if not pa.types.is_nested(sample.column(field).type)])
    return facts | {
        "associations": with_target(goal, others),
        "leaks": leaks(plain, name, kind),
        "missing_by_target": missing_by_target(plain, name, kind),
    }


def _classes(column: Column, sample: pa.ChunkedArray) -> list[dict[str, Any]]:
    """Return the classes with how many rows each has, the most frequent first; from the sample where the passes counted no names."""
    names = column.measure if isinstance(column.measure, NameMeasure) else NameMeasure(sample, counted=False)
    total = names.counts.total
    return [{"value": value, "rows": rows, "share": rows / total} for value, rows in names.counts.most_common(SHOWN_CLASSES)]


def _type_name(kind: pa.DataType) -> str:
    if isinstance(kind, pa.FixedShapeTensorType):
        return f"{kind.value_type} {list(kind.shape)}"
    return str(kind)
