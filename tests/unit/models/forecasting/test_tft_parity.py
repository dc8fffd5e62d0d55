"""The Temporal Fusion Transformer's parts beside those of PyTorch Forecasting: the same weights, the same numbers."""

from __future__ import annotations

import pytest
import torch

from deepseek.models.forecasting.gating import GatedLinearUnit, GatedResidual, GatedSkip, ReadableAttention, VariableSelection

theirs = pytest.importorskip("pytorch_forecasting.models.temporal_fusion_transformer.sub_modules")

NEAR = {"atol": 1e-5, "rtol": 1e-5}


def copied(source, target):
    """Give a linear layer or a normalisation another's weights."""
    target.load_state_dict(source.state_dict())


def spread(module):
    """Draw all weights anew: theirs begin with biases of zero, which would hide mistakes."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return module.eval()


def same_residual(ours, other):
    copied(ours.first, other.fc1)
    copied(ours.second, other.fc2)
    copied(ours.gate.both, other.gate_norm.glu.fc)
    copied(ours.norm, other.gate_norm.add_norm.norm)
    if ours.context is not None:
        copied(ours.context, other.context)


@torch.no_grad()
def test_gated_linear_units():
    ours, other = spread(GatedLinearUnit(6, 4)), theirs.GatedLinearUnit(6, 4).eval()
    copied(ours.both, other.fc)
    x = torch.randn(3, 5, 6)
    torch.testing.assert_close(ours(x), other(x), **NEAR)


@torch.no_grad()
def test_gated_skips():
    ours, other = spread(GatedSkip(6)), theirs.GateAddNorm(6, trainable_add=False).eval()
    copied(ours.gate.both, other.glu.fc)
    copied(ours.norm, other.add_norm.norm)
    x, around = torch.randn(3, 5, 6), torch.randn(3, 5, 6)
    torch.testing.assert_close(ours(x, around), other(x, around), **NEAR)


@pytest.mark.parametrize("context", [None, 4])
@torch.no_grad()
def test_gated_residual_networks(context):
    ours = spread(GatedResidual(6, 6, context=context))
    other = theirs.GatedResidualNetwork(6, 6, 6, dropout=0.0, context_size=context).eval()
    same_residual(ours, other)
    x, given = torch.randn(3, 5, 6), None if context is None else torch.randn(3, 5, context)
    torch.testing.assert_close(ours(x, given), other(x, given), **NEAR)


@torch.no_grad()
def test_what_variable_selection_makes_of_each_variable_and_their_sum():
    """Their network for the weights goes around through an interpolation, ours through a linear map as the paper has it: they are given."""
    ours = spread(VariableSelection(3, 4))
    variables = torch.randn(2, 5, 3, 4)
    chosen, weights = ours(variables)
    total = torch.zeros(2, 5, 4)
    for place, one in enumerate(ours.each):
        other = theirs.GatedResidualNetwork(4, 4, 4, dropout=0.0).eval()
        same_residual(one, other)
        total += other(variables[..., place, :]) * weights[..., place : place + 1]
    torch.testing.assert_close(chosen, total, **NEAR)


@torch.no_grad()
def test_interpretable_attention():
    ours, other = spread(ReadableAttention(8, 2)), theirs.InterpretableMultiHeadAttention(2, 8).eval()
    copied(ours.value, other.v_layer)
    copied(ours.out, other.w_h)
    for head in range(2):
        for layer, many in ((ours.query, other.q_layers), (ours.key, other.k_layers)):
            many[head].weight.copy_(layer.weight[4 * head : 4 * head + 4])
            many[head].bias.copy_(layer.bias[4 * head : 4 * head + 4])
    queries, steps = torch.randn(2, 3, 8), torch.randn(2, 7, 8)
    hidden = torch.arange(7) > torch.arange(4, 7)[:, None]
    found, weights = ours(queries, steps, hidden)
    expected, attention = other(queries, steps, steps, mask=hidden.expand(2, -1, -1))
    torch.testing.assert_close(found, expected, **NEAR)
    torch.testing.assert_close(weights, attention.mean(dim=2), **NEAR)
