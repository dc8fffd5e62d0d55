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
    "masks_in": "deepseek.tasks.answers",
    "RunResult": "deepseek.pipeline.result",
    "train": "deepseek.pipeline.train",
    "run": "deepseek.pipeline.run",
    "tune": "deepseek.pipeline.tune",
    "TuneResult": "deepseek.pipeline.tune",
    "show": "deepseek.pipeline.show",
    "DynamicWeightScheduler": "deepseek.optim.layer_rates.dynamic_weights",
    "build_deepseek_model": "deepseek.models.keras.article",
    "suspects": "deepseek.pipeline.suspects",
    "SuspectsResult": "deepseek.pipeline.suspects",
    "evaluate": "deepseek.pipeline.evaluate",
    "backtest": "deepseek.pipeline.backtest",
    "BacktestResult": "deepseek.pipeline.backtest",
    "predict": "deepseek.pipeline.predict",
    "generate": "deepseek.pipeline.generate",
    "embed": "deepseek.pipeline.embed",
    "export": "deepseek.pipeline.export",
    "compress": "deepseek.pipeline.compress",
    "report": "deepseek.pipeline.report",
    "watch": "deepseek.pipeline.watch",
    "loop": "deepseek.pipeline.closed_loop.process",
    "replay": "deepseek.pipeline.closed_loop.replay",
    "learn": "deepseek.pipeline.learn",
    "snapshot": "deepseek.pipeline.snapshot",
    "doctor": "deepseek.pipeline.doctor",
    "example": "deepseek.data.examples",
    "profile": "deepseek.pipeline.profile",
    "recommend": "deepseek.pipeline.recommend",
    "preview": "deepseek.pipeline.preview",
    "plan": "deepseek.pipeline.planning.plan",
    "attention": "deepseek.pipeline.attention",
    "features": "deepseek.pipeline.features",
    "compare": "deepseek.pipeline.compare",
    "push_tasks": "deepseek.pipeline.annotate",
    "pull_annotations": "deepseek.pipeline.annotate",
    "data_status": "deepseek.pipeline.data_versions",
    "data_checkout": "deepseek.pipeline.data_versions",
    "serve": "deepseek.serving.server",
    "ingest": "deepseek.serving.intake.server",
}

_OPTIONAL = {
    "DeepSeekClassifier": "deepseek.estimators",
    "DeepSeekRegressor": "deepseek.estimators",
}
"""What needs an optional library: it is not among the names that `from deepseek import *` brings."""

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from deepseek.data.examples import example as example
    from deepseek.errors import DeepSeekError as DeepSeekError
    from deepseek.estimators import DeepSeekClassifier as DeepSeekClassifier
    from deepseek.estimators import DeepSeekRegressor as DeepSeekRegressor
    from deepseek.inference import Predictor as Predictor
    from deepseek.inference import load as load
    from deepseek.models.keras.article import build_deepseek_model as build_deepseek_model
    from deepseek.optim.layer_rates.dynamic_weights import DynamicWeightScheduler as DynamicWeightScheduler
    from deepseek.pipeline.annotate import pull_annotations as pull_annotations
    from deepseek.pipeline.annotate import push_tasks as push_tasks
    from deepseek.pipeline.attention import attention as attention
    from deepseek.pipeline.backtest import BacktestResult as BacktestResult
    from deepseek.pipeline.backtest import backtest as backtest
    from deepseek.pipeline.closed_loop.process import loop as loop
    from deepseek.pipeline.closed_loop.replay import replay as replay
    from deepseek.pipeline.compare import compare as compare
    from deepseek.pipeline.compress import compress as compress
    from deepseek.pipeline.data_versions import data_checkout as data_checkout
    from deepseek.pipeline.data_versions import data_status as data_status
    from deepseek.pipeline.doctor import doctor as doctor
    from deepseek.pipeline.embed import embed as embed
    from deepseek.pipeline.evaluate import evaluate as evaluate
    from deepseek.pipeline.export import export as export
    from deepseek.pipeline.features import features as features
    from deepseek.pipeline.generate import generate as generate
    from deepseek.pipeline.learn import learn as learn
    from deepseek.pipeline.planning.plan import plan as plan
    from deepseek.pipeline.predict import predict as predict
    from deepseek.pipeline.preview import preview as preview
    from deepseek.pipeline.profile import profile as profile
    from deepseek.pipeline.recommend import recommend as recommend
    from deepseek.pipeline.report import report as report
    from deepseek.pipeline.result import RunResult as RunResult
    from deepseek.pipeline.run import run as run
    from deepseek.pipeline.show import show as show
    from deepseek.pipeline.snapshot import snapshot as snapshot
    from deepseek.pipeline.suspects import SuspectsResult as SuspectsResult
    from deepseek.pipeline.suspects import suspects as suspects
    from deepseek.pipeline.train import train as train
    from deepseek.pipeline.tune import TuneResult as TuneResult
    from deepseek.pipeline.tune import tune as tune
    from deepseek.pipeline.watch import watch as watch
    from deepseek.recipe import Recipe as Recipe
    from deepseek.recipe import load_recipe as load_recipe
    from deepseek.registry import list_components as list_components
    from deepseek.serving.intake import ingest as ingest
    from deepseek.serving.server import serve as serve
    from deepseek.tasks.answers import masks_in as masks_in


# OpenMP reads this when torch is loaded. Its threads spin while they wait, unless told to sleep: where other work wants the cores too,
# spinning made a training step five to ten times slower, and sleeping costs next to nothing where it does not.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name) or _OPTIONAL.get(name)
    if module is None:
        raise AttributeError(f"module 'deepseek' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_OPTIONAL])
