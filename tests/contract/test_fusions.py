from __future__ import annotations

import pytest
import torch

from deepseek.components import FAMILIES
from deepseek.models.contract import FusionContract
from deepseek.registry import family

SPECS = {
    "concat": "concat",
    "gated": {"type": "gated", "width": 8},
    "cross_attention": {"type": "cross_attention", "width": 8, "heads": 2, "dropout": 0.0},
    "cross_attention, two blocks without feed-forward": {"type": "cross_attention", "width": 8, "depth": 2, "expansion": 0, "dropout": 0.0},
    "late": {"type": "late", "width": 8},
    "late, equal": {"type": "late", "width": 8, "weights": "equal"},
}


def test_every_builtin_fusion_is_in_this_suite():
    assert {spec if isinstance(spec, str) else spec["type"] for spec in SPECS.values()} == set(FAMILIES["fusion"][1])


@pytest.mark.parametrize("case", SPECS)
class TestBuiltinFusions(FusionContract):
    @pytest.fixture(autouse=True)
    def _case(self, case):
        torch.manual_seed(0)
        self.spec = SPECS[case]

    def build(self, encoders):
        return family("fusion").build(self.spec, encoders)
