"""Learning rates and weight decays by layer, over any optimizer: the family `layer_rates`, of which a recipe names one under `train`."""

from deepseek.optim.layer_rates.base import LayerRates
from deepseek.optim.layer_rates.gradient_variance import GradientVariance

__all__ = ["GradientVariance", "LayerRates"]
