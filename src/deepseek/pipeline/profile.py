"""What a table holds, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from deepseek.artifacts import write_text
from deepseek.data.columns import is_text
from deepseek.data.sources import is_url, open_source
from deepseek.data.sources.remote.urls import path_of
from deepseek.errors import UnknownNameError
from deepseek.pipeline.preparing.sources import reading_hint
from deepseek.profiling.drift import compare_surveys
from deepseek.profiling.facts import survey_facts
from deepseek.profiling.findings import findings_of
from deepseek.profiling.measures import ImageMeasure
from deepseek.profiling.survey import Survey, survey
from deepseek.reporting.pictures import contact_sheet
from deepseek.reporting.profile import profile_page


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
        raise UnknownNameError("column", target, names, hint=reading_hint(names))
    seen = survey(opened)
    facts: dict[str, Any] = {
        "source": _name_of(source),
        **survey_facts(seen, target=target),
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
    if isinstance(source, Mapping) and isinstance(source.get("table"), str):
        return str(source["table"])
    if is_url(source):
        return path_of(source).name  # what follows may be a secret
    return Path(fspath(source)).name if isinstance(source, str | PathLike) else "table"


def _pictures(seen: Survey) -> dict[str, bytes]:
    """Return a sheet with a few images of each column of images, as PNG."""
    measures = {name: column.measure for name, column in seen.columns.items()}
    return {name: contact_sheet(one.pictures) for name, one in measures.items() if isinstance(one, ImageMeasure) and one.pictures}
