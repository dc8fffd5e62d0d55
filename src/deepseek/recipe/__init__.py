"""Recipes: one YAML file says everything about a run, and is checked before anything starts."""

from deepseek.recipe.load import load_recipe
from deepseek.recipe.recipe import Choices, Recipe
from deepseek.recipe.schema import json_schema
from deepseek.recipe.secrets import conceal_password, resolve_secret, resolve_secrets, without_password
from deepseek.recipe.sections import (
    CheckpointSection,
    CompressSection,
    DataSection,
    EarlyStoppingSection,
    FineTuneSection,
    QuantizeSection,
    SelfTrainingSection,
    SplitSection,
    TrainSection,
    TuneSection,
)
from deepseek.recipe.values import AUTO

__all__ = [
    "AUTO",
    "CheckpointSection",
    "Choices",
    "CompressSection",
    "DataSection",
    "EarlyStoppingSection",
    "FineTuneSection",
    "QuantizeSection",
    "Recipe",
    "SelfTrainingSection",
    "SplitSection",
    "TrainSection",
    "TuneSection",
    "conceal_password",
    "json_schema",
    "load_recipe",
    "resolve_secret",
    "resolve_secrets",
    "without_password",
]
