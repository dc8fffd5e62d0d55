"""Predicting: bundle to answers."""

from deepseek.inference.backends.torch import build_model
from deepseek.inference.predictor import Predictor, load

__all__ = ["Predictor", "build_model", "load"]
