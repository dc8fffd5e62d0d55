"""Training: the trainer, its settings and state, checkpoints, callbacks."""

from deepseek.training.evaluation import ScoreFile, evaluate, evaluate_exactly
from deepseek.training.settings import TrainSettings
from deepseek.training.state import Best, State
from deepseek.training.step import StepRules, TrainingStep
from deepseek.training.trainer import FitResult, Progress, Trainer

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
