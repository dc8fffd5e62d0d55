"""How weights are changed: optimizers, learning-rate schedules, clipping, constraints and weight averages.

`BayesianOptimizer`, which finds settings rather than weights, lives in `deepseek.search`; it can be had from here as well.
"""

from deepseek.optim.averaging import WeightAverage
from deepseek.optim.clipping import clip_norm_, clip_value_
from deepseek.optim.constraints import limit_norm_, penalise_
from deepseek.optim.optimizers import OptimizerSpec, decay_groups
from deepseek.optim.schedules import Schedule
from deepseek.optim.update import Update, make_update
from deepseek.search import BayesianOptimizer

__all__ = [
    "BayesianOptimizer",
    "OptimizerSpec",
    "Schedule",
    "Update",
    "WeightAverage",
    "clip_norm_",
    "clip_value_",
    "decay_groups",
    "limit_norm_",
    "make_update",
    "penalise_",
]
