"""Clipping by what gradients have been: quantiles, deviations, weights, spikes; and to fixed limits.

The family `clipping`: a recipe names one, or several in the order in which they are to act, under `train.clip`.
"""

from deepseek.optim.clippings.agc import AgcClipping
from deepseek.optim.clippings.auto import AutoClipping
from deepseek.optim.clippings.base import Clipping, LeftOut
from deepseek.optim.clippings.fixed import NormClipping, ValueClipping
from deepseek.optim.clippings.quantile import QuantileClipping
from deepseek.optim.clippings.spikes import SpikeSkipping
from deepseek.optim.clippings.zclip import ZClipping

__all__ = [
    "AgcClipping",
    "AutoClipping",
    "Clipping",
    "LeftOut",
    "NormClipping",
    "QuantileClipping",
    "SpikeSkipping",
    "ValueClipping",
    "ZClipping",
]
