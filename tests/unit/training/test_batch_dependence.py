from __future__ import annotations

import pytest
from torch import nn

from deepseek.data.transforms.base import InputSpec
from deepseek.fields import Kind
from deepseek.models.encoders.text_bag import TextBagEncoder
from deepseek.models.layers import QuickDropout, SharedDropout, StochasticDepth
from deepseek.models.network import Network
from deepseek.training.batch_dependence import division_note, has_batch_statistics

TEXT = {name: InputSpec(name, Kind.TEXT, (name,), (), "int32", cardinalities=(30,), ragged=True) for name in ("one", "other")}
ONE = {"one": TEXT["one"]}
BAG = {"type": "text_bag", "width": 4}
TRUNK = {"type": "mlp", "width": 4, "depth": 1, "dropout": 0.0, "normalization": "layer"}


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.BatchNorm1d(3), "batch statistics"),
        (nn.BatchNorm2d(3), "batch statistics"),
        (nn.Dropout(0.1), "dropout"),
        (SharedDropout(0.1), "dropout"),
        (QuickDropout(0.1), "dropout"),
        (nn.LSTM(3, 3, num_layers=2, dropout=0.1), "dropout"),
        (TextBagEncoder(ONE, width=4, token_dropout=0.1), "dropout"),
        (TextBagEncoder(ONE, width=4), None),
        (Network(TEXT, {}, encoders={"one": BAG, "other": BAG}, trunk=TRUNK, sense_dropout=0.1), "dropout"),
        (Network(TEXT, {}, encoders={"one": BAG, "other": BAG}, trunk=TRUNK), None),
        (QuickDropout(0.0), None),
        (StochasticDepth(0.1), "dropout"),
        (nn.Dropout(0.0), None),
        (nn.LayerNorm(3), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_only_what_depends_on_the_division_is_told(layer, words):
    model = nn.Sequential(nn.Linear(3, 3), layer)
    note = division_note(model, 2)
    assert words in note if words else note is None
    assert division_note(model, 1) is None
    assert has_batch_statistics(model) is (words == "batch statistics")


def test_batch_statistics_of_all_rows_are_those_of_one_rank():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    assert division_note(model, 2, sharers=1) is None
    assert "dropout" in division_note(nn.Sequential(model, nn.Dropout(0.1)), 2, sharers=1)
