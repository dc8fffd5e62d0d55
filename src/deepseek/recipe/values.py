"""The types of a recipe's values: what may stand under its keys, and how it is checked."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BeforeValidator, Field, WithJsonSchema

from deepseek.errors import InputError
from deepseek.fields.field import Kind, parse_kind
from deepseek.recipe.quantities import Integer, Number
from deepseek.registry import component, family
from deepseek.validation import checked, shown

Auto = Literal["auto"]
AUTO: Auto = "auto"

if TYPE_CHECKING:
    CheckSpec = dict[str, Any]
    CleanerSpec = dict[str, Any]
    TransformSpec = dict[str, Any]
    AugmentationSpec = dict[str, Any]
    CallbackSpec = dict[str, Any]
    TaskSpec = dict[str, Any] | Auto
    ModelSpec = dict[str, Any] | Auto
    OptimizerSpec = dict[str, Any] | Auto
    ScheduleSpec = dict[str, Any] | Auto
    StrategySpec = dict[str, Any] | Auto
    ExchangeSpec = dict[str, Any] | Auto
    ClippingSpecs = list[dict[str, Any]]
    LayerRatesSpec = dict[str, Any]
    SearchSpec = dict[str, Any] | str
    AlarmSpec = dict[str, Any]
    PrunerSpec = dict[str, Any] | str
    ExporterSpec = dict[str, Any] | Auto
    DetectorSpec = dict[str, Any]
    Count = int
    Seed = int
    Share = float
    Positive = float
    NotNegative = float
    Probability = float
    OptionalModelSpec = dict[str, Any] | None
else:
    CheckSpec = component("check")
    CleanerSpec = component("cleaner")
    TransformSpec = component("transform")
    AugmentationSpec = component("augmentation")
    CallbackSpec = component("callback")
    TaskSpec = component("task", AUTO)
    ModelSpec = component("model", AUTO)
    OptimizerSpec = component("optimizer", AUTO)
    ScheduleSpec = component("schedule", AUTO)
    StrategySpec = component("strategy", AUTO)
    ExchangeSpec = component("exchange", AUTO)
    ClippingSpecs = Annotated[
        list[component("clipping")],
        BeforeValidator(lambda value: [value] if isinstance(value, str | Mapping) else value),
        WithJsonSchema({"anyOf": [{"x-family": "clipping"}, {"type": "array", "items": {"x-family": "clipping"}}]}),
    ]
    LayerRatesSpec = component("layer_rates")
    SearchSpec = component("search")
    AlarmSpec = component("alarm")
    PrunerSpec = component("pruner")
    ExporterSpec = component("exporter", AUTO)
    DetectorSpec = component("detector")
    Count = Annotated[Integer, Ge(1)]
    Seed = Annotated[Integer, Ge(0), Lt(2**63)]
    Share = Annotated[Number, Ge(0)]
    NotNegative = Annotated[Number, Ge(0)]
    Positive = Annotated[Number, Gt(0)]
    Probability = Annotated[Number, Gt(0), Le(1)]
    OptionalModelSpec = component("model") | None


def _check_source(value: object) -> object:
    if isinstance(value, Mapping):
        return family("source").validate(value)
    if isinstance(value, str | PathLike):
        value = fspath(value)
        if value:
            return value
    elif isinstance(value, list | tuple) and value and all(isinstance(path, str | PathLike) and fspath(path) for path in value):
        return [fspath(path) for path in value]
    raise InputError(f"must be a path, a list of paths, or a mapping with a source's name under 'type'; given: {shown(value)}")


_PATHS: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"x-family": "source"}]}
SourceSpec = Annotated[str | list[str] | dict[str, Any], BeforeValidator(checked(_check_source)), WithJsonSchema(_PATHS)]
"""A path (also with `*`), several, or a source by name."""

KindName = Annotated[Kind, BeforeValidator(checked(parse_kind)), WithJsonSchema({"enum": [kind.value for kind in Kind]})]
Text = Annotated[str, Field(min_length=1)]
