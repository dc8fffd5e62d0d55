from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.errors import InputError
from deepseek.models.embeddings import (
    IdentityEmbedding,
    LinearEmbedding,
    PeriodicEmbedding,
    PiecewiseEmbedding,
    bin_edges,
)

QUANTILES = np.array([[0, 1, 2, 4, 8], [0, 0, 0, 0, 1], [5, 5, 5, 5, 5]], dtype=np.float32)


def piecewise_code(x, edges, bins):
    """The encoding of one number, straight from the paper's definition, with closed ends."""
    code = np.zeros(bins)
    for place in range(len(edges) - 1):
        left, right = edges[place], edges[place + 1]
        code[place] = min(max((x - left) / (right - left), 0.0), 1.0)
    return code


def test_piecewise_code_is_the_papers():
    embedding = PiecewiseEmbedding(3, QUANTILES, width=4, bins=8)
    x = np.random.default_rng(0).uniform(-2, 10, size=(50, 3)).astype(np.float32)
    edges = [np.unique(row) for row in QUANTILES]
    wanted = [[piecewise_code(value, edges[column], 4) for column, value in enumerate(row)] for row in x]
    np.testing.assert_allclose(embedding.encode(torch.from_numpy(x)).numpy(), wanted, rtol=1e-6, atol=1e-6)


def test_piecewise_forward_is_a_linear_map_a_column():
    torch.manual_seed(0)
    embedding = PiecewiseEmbedding(3, QUANTILES, width=4, activation=True)
    x = torch.randn(7, 3) * 4
    code, out = embedding.encode(x), embedding(x)
    for column in range(3):
        wanted = code[:, column] @ embedding.weight[column] + embedding.bias[column] + x[:, column, None] * embedding.slope[column]
        torch.testing.assert_close(out[:, column], wanted.relu())


def test_the_codes_sum_turns_a_staircase_into_any_function():
    # Ablation: without bins a column is linear, and no linear map fits |x|.
    quantiles = np.linspace(-1, 1, 33, dtype=np.float32)[None]
    x = torch.linspace(-1, 1, 101)[:, None]
    code = PiecewiseEmbedding(1, quantiles, bins=32).encode(x)[:, 0]

    def error(features):
        features = torch.cat((features, torch.ones(len(x), 1)), dim=1)
        return float((features @ torch.linalg.lstsq(features, x.abs()).solution - x.abs()).abs().max())

    assert error(code) < 0.05
    assert error(x) > 0.3


def test_zero_init_begins_with_the_linear_term_alone():
    embedding = PiecewiseEmbedding(3, QUANTILES, width=4, zero_init=True, activation=False)
    x = torch.randn(5, 3)
    torch.testing.assert_close(embedding(x), embedding.bias + x[..., None] * embedding.slope)
    with pytest.raises(InputError, match="zero_init"):
        PiecewiseEmbedding(3, QUANTILES, zero_init=True, linear=False)


def test_without_the_linear_term_nothing_grows_outside_the_training_range():
    embedding = PiecewiseEmbedding(1, QUANTILES[:1], linear=False)
    torch.testing.assert_close(embedding(torch.tensor([[8.0]])), embedding(torch.tensor([[1e6]])))


def test_piecewise_needs_quantiles_of_every_column():
    with pytest.raises(InputError, match="no quantiles"):
        PiecewiseEmbedding(3, None)
    with pytest.raises(InputError, match="2 columns"):
        PiecewiseEmbedding(2, QUANTILES)


def test_a_heavy_value_takes_one_edge_and_not_all():
    quantiles = np.concatenate((np.zeros(60), np.linspace(1, 100, 41)))
    edges = bin_edges(quantiles, 8)
    assert edges[0] == 0
    assert len(edges) == 9
    assert edges[1] == 1
    assert edges[-1] == 100


def test_distinct_keeps_every_value():
    quantiles = np.repeat(np.arange(30.0), 4)
    assert len(bin_edges(quantiles, 8)) == 9
    assert bin_edges(quantiles, 8, distinct=30).tolist() == list(range(30))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=80), st.integers(2, 12), st.integers(0, 12))
def test_edges_rise_and_cover_the_range(values, bins, distinct):
    quantiles = np.sort(np.array(values, dtype=np.float32))
    edges = bin_edges(quantiles, bins, distinct)
    assert (np.diff(edges) > 0).all()
    assert 1 <= len(edges) <= max(bins + 1, distinct)
    assert edges[0] == quantiles[0]
    assert edges[-1] == quantiles[-1]


def test_periodic_is_the_papers():
    torch.manual_seed(0)
    embedding = PeriodicEmbedding(2, None, width=3, frequencies=4, activation=False)
    x = torch.randn(5, 2)
    out = embedding(x)
    for column in range(2):
        angle = 2 * torch.pi * x[:, column, None] * embedding.frequency[column]
        wanted = torch.cat((angle.cos(), angle.sin()), dim=1) @ embedding.weight[column] + embedding.bias[column]
        torch.testing.assert_close(out[:, column], wanted, rtol=1e-4, atol=1e-5)


def test_frequency_scale_sets_the_frequencies():
    torch.manual_seed(0)
    low, high = (PeriodicEmbedding(50, None, frequency_scale=scale).frequency.std() for scale in (0.1, 10.0))
    assert 90 < high / low < 110


def test_linear_and_identity():
    x = torch.randn(4, 3)
    linear = LinearEmbedding(3, None, width=2)
    torch.testing.assert_close(linear(x), (x[..., None] * linear.weight + linear.bias).relu())
    assert LinearEmbedding(3, None, width=2, activation=False)(x).min() < 0
    torch.testing.assert_close(IdentityEmbedding(3, None)(x), x[..., None])


def test_codes_stay_float32_under_autocast():
    embedding = PiecewiseEmbedding(2, np.sort(np.random.default_rng(0).standard_normal((2, 50))).astype(np.float32), bins=8)
    x = torch.randn(6, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(embedding(x), embedding(x).float())
        inside = embedding(x)
    assert torch.equal(inside, embedding(x))
