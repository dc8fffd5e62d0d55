"""One recipe takes raw data to a trained, compressed, served and watched model, and every number on the way can be trusted.

Public functions and classes are resolved when they are first used: `import deepseek` loads no torch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "DeepSeekError": "deepseek.errors",
    "list_components": "deepseek.registry",
    "load_recipe": "deepseek.recipe",
    "Recipe": "deepseek.recipe",
    "Predictor": "deepseek.inference",
    "load": "deepseek.inference",
    "RunResult": "deepseek.pipeline.result",
    "train": "deepseek.pipeline.quick",
    "run": "deepseek.pipeline.run",
    "show": "deepseek.pipeline.explain",
    "evaluate": "deepseek.pipeline.answers",
    "predict": "deepseek.pipeline.answers",
    "doctor": "deepseek.pipeline.doctor",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from deepseek.errors import DeepSeekError as DeepSeekError
    from deepseek.inference import Predictor as Predictor
    from deepseek.inference import load as load
    from deepseek.pipeline.answers import evaluate as evaluate
    from deepseek.pipeline.answers import predict as predict
    from deepseek.pipeline.doctor import doctor as doctor
    from deepseek.pipeline.explain import show as show
    from deepseek.pipeline.quick import train as train
    from deepseek.pipeline.result import RunResult as RunResult
    from deepseek.pipeline.run import run as run
    from deepseek.recipe import Recipe as Recipe
    from deepseek.recipe import load_recipe as load_recipe
    from deepseek.registry import list_components as list_components


# OpenMP reads this when torch is loaded. Its threads spin while they wait, unless told to sleep: where other work wants the cores too,
# spinning made a training step five to ten times slower, and sleeping costs next to nothing where it does not.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'deepseek' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
