"""Predicting: bundle to answers. What needs torch is loaded when it is first used: an exported bundle is answered without."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from deepseek.inference.predictor import Predictor, load

if TYPE_CHECKING:
    from deepseek.inference.backends.torch import build_model as build_model
    from deepseek.inference.saving import save_bundle as save_bundle

__all__ = ["Predictor", "build_model", "load", "save_bundle"]

_WITH_TORCH = {"build_model": "deepseek.inference.backends.torch", "save_bundle": "deepseek.inference.saving"}


def __getattr__(name: str) -> Any:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WITH_TORCH[name]), name)
