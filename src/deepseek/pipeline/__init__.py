"""The road from data to a bundle, and what can be asked of a finished run."""

from deepseek.pipeline.answers import evaluate, predict
from deepseek.pipeline.doctor import doctor
from deepseek.pipeline.explain import show
from deepseek.pipeline.quick import train
from deepseek.pipeline.result import RunResult
from deepseek.pipeline.run import resolve, run, settings_of

__all__ = ["RunResult", "doctor", "evaluate", "predict", "resolve", "run", "settings_of", "show", "train"]
