from __future__ import annotations

import pytest

from deepseek.components import FAMILIES
from deepseek.optim.contract import ClippingContract, LayerRatesContract
from deepseek.registry import family

CLIPPINGS = {
    "norm": {"type": "norm", "max_norm": 0.05},
    "norm, layer": {"type": "norm", "max_norm": 0.05, "per": "layer"},
    "value": {"type": "value", "max_value": 0.05},
    "autoclip": {"type": "autoclip"},
    "autoclip, layer": {"type": "autoclip", "per": "layer", "window": 25, "every": 3},
    "agc": "agc",
    "zclip": {"type": "zclip", "warmup": 10},
    "zclip, layer": {"type": "zclip", "warmup": 10, "per": "layer"},
    "skip_spikes": "skip_spikes",
}
RATES = {
    "gradient_variance": {"type": "gradient_variance", "every": 2, "warmup": 3},
    "gradient_variance, down": {"type": "gradient_variance", "every": 1, "power": -1.0, "decay": 0.9},
}


def test_every_built_in_is_in_this_suite():
    assert {name.split(",")[0] for name in CLIPPINGS} == set(FAMILIES["clipping"][1])
    assert {name.split(",")[0] for name in RATES} == set(FAMILIES["layer_rates"][1])


@pytest.mark.parametrize("case", CLIPPINGS)
class TestBuiltinClippings(ClippingContract):
    @pytest.fixture(autouse=True)
    def _case(self, case):
        self.case = case

    def build(self, parameters):
        return family("clipping").build(CLIPPINGS[self.case], parameters)


@pytest.mark.parametrize("case", RATES)
class TestBuiltinLayerRates(LayerRatesContract):
    @pytest.fixture(autouse=True)
    def _case(self, case):
        self.case = case

    def build(self, parameters):
        return family("layer_rates").build(RATES[self.case], parameters)
