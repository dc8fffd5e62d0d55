"""Which network suits some data, why, what to try besides, and what each needs of memory: said before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from deepseek import progress
from deepseek.artifacts import CACHE, StageCache
from deepseek.inference import build_model
from deepseek.models.network import parameter_count
from deepseek.pipeline.choosing.architectures import Situation, architecture_of
from deepseek.pipeline.preparing.dataset import Dataset, make_dataset
from deepseek.pipeline.recipes import open_recipe, recipe_of
from deepseek.recipe import Recipe
from deepseek.registry import Spec, family
from deepseek.training.state import kept_generators

_BYTES = 16
"""What a number that is learned takes while training: itself, its gradient, and two moments, four bytes each."""
_RECIPES = frozenset({".yaml", ".yml"})


def recommend(
    source: Any,
    *,
    target: str | Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    out: str | PathLike[str] = "runs",
) -> dict[str, Any]:
    """Say which network suits some data, and why; train nothing.

    The data go the way that `deepseek.train` takes, and are kept for it: what a column is and how many rows there are says which row of the
    table of architectures applies. That row is what `model: auto` comes to.

    Args:
        source: A table as `deepseek.train` takes it, or a recipe's file.
        target: The column to predict; not with a recipe, which names it.
        overrides: Each `PATH=VALUE`.
        out: The folder that holds the runs, and beside them the prepared data.

    Returns:
        Plain JSON values: `inputs` and `rows`; `row`, the inputs that the row of the table is for; `model`, `why`, `parameters` and
        `training_bytes` (weights, gradients and moments, without activations); `because`, the row's own reason, and `evidence`, what that
        rests on, each `said` and `link` (of the documentation: a page and its section); and `alternatives`, each `shown` and `where`, with
        its sizes where it can be built with nothing else said.

    Raises:
        InputError: The target is missing or misspelt, or an override is wrong.
        RecipeError: The recipe is wrong.
        DataError: The data cannot be used.

    Example:
        ```python
        advice = deepseek.recommend("customers.csv", target="churned")
        print(advice["model"]["type"], advice["why"])
        ```
    """
    recipe = _recipe(source, target, overrides, out)
    dataset = make_dataset(recipe, StageCache(Path(out) / CACHE))
    for warning in dataset.warnings:
        progress.warn(warning)
    preparation = dataset.preparation()
    assert preparation.target is not None  # the recipe names it
    situation = Situation(
        inputs=preparation.inputs,
        target=preparation.target.spec,
        rows=dataset.document["rows"]["train"]["rows"],
        columns=len(preparation.columns),
    )
    row = architecture_of(situation)
    model, why = row.choose(situation)
    others = [
        {"shown": other.shown.replace("`", ""), "where": other.where, **({} if other.model is None else _sizes(dataset, other.model))}
        for other in row.alternatives
    ]
    return {
        "inputs": sorted(situation.senses),
        "rows": situation.rows,
        "task": dataset.task["type"],
        "row": row.inputs,
        "model": model,
        "why": why,
        "because": row.why,
        "evidence": [{"said": one.said, "link": one.link} for one in row.evidence],
        **_sizes(dataset, model),
        "alternatives": others,
    }


def _recipe(source: Any, target: str | Sequence[str] | None, overrides: Sequence[str], out: str | PathLike[str]) -> Recipe:
    if isinstance(source, str | PathLike) and Path(source).suffix in _RECIPES:
        return open_recipe(source, overrides)[1]
    return recipe_of(source, target=target, out=out, overrides=overrides)


def _sizes(dataset: Dataset, model: Spec) -> Mapping[str, int]:
    with kept_generators(torch.device("cpu")):
        count = parameter_count(build_model(dataset.preparation(), family("model").validate(model), dataset.task))
    return {"parameters": count, "training_bytes": _BYTES * count}
