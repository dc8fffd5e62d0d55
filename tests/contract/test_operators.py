from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import erf

from deepseek.components import FAMILIES
from deepseek.models.operators.contract import OperatorContract
from deepseek.registry import family


def halves(x):
    return np.split(x, 2, axis=-1)


REFERENCES = {
    "squared_relu": lambda x: np.maximum(x, 0) ** 2,
    "geglu": lambda x: halves(x)[0] * 0.5 * (1 + erf(halves(x)[0] / np.sqrt(2))) * halves(x)[1],
}


def test_every_builtin_operator_is_in_this_suite():
    assert set(REFERENCES) == set(FAMILIES["operator"][1])


@pytest.mark.parametrize("case", REFERENCES)
class TestBuiltinOperators(OperatorContract):
    @pytest.fixture(autouse=True)
    def _case(self, case):
        self.case = case

    def build(self, width):
        return family("operator").build(self.case, width)

    def reference(self, operator, x):
        return REFERENCES[self.case](x)


def test_geglu_keeps_a_third_less_than_its_operations():
    def kept(function, x):
        sizes = {}
        note = lambda tensor: sizes.setdefault(tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()) and tensor  # noqa: E731
        held = []
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: held.append(tensor) or note(tensor), lambda tensor: tensor):
            function(x)
        return sum(sizes.values())

    x = torch.randn(8, 64, requires_grad=True)
    plain = kept(lambda x: torch.nn.functional.gelu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1], x)
    assert kept(family("operator").build("geglu", 64), x) * 3 == plain * 2
