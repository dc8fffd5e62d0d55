"""Models that are handed in as objects from Python: as a recipe can name them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from deepseek.artifacts import CACHE, RunFolder, StageCache, sha256_json
from deepseek.errors import InputError, RunError
from deepseek.recipe import Recipe
from deepseek.recipe.load import keep_recipe

NUMBERS_FILE = "numbers.safetensors"


def model_spec(model: Any, out: Path) -> Any:
    """Return a model as a recipe names it: a name or a spec as it is, a Keras model by its configuration.

    The numbers of a Keras model are written beside the runs first, so that training begins with them.

    Args:
        model: A name, a spec, or a `keras.Model`.
        out: The folder that holds the runs.

    Raises:
        InputError: It is none of these, or a Keras model that needs code of its own.
    """
    if isinstance(model, str | Mapping):
        return model
    keras = sys.modules.get("keras")
    if keras is None or not isinstance(model, keras.Model):
        raise InputError(f"the model is given as {type(model).__name__}", hint="give a name, a mapping with the key type, or a keras.Model")
    if (name := keras.backend.backend()) not in ("torch", "tensorflow"):
        raise InputError(f"Keras runs on {name!r} in this process", hint="set KERAS_BACKEND=torch or tensorflow before Keras is imported")
    from deepseek.models.keras.objects import configuration_of, save_numbers

    config = configuration_of(model)
    digest = sha256()
    for value in model.get_weights():
        digest.update(value.tobytes())
    folder, _ = StageCache(out / CACHE).folder(
        "keras", {"config": sha256_json(config), "numbers": digest.hexdigest()}, lambda made: save_numbers(model, made / NUMBERS_FILE)
    )
    spec = {"type": "keras", "config": config, "begins_with": str((folder / NUMBERS_FILE).absolute())}
    return spec | ({"backend": name} if name != "torch" else {})


def keras_elsewhere() -> bool:
    """Whether Keras runs on another backend than PyTorch in this process, so that networks of Keras are made in another one."""
    keras = sys.modules.get("keras")
    return keras is not None and hasattr(keras, "backend") and keras.backend.backend() != "torch"


def run_elsewhere(recipe: Recipe, out: Path) -> Path:
    """Follow a recipe in a process in which Keras runs on PyTorch, and return the run's folder.

    Args:
        recipe: The recipe; everything that it names is on disk.
        out: The folder that holds the runs.

    Raises:
        RunError: It failed there; what it said stands above.
    """
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "recipe.yaml"
        keep_recipe(recipe, file)
        command = [sys.executable, "-m", "deepseek", "run", str(file), "--out", str(out)]
        done = subprocess.run(command, env={**os.environ, "KERAS_BACKEND": "torch"}, check=False)
    if done.returncode:
        raise RunError(f"the run of {recipe.name!r} ended with status {done.returncode}", hint="what it said stands above")
    return RunFolder.open(out / recipe.name).path
