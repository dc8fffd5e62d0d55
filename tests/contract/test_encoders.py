from __future__ import annotations

import numpy as np
import pytest
import torch

from deepseek.data.transforms.base import InputSpec
from deepseek.fields import Kind
from deepseek.models.contract import EncoderContract
from deepseek.registry import family

QUANTILES = np.sort(np.random.default_rng(0).normal(size=(3, 65)), axis=1).astype(np.float32)
TABLE = {
    "numbers": InputSpec("numbers", Kind.NUMBER, ("a", "b", "c"), (3,), "float32", quantiles=QUANTILES),
    "codes": InputSpec("codes", Kind.CATEGORY, ("d", "e"), (2,), "int32", (4, 20)),
    "flags": InputSpec("flags", Kind.BINARY, ("f",), (1,), "float32"),
}
IMAGE = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (3, 16, 16), "float32")}
SPECS = {
    "table": "table",
    "table, a token a column": {"type": "table", "tokens": True, "numbers": "periodic"},
    "table, widths by cardinality": {"type": "table", "category_width": "auto", "one_hot": 0, "numbers": "linear"},
    "cnn": {"type": "cnn", "channels": [8, 16], "blocks": [0, 1], "normalization": "group"},
    "resnet": "resnet",
    "efficientnet": {"type": "efficientnet", "width_coefficient": 0.25, "depth_coefficient": 0.5},
}


def test_every_builtin_encoder_is_in_this_suite():
    tested = {spec if isinstance(spec, str) else spec["type"] for spec in SPECS.values()}
    assert tested == set(family("encoder").names())


@pytest.mark.parametrize("case", SPECS)
class TestBuiltinEncoders(EncoderContract):
    @pytest.fixture(autouse=True)
    def _case(self, case):
        torch.manual_seed(0)
        self.case = case

    def build(self):
        return family("encoder").build(SPECS[self.case], TABLE if self.case.startswith("table") else IMAGE)

    def batch(self, rows):
        if not self.case.startswith("table"):
            return {"photo": torch.randn(rows, 3, 16, 16)}
        codes = torch.stack((torch.randint(0, 4, (rows,)), torch.randint(0, 20, (rows,))), dim=1).int()
        return {"numbers": torch.randn(rows, 3), "codes": codes, "flags": torch.ones(rows, 1)}
