"""Training: the trainer, its settings and state, checkpoints, callbacks."""

from deepseek.training.evaluation import ScoreFile, evaluate, evaluate_exactly
from deepseek.training.results import FitResult, Progress
from deepseek.training.settings import TrainSettings
from deepseek.training.state import Best, State
from deepseek.training.step import StepRules, TrainingStep
from deepseek.training.trainer import Trainer

__all__ = [
    "Best",
    "FitResult",
    "Progress",
    "ScoreFile",
    "State",
    "StepRules",
    "TrainSettings",
    "Trainer",
    "TrainingStep",
    "evaluate",
    "evaluate_exactly",
]
