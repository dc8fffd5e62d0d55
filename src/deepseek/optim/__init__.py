"""How weights are changed: optimizers, schedules, clipping, rates by layer, constraints and weight averages.

`BayesianOptimizer`, which finds settings rather than weights, lives in `deepseek.search`; it can be had from here as well.
"""

from deepseek.optim.adaptive import Adaptive, Told, make_adaptive
from deepseek.optim.averaging import WeightAverage
from deepseek.optim.gradients import trained_parameters
from deepseek.optim.in_place import clip_norm_, clip_value_, limit_norm_, penalise_
from deepseek.optim.layer_rates.dynamic_weights import DynamicWeightScheduler
from deepseek.optim.optimizers import OptimizerSpec, decay_groups
from deepseek.optim.schedules import Schedule
from deepseek.optim.update import Update, make_update
from deepseek.search import BayesianOptimizer

__all__ = [
    "Adaptive",
    "BayesianOptimizer",
    "DynamicWeightScheduler",
    "OptimizerSpec",
    "Schedule",
    "Told",
    "Update",
    "WeightAverage",
    "clip_norm_",
    "clip_value_",
    "decay_groups",
    "limit_norm_",
    "make_adaptive",
    "make_update",
    "penalise_",
    "trained_parameters",
]
