"""Tuning: a recipe's keys are searched for better values. What a trial is, is passed in; nothing here trains."""

from deepseek.tuning.facts import Facts, TrialRow
from deepseek.tuning.space import default_space, read_space, trial_recipe

__all__ = ["Facts", "TrialRow", "default_space", "read_space", "trial_recipe"]
