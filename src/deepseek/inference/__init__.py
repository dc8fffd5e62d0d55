"""Predicting: bundle to answers."""

from deepseek.inference.backends.torch import build_model
from deepseek.inference.predictor import Predictor, load
from deepseek.inference.saving import save_bundle

__all__ = ["Predictor", "build_model", "load", "save_bundle"]
