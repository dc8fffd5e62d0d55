"""What each column is, and what kind of target there is: looked up in training rows, where the recipe does not say."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from deepseek.data.columns import is_number
from deepseek.data.targets import TargetKind
from deepseek.errors import DataError
from deepseek.fields import MANY, Kind, Schema, infer_schema, leak_suspects, target_kind
from deepseek.recipe import Choices, Recipe
from deepseek.registry import family

_SAY = "say what it is under data.fields, or leave it out with data.drop"


@dataclass
class Looked:
    """What was found.

    Attributes:
        schema: The columns that are used.
        target: The kind of the target; nothing where there is none.
        target_reason: Why it is of this kind; empty where the recipe names the task.
        warnings: What the user should know, in words.
        reasons: Why columns are of their kinds, by the place in the recipe.
    """

    schema: Schema
    target: TargetKind | None = None
    target_reason: str = ""
    warnings: list[str] = field(default_factory=list)
    reasons: Choices = field(default_factory=dict)


def look(recipe: Recipe, sample: pa.Table, *, left_out: Collection[str]) -> Looked:
    """Say what each column is.

    Args:
        recipe: The checked recipe.
        sample: Training rows.
        left_out: Columns that are no inputs, besides those that the recipe drops.

    Raises:
        DataError: No column can be used as an input, or the targets are of different kinds.
    """
    data = recipe.data
    unused = {*data.drop, *left_out} - set(data.targets)
    sample = sample.select([name for name in sample.column_names if name not in unused])
    schema, reasons = infer_schema(sample, data.targets, kinds={name: kind.value for name, kind in data.fields.items()})
    useless = {name: reasons[name] for name in schema.names if _is_useless(reasons[name]) and name not in (*data.targets, data.weight)}
    looked = Looked(Schema(tuple(part for part in schema if part.name not in useless), schema.target))
    looked.warnings += [f"column {name!r} is left out: {reason}" for name, reason in useless.items()]
    if not looked.schema.inputs:
        why = "; ".join(f"{name!r} is left out: {reason}" for name, reason in useless.items())
        raise DataError(f"no column can be used as an input{f': {why}' if why else ''}", hint="add columns to learn from")
    looked.warnings += _doubtful_kinds(recipe, looked.schema, reasons)
    for item in looked.schema:
        if item.name not in data.fields:
            looked.reasons["data", "fields", item.name] = (item.kind.value, reasons[item.name])
    if _needs_no_target(recipe):
        looked.target = _target_kind(recipe, sample, looked.schema)[0]
    if data.targets:
        known = sample.select([name for name in looked.schema.names if name not in looked.schema.target[1:]])
        for column, reason in leak_suspects(known, looked.schema.target[0]):
            looked.warnings.append(f"column {column!r} may give the target away: {reason}; leave it out with data.drop if so")
        looked.target, looked.target_reason = _target_kind(recipe, sample, looked.schema)
    return looked


def _needs_no_target(recipe: Recipe) -> bool:
    return isinstance(recipe.task, Mapping) and not family("task").get(recipe.task["type"]).needs_target


def _is_useless(reason: str) -> bool:
    return reason.startswith(("constant", "empty"))


def _doubtful_kinds(recipe: Recipe, schema: Schema, reasons: Mapping[str, str]) -> list[str]:
    found = []
    for item in schema:
        if item.name in (*schema.target, recipe.data.weight) or item.name in recipe.data.fields:
            continue
        if item.kind is Kind.ID:
            found.append(f"column {item.name!r} is left out: it looks like an id ({reasons[item.name]}); {_SAY}")
        elif reasons[item.name].endswith(MANY):
            found.append(f"column {item.name!r} is taken for a category: {reasons[item.name]}; {_SAY}")
    return found


def _target_kind(recipe: Recipe, sample: pa.Table, schema: Schema) -> tuple[TargetKind, str]:
    if isinstance(recipe.task, Mapping):
        return family("task").get(recipe.task["type"]).kind, ""
    if any(item.kind is Kind.BOXES for item in schema.targets):
        return "boxes", "each row has a list of boxes"
    if len(schema.target) > 1:
        return _targets_kind(sample, schema)
    name = schema.target[0]
    if recipe.data.fields.get(name) is Kind.NUMBER:
        return "values", "data.fields says that the target is a number"
    return target_kind(sample[name], schema[name])


def _targets_kind(sample: pa.Table, schema: Schema) -> tuple[TargetKind, str]:
    kinds = {name: sample.schema.field(name).type for name in schema.target}
    names = [f"{name!r} holds {kind}" for name, kind in kinds.items() if not (is_number(kind) or pa.types.is_boolean(kind))]
    if names:
        raise DataError(f"several targets are all numbers, or all 0 and 1, but {', '.join(names)}", hint="name one target, or such columns")
    if all(target_kind(sample[name], schema[name])[0] == "binary" for name in schema.target):
        return "labels", "several columns of two values each"
    return "values", "several columns of numbers"
