from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.encoders.table import CodeEmbedding, TableEncoder

NUMBERS = InputSpec("n", Kind.NUMBER, ("a", "b"), (2,), "float32", quantiles=np.tile(np.linspace(0, 1, 9, dtype=np.float32), (2, 1)))
CODES = InputSpec("c", Kind.CATEGORY, ("d", "e", "f"), (3,), "int32", (3, 12, 40))
FLAGS = InputSpec("x.flag", Kind.BINARY, ("g",), (1,), "float32")


def test_code_embedding_is_one_look_up_a_column():
    layer = CodeEmbedding([3, 12, 40], width="auto", one_hot=5)
    codes = torch.tensor([[0, 11, 39], [2, 0, 7]], dtype=torch.int32)
    widths = [round(1.6 * 12**0.56), round(1.6 * 40**0.56)]
    table = layer.table.weight
    assert widths[0] < widths[1] == table.shape[1]
    wanted = [functional.one_hot(codes[:, 0].long(), 3), table[codes[:, 1], : widths[0]], table[12 + codes[:, 2], : widths[1]]]
    torch.testing.assert_close(layer(codes), torch.cat(wanted, dim=1))
    assert layer.width == 3 + sum(widths)


def test_no_two_columns_share_a_vector():
    layer = CodeEmbedding([3, 12], width=4)
    layer(torch.tensor([[2, 0]])).sum().backward()
    rows = layer.table.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist()
    assert rows == [2, 3]


def test_the_table_is_laid_side_by_side():
    encoder = TableEncoder(
        {"n": NUMBERS, "c": CODES, "x.flag": FLAGS}, numbers={"type": "linear", "width": 5}, category_width=4, one_hot=3
    ).eval()
    assert (encoder.tokens, encoder.width) == (1, 2 * 5 + 1 + 3 + 2 * 4)
    flag = torch.tensor([[1.0], [0.0]])
    tokens = encoder({"n": torch.rand(2, 2), "c": torch.zeros(2, 3, dtype=torch.int32), "x.flag": flag}).tokens
    assert tokens.shape == (2, 1, 22)
    assert torch.equal(tokens[:, 0, 10], flag[:, 0])


def test_one_token_a_column():
    inputs = {"n": torch.rand(2, 2), "c": torch.zeros(2, 3, dtype=torch.int32), "x.flag": torch.ones(2, 1)}
    encoder = TableEncoder({"n": NUMBERS, "c": CODES, "x.flag": FLAGS}, numbers={"type": "piecewise", "width": 6}, tokens=True).eval()
    assert (encoder.tokens, encoder.width) == (6, 6)
    tokens = encoder(inputs).tokens
    inputs["n"] = inputs["n"] + torch.tensor([0.0, 0.5])
    changed = (encoder(inputs).tokens != tokens).any(dim=(0, 2))
    assert changed.tolist() == [False, True, False, False, False, False]
    with pytest.raises(InputError, match="no width"):
        TableEncoder({"n": NUMBERS, "c": CODES}, numbers="identity", tokens=True)


def test_dropout_acts_in_training_only():
    encoder = TableEncoder({"n": NUMBERS}, dropout=0.5)
    batch = {"n": torch.rand(8, 2)}
    assert not torch.equal(encoder(batch).tokens, encoder(batch).tokens)
    encoder.eval()
    assert torch.equal(encoder(batch).tokens, encoder(batch).tokens)


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        (InputSpec("p", Kind.IMAGE, ("p",), (1, 8, 8), "float32"), "belongs in no table"),
        (InputSpec("n", Kind.NUMBER, ("n",), (2, 3), "float32"), "shape"),
        (InputSpec("c", Kind.CATEGORY, ("c",), (2,), "int32", (3,)), "1 cardinalities"),
    ],
)
def test_what_is_no_table_is_refused_by_name(spec, match):
    with pytest.raises(InputError, match=match):
        TableEncoder({spec.name: spec})
