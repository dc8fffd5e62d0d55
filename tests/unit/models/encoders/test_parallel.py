"""Several encoders of one input, side by side."""

import pytest
import torch

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.encoders.parallel import ParallelEncoder
from deepseek.registry import family

TEXT = {"t": InputSpec("t", Kind.TEXT, ("t",), (), "int32", (40,), ragged=True)}
BATCH = {"t": torch.tensor([[2, 7, 9], [2, 5, 0]], dtype=torch.int32)}
CNN = {"type": "text_cnn", "filters": 8, "dropout": 0.0}
BAG = {"type": "text_bag", "width": 4, "buckets": 50}
NUMBERS = {"n": InputSpec("n", Kind.NUMBER, ("a", "b"), (2,), "float32")}


def specs(*given):
    return [family("encoder").validate(spec) for spec in given]


def test_the_parts_stand_side_by_side():
    encoder = ParallelEncoder(TEXT, encoders=specs(CNN, BAG)).eval()
    tokens = encoder(BATCH).tokens
    assert tokens.shape == (2, 1, encoder.width) == (2, 1, 3 * 8 + 4)
    torch.testing.assert_close(tokens[..., :24], encoder.parts[0](BATCH).tokens)
    torch.testing.assert_close(tokens[..., 24:], encoder.parts[1](BATCH).tokens)


def test_every_part_learns():
    encoder = ParallelEncoder(TEXT, encoders=specs(CNN, BAG))
    encoder(BATCH).tokens.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in encoder.parameters() if parameter.ndim > 1)


def test_a_part_with_several_tokens_is_laid_flat():
    table = {"type": "table", "numbers": {"type": "linear", "width": 3}, "tokens": True}
    encoder = ParallelEncoder(NUMBERS, encoders=specs(table, table))
    assert encoder({"n": torch.randn(5, 2)}).tokens.shape == (5, 1, 12)


def test_a_part_that_pools_nothing_is_refused():
    with pytest.raises(InputError, match="encoder 1 of those side by side") as caught:
        ParallelEncoder(TEXT, encoders=specs(BAG, {**CNN, "pool": "none"}))
    assert "pooling" in str(caught.value.hint)
