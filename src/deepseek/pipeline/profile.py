"""What a table holds, before anything is trained on it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image, ImageOps

from deepseek.artifacts import write_text
from deepseek.data.columns import is_text
from deepseek.data.sources import open_source
from deepseek.errors import UnknownNameError
from deepseek.fields import Field, Kind, target_kind
from deepseek.pipeline.drift import compare_surveys
from deepseek.pipeline.findings import findings_of
from deepseek.pipeline.links import comparables, leaks, missing_by_target, pairs, with_target
from deepseek.pipeline.measures import ImageMeasure, NameMeasure
from deepseek.pipeline.survey import Column, Survey, survey
from deepseek.reporting.profile import profile_page

SHOWN_PAIRS = 50
SHOWN_CLASSES = 100
SHEET_COLUMNS, SHEET_CELL = 6, 88


def profile(
    source: Any,
    *,
    target: str | None = None,
    against: Any = None,
    output: str | PathLike[str] | None = None,
) -> dict[str, Any]:
    """Say what a table holds, and what to look at before training on it.

    The table is read twice, in bounded memory, whatever its size. Counts, means, ends, outliers and repeats are exact; quantiles,
    relations between columns and comparisons with another table come from a uniform sample of at most 50,000 rows.

    Args:
        source: The rows: a path or a table, as for `train`.
        target: The column to predict: adds its balance, what goes together with it, and columns that may give it away.
        against: Other rows, such as this month's: adds what drifted from `source`, the worst first.
        output: An HTML file for the same with pictures; an existing one is replaced.

    Returns:
        Plain JSON values: `rows`, `repeated_rows`, `columns` (a list), `findings` (the gravest first), `pairs`, and `target` and `drift`
        where they were asked for.

    Raises:
        UnknownNameError: There is no such column.
        DataError: The rows cannot be read, or there is none.

    Example:
        ```python
        found = deepseek.profile("customers.csv", target="churned")
        print([finding["what"] for finding in found["findings"]])
        ```
    """
    opened = open_source(source)
    names = opened.schema().names
    if target is not None and target not in names:
        raise UnknownNameError("column", target, names)
    seen = survey(opened)
    facts: dict[str, Any] = {
        "source": _name_of(source),
        "rows": seen.rows,
        "malformed": seen.malformed,
        "repeated_rows": seen.repeats,
        "sample_rows": seen.sample.num_rows,
        "columns": [_facts_of(column, seen) for column in seen.columns.values()],
        "pairs": pairs([one for one in comparables(seen.columns, seen.sample) if one.name != target])[:SHOWN_PAIRS],
        "target": _target_facts(target, seen) if target else None,
        "drift": None,
    }
    if against is not None:
        texts = [name for name, column in seen.columns.items() if is_text(column.type)]
        other = survey(open_source(against).as_text(texts))
        facts["drift"] = {"against": _name_of(against), **compare_surveys(seen, other)}
    facts["findings"] = findings_of(facts)
    if output is not None:
        write_text(Path(output), profile_page(facts, pictures=_pictures(seen)))
    return facts


def _name_of(source: Any) -> str:
    return Path(fspath(source)).name if isinstance(source, str | PathLike) else "table"


def _facts_of(column: Column, seen: Survey) -> dict[str, Any]:
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


def _pictures(seen: Survey) -> dict[str, bytes]:
    """Return a sheet with a few images of each column of images, as PNG."""
    measures = {name: column.measure for name, column in seen.columns.items()}
    return {name: _sheet(one.pictures) for name, one in measures.items() if isinstance(one, ImageMeasure) and one.pictures}


def _sheet(pictures: Sequence[Image.Image]) -> bytes:
    rows = -(-len(pictures) // SHEET_COLUMNS)
    sheet = Image.new("RGBA", (SHEET_CELL * min(len(pictures), SHEET_COLUMNS), SHEET_CELL * rows))
    for number, image in enumerate(pictures):
        shown = image.convert("L" if image.mode in {"1", "L", "I", "F"} else "RGB")
        shown = ImageOps.contain(shown, (SHEET_CELL - 8, SHEET_CELL - 8), Image.Resampling.NEAREST)
        sheet.paste(shown, (SHEET_CELL * (number % SHEET_COLUMNS), SHEET_CELL * (number // SHEET_COLUMNS)))
    with io.BytesIO() as file:
        sheet.save(file, "PNG")
        return file.getvalue()


def _type_name(kind: pa.DataType) -> str:
    if isinstance(kind, pa.FixedShapeTensorType):
        return f"{kind.value_type} {list(kind.shape)}"
    return str(kind)
