from __future__ import annotations

import pytest
from torch import nn

from deepseek.models.layers import SharedDropout, StochasticDepth
from deepseek.training.batch_dependence import division_note, has_batch_statistics


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.BatchNorm1d(3), "batch statistics"),
        (nn.BatchNorm2d(3), "batch statistics"),
        (nn.Dropout(0.1), "dropout"),
        (SharedDropout(0.1), "dropout"),
        (StochasticDepth(0.1), "dropout"),
        (nn.Dropout(0.0), None),
        (nn.LayerNorm(3), None),
    ],
    ids=repr,
)
def test_only_what_depends_on_the_division_is_told(layer, words):
    model = nn.Sequential(nn.Linear(3, 3), layer)
    note = division_note(model, 2)
    assert words in note if words else note is None
    assert division_note(model, 1) is None
    assert has_batch_statistics(model) is (words == "batch statistics")
