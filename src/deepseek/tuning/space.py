"""What is searched: keys of a recipe with their ranges, every one of them checked against the recipe's own schema before anything runs."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from deepseek.errors import DeepSeekError, InputError, Problem, RecipeError, UnknownNameError
from deepseek.recipe import Recipe
from deepseek.recipe.overrides import OVERRIDE, parse_path
from deepseek.registry import family
from deepseek.search import Choice, Dimension, Space

_POINTS = 24
"""Points that are checked as a whole, for values that are right by themselves and contradict each other."""
_FIXED = {
    "name": "it names the search",
    "seed": "it decides which rows are validated on; tune train.seed for the network's",
    "plugins": "they are loaded once",
    "tune": "a search does not search itself",
    "data.source": "trials are compared on the same rows",
    "data.test": "trials are compared on the same rows",
    "data.target": "trials are compared on the same rows",
    "data.weight": "trials are compared on the same rows",
    "data.checks": "trials are compared on the same rows",
    "data.max_rejected": "trials are compared on the same rows",
    "data.split": "trials are compared on the same rows",
    "train.trackers": "it changes no result",
    "train.callbacks": "what looks on is the same for all trials",
}


def read_space(recipe: Recipe) -> Space:
    """Return the space under `tune.over`, every path and every end and choice tried on the recipe.

    Args:
        recipe: A recipe with something under `tune.over`.

    Raises:
        RecipeError: With every wrong path and value, file and line, and what was probably meant.
    """
    assert recipe.tune is not None
    over, problems = recipe.tune.over, []
    dimensions: dict[str, Dimension] = {}
    for path, ranges in over.items():
        try:
            _require_free(path)
            dimensions[path] = Space.from_recipe({path: ranges})[path]
        except (InputError, RecipeError) as error:
            problems.append(_problem(recipe, path, error))
    for path, dimension in dimensions.items():
        problems += _wrong_values(recipe, path, dimension)
    if not problems and dimensions:
        problems += _contradictions(recipe, Space(dimensions))
    if problems:
        raise RecipeError(list(dict.fromkeys(problems)))
    return Space(dimensions)


def trial_recipe(recipe: Recipe, parameters: Mapping[str, Any], *, trial: int) -> Recipe:
    """Return the recipe of a trial: as if each parameter had been set with `--set`, the section `tune` left out.

    Args:
        recipe: The recipe that is tuned.
        parameters: Values by path; shorter paths are set first, so that a component comes before its keys.
        trial: The trial's number, for the values' origins.

    Raises:
        RecipeError: The values contradict each other, or the recipe.
    """
    ordered = sorted(parameters, key=lambda path: len(parse_path(path)))
    decisions: dict[Any, tuple[Any, str]] = {"tune": (None, "a trial")}
    if isinstance(recipe.train.early_stopping, str | bool) and any(path.startswith("train.early_stopping.") for path in ordered):
        decisions["train.early_stopping"] = ({}, f"trial {trial}")  # a word has no keys; what is set of the section asks for it
    decisions |= {path: (parameters[path], f"trial {trial}") for path in ordered}
    return recipe.with_decisions(decisions)


def default_space(recipe: Recipe) -> dict[str, Any]:
    """Return the ranges for a recipe that names none, by its model and optimizer: around what it would take by itself.

    Args:
        recipe: The recipe, with `model`, `train.optimizer` and `train.learning_rate` decided.
    """
    rate = float(recipe.train.learning_rate)
    ranges: dict[str, Any] = {"train.learning_rate": {"low": rate / 8, "high": min(rate * 4, 1.0), "log": True}}
    decay = recipe.train.optimizer.get("weight_decay") if isinstance(recipe.train.optimizer, Mapping) else None
    if decay is not None:
        middle = decay or 1e-2
        ranges["train.optimizer.weight_decay"] = {"low": middle / 30, "high": min(middle * 10, 1.0), "log": True}
    for key, choice in (("dropout", {"low": 0.0, "high": 0.5}), ("depth", {"low": 1, "high": 4}), ("width", [64, 128, 256, 512])):
        if _takes(recipe.model, key, choice):
            ranges[f"model.{key}"] = choice
    return ranges


def _takes(model: Any, key: str, ranges: Any) -> bool:
    """Whether a model has a key whose value is a number now, and accepts every end or choice of a range for it."""
    value = model.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    tried = ranges if isinstance(ranges, list) else [ranges["low"], ranges["high"]]
    try:
        for one in tried:
            family("model").validate({**model, key: one})
    except DeepSeekError:
        return False
    return True


def _require_free(path: str) -> None:
    keys = parse_path(path)
    for fixed, reason in _FIXED.items():
        parts = tuple(fixed.split("."))
        if keys[: len(parts)] == parts:
            raise InputError(f"cannot be tuned: {reason}")
        if parts[: len(keys)] == keys:
            raise InputError(
                f"cannot be tuned: it is a section; a key's path stands in one piece: --set 'tune.over.\"{path}.KEY\"=[LOW, HIGH]'"
            )


def _wrong_values(recipe: Recipe, path: str, dimension: Dimension) -> Iterator[Problem]:
    values = dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)
    for value in values:
        try:
            trial_recipe(recipe, {path: value}, trial=0)
        except (InputError, RecipeError) as error:
            yield _problem(recipe, path, error)
            return  # an unknown key is unknown with every value


def _contradictions(recipe: Recipe, space: Space) -> Iterator[Problem]:
    draw = random.Random(0)  # noqa: S311 - nothing secret
    for _ in range(_POINTS):
        point = space.at([draw.random() for _ in space])
        try:
            trial_recipe(recipe, point, trial=0)
        except RecipeError as error:
            told = "; ".join(f"{problem.path}: {problem.message}" for problem in error.problems)
            shown = ", ".join(f"{path}={value!r}" for path, value in point.items())
            yield Problem("tune.over", f"holds values that contradict each other, for example {shown}: {told}", *_place(recipe, ""))
            return


def _problem(recipe: Recipe, path: str, error: InputError) -> Problem:
    """Return an error about a path as a problem of the recipe, where it stands in the file."""
    message, suggestion = error.message, None
    if isinstance(error, RecipeError):
        first = error.problems[0]
        message = first.message if first.path == path else f"{first.path}: {first.message}"
        suggestion = first.suggestion
        if isinstance(recipe.model, str) and path.startswith("model."):
            message, suggestion = "the model is chosen by the pipeline; name it (model: tabm) to tune its keys", None
        elif path == "train.optimizer" or (path.startswith("train.optimizer.") and isinstance(recipe.train.optimizer, str)):
            message = f"{message}; name the optimizer (train.optimizer: adamw) to tune its keys"
    elif isinstance(error, UnknownNameError):
        suggestion = error.suggestion
    else:
        message = "; ".join(filter(None, (message.removeprefix(f"{path}: "), error.hint)))
    return Problem(f"tune.over.{path}", message, *_place(recipe, path), suggestion=suggestion)


def _place(recipe: Recipe, path: str) -> tuple[str | None, int | None]:
    """Return file and line of an entry under `tune.over`, where it came from a file."""
    wanted = f"tune.over.{path}"
    origin = next((origin for key, origin in recipe.origins.items() if key.startswith(wanted)), "")
    if origin == OVERRIDE:
        return OVERRIDE, None
    file, _, line = origin.rpartition(":")
    return (file, int(line)) if file and line.isdigit() else (None, None)
