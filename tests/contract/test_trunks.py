from __future__ import annotations

import pytest
import torch

from deepseek.components import FAMILIES
from deepseek.models.contract import TrunkContract
from deepseek.registry import family

SPECS = {
    "identity": "identity",
    "mlp": {"type": "mlp", "width": 8},
    "mlp, residual": {"type": "mlp", "width": 8, "depth": 5, "residual_every": 2, "normalization": "layer"},
    "mlp, batch": {"type": "mlp", "width": 8, "normalization": "batch", "activation": "silu"},
    "residual": {"type": "residual", "width": 8, "depth": 2},
    "residual, operator": {"type": "residual", "width": 8, "depth": 2, "activation": "geglu"},
    "mlp, operator": {"type": "mlp", "width": 8, "depth": 5, "residual_every": 2, "activation": {"type": "geglu"}},
    "tabm, operator": {"type": "tabm", "width": 8, "members": 4, "activation": "squared_relu"},
    "operators": {"type": "operators", "operators": ["squared_relu"], "then": {"type": "mlp", "width": 8}},
    "tabm": {"type": "tabm", "width": 8, "members": 4},
    "tabm, mini": {"type": "tabm", "width": 8, "members": 4, "variant": "mini", "shared_dropout": True},
    "tabm, packed": {"type": "tabm", "width": 8, "members": 4, "variant": "packed"},
}


def test_every_builtin_trunk_is_in_this_suite():
    assert {name.split(",")[0] for name in SPECS} == set(FAMILIES["trunk"][1])


@pytest.mark.parametrize("case", SPECS)
class TestBuiltinTrunks(TrunkContract):
    @pytest.fixture(autouse=True)
    def _case(self, case):
        torch.manual_seed(0)
        self.case = case

    def build(self, width_in):
        return family("trunk").build(SPECS[self.case], width_in)
