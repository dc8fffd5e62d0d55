"""What a recipe says of a forecast's columns and periods, and what a look at the training period adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from deepseek import progress
from deepseek.data.columns import is_number
from deepseek.data.landing import LandedTable
from deepseek.data.windows.making import LaidOut, lay_out_table, make_windows, require_static
from deepseek.data.windows.places import TimeSplit
from deepseek.data.windows.preparation import WindowPreparation
from deepseek.data.windows.rules import WindowRules
from deepseek.errors import ColumnError
from deepseek.fields import Field, Kind, Schema, infer_schema
from deepseek.recipe import Choices, Recipe

SAMPLE_ROWS = 100_000
STEP_KINDS = frozenset({Kind.NUMBER, Kind.CATEGORY, Kind.BINARY, Kind.TIMESTAMP})
"""Kinds of which a step can hold one value."""


@dataclass
class WindowPlan:
    """How windows are made of a table.

    Attributes:
        key: What the prepared stage depends on, besides the table and the code.
        build: Writes the stage into a folder.
        warnings: What the user should know, in words.
        reasons: Why columns are what they are, by the place in the recipe.
    """

    key: dict[str, Any]
    build: Callable[[Path], None]
    warnings: list[str] = field(default_factory=list)
    reasons: Choices = field(default_factory=dict)


def plan_windows(recipe: Recipe, table: LandedTable, *, time: str) -> WindowPlan:
    """Lay a table out in time, and say what each column is and what part it has in a forecast.

    Args:
        recipe: The checked recipe, whose task is to forecast.
        table: The landed table.
        time: The column of moments.

    Raises:
        DataError: Times do not lie on a grid, or a static column changes.
        ColumnError: A target is no number, or a column that the recipe names holds what no step can.
    """
    data, split = recipe.data, time_split(recipe)
    laid = lay_out_table(table, time=time, series=data.series_columns, frequency=data.frequency, gaps=data.gaps, split=split)
    require_static(table, data.series_columns, data.static)
    training = laid.training_rows(table.rows)
    schema, reasons = _looked(recipe, table.sample(training, SAMPLE_ROWS, recipe.seed), laid)
    rules, warnings = _rules(recipe, schema, reasons, laid=laid, time=time)
    rules = replace(rules, masked=bool(laid.steps.filled) or any(table.column(name).null_count for name in rules.target))
    preparation = WindowPreparation(rules, schema.fields, grid=laid.steps.grid, transforms=data.transforms, form=laid.form)

    def build(folder: Path) -> None:
        with progress.task("preparing steps"):
            make_windows(table, laid, preparation, folder=folder)

    key = {
        "windows": rules.to_json(),
        "split": split.to_json(),
        "grid": laid.steps.grid.to_json(),
        "gaps": data.gaps,
        "schema": schema.to_json(),
        "transforms": data.transforms,
    }
    chosen: Choices = (
        {"data.frequency": (laid.steps.grid.name, "the commonest distance between neighbours")} if data.frequency is None else {}
    )
    if data.season is None:
        chosen["data.season"] = (rules.season, f"what steps of {laid.steps.grid.name} usually have")
    for name in rules.inputs:
        if name not in data.fields and name not in data.targets:
            chosen["data", "fields", name] = (schema[name].kind.value, reasons[name])
    return WindowPlan(key, build, warnings, chosen)


def time_split(recipe: Recipe) -> TimeSplit:
    """Return the periods that a recipe names."""
    section = recipe.data.split
    names = ("train", "validation", "test", "train_from", "validation_from", "test_from", "until")
    return TimeSplit(**{name: getattr(section, name) for name in names})


def _looked(recipe: Recipe, sample: pa.Table, laid: LaidOut) -> tuple[Schema, dict[str, str]]:
    """Say what each column is, from steps of the training period."""
    data = recipe.data
    kinds = {name: Kind.CATEGORY.value for name in data.static if name in data.series_columns}
    kinds |= {name: kind.value for name, kind in data.fields.items()}
    if data.time in data.known and laid.steps.grid.unit != "numbers":
        kinds.setdefault(str(data.time), Kind.TIMESTAMP.value)
    kept = [name for name in sample.column_names if name not in data.drop]
    schema, reasons = infer_schema(sample.select(kept), data.targets, kinds=kinds)
    for name in data.targets:
        kind = sample.schema.field(name).type
        if not (is_number(kind) or pa.types.is_boolean(kind)):
            raise ColumnError(
                f"the target {name!r} holds {kind}, and forecasts are of numbers", hint="read the column as numbers, or name another"
            )
    return schema, reasons


def _rules(recipe: Recipe, schema: Schema, reasons: Mapping[str, str], *, laid: LaidOut, time: str) -> tuple[WindowRules, list[str]]:
    """Give each column its part: what the recipe does not name is known of the past only."""
    data, warnings = recipe.data, []
    for name in (*data.known, *data.static):
        if schema[name].kind not in STEP_KINDS:
            raise ColumnError(
                f"{name!r} is a column of the kind {schema[name].kind.value!r} ({reasons[name]}), of which no step can be made",
                hint="say what it is under data.fields, or leave it out",
            )
    named = {time, *data.series_columns, *data.targets, *data.known, *data.static}
    observed = []
    for item in schema:
        if item.name in named:
            continue
        if (why := _unusable(item, reasons[item.name])) is None:
            observed.append(item.name)
        else:
            warnings.append(f"column {item.name!r} is left out: {why}")
    assert isinstance(recipe.task, Mapping), "a recipe with data.time names its task"
    return (
        WindowRules(
            time=time,
            target=data.targets,
            series=data.series_columns,
            observed=tuple(observed),
            known=tuple(data.known),
            static=tuple(data.static),
            context=int(recipe.task["context_length"]),
            horizon=int(recipe.task["horizon"]),
            season=int(data.season or laid.steps.grid.season),
        ),
        warnings,
    )


def _unusable(item: Field, reason: str) -> str | None:
    if item.kind not in STEP_KINDS:
        return f"it is of the kind {item.kind.value!r} ({reason}), of which no step can be made"
    return reason if reason.startswith(("constant", "empty")) else None
