from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deepseek.data.transforms.base import InputSpec
from deepseek.data.windows.rules import HISTORY
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.forecasting.linear import DLinear, NLinear, moving_average

CONTEXT, HORIZON, CHANNELS = 20, 6, 3
PAST = {HISTORY: InputSpec(HISTORY, Kind.SERIES, ("a", "b", "c"), (CONTEXT, CHANNELS), "float32", horizon=HORIZON)}


def paired(network, each=1):
    torch.manual_seed(0)
    return network, network.decision(HORIZON * CHANNELS * each)


def ask(network, decision, x):
    return decision(network({HISTORY: x}))


@pytest.mark.parametrize("kernel", [1, 4, 5, 25])
def test_dlinear_is_the_papers(kernel):
    """Against the paper's formulas, written down again: mean over neighbours with the ends repeated, two linear maps, their sum."""
    network, decision = paired(DLinear(PAST, {}, kernel=kernel))
    x = torch.randn(4, CONTEXT, CHANNELS)
    front, back = (kernel - 1) // 2, kernel // 2
    given = x.numpy()
    padded = np.concatenate([np.repeat(given[:, :1], front, axis=1), given, np.repeat(given[:, -1:], back, axis=1)], axis=1)
    trend = np.stack([padded[:, place : place + kernel].mean(axis=1) for place in range(CONTEXT)], axis=1)
    rest = given - trend
    weight, bias = decision.weight.detach().numpy()[:, 0], decision.bias.detach().numpy()[:, 0]
    wanted = sum(np.einsum("blc,hl->bhc", part, weight[place]) + bias[place][None, :, None] for place, part in enumerate((rest, trend)))
    out = ask(network, decision, x).detach().numpy()
    np.testing.assert_allclose(out, wanted.reshape(4, 1, -1), atol=1e-5)


def test_nlinear_is_the_papers():
    network, decision = paired(NLinear(PAST, {}))
    x = torch.randn(4, CONTEXT, CHANNELS)
    layer = nn.Linear(CONTEXT, HORIZON)
    with torch.no_grad():
        layer.weight.copy_(decision.weight[0, 0])
        layer.bias.copy_(decision.bias[0, 0])
        last = x[:, -1:]
        wanted = layer((x - last).transpose(1, 2)).transpose(1, 2) + last
        torch.testing.assert_close(ask(network, decision, x), wanted.flatten(1).unsqueeze(1), atol=1e-5, rtol=1e-5)


def test_nlinear_follows_a_level_that_it_never_saw():
    network, decision = paired(NLinear(PAST, {}))
    x = torch.randn(2, CONTEXT, CHANNELS)
    torch.testing.assert_close(ask(network, decision, x + 500), ask(network, decision, x) + 500, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("kind", [DLinear, NLinear])
def test_columns_share_a_map_or_have_one_each(kind):
    """Exchanging columns exchanges their forecasts where they share a map, and does not where each has its own."""
    x = torch.randn(2, CONTEXT, CHANNELS)
    for individual in (False, True):
        network, decision = paired(kind(PAST, {}, individual=individual))
        out = ask(network, decision, x).reshape(2, HORIZON, CHANNELS)
        turned = ask(network, decision, x.flip(-1)).reshape(2, HORIZON, CHANNELS).flip(-1)
        assert torch.allclose(out, turned, atol=1e-5) != individual


@pytest.mark.parametrize("kind", [DLinear, NLinear])
def test_several_numbers_for_each_value(kind):
    network, decision = paired(kind(PAST, {}), each=3)
    assert ask(network, decision, torch.randn(2, CONTEXT, CHANNELS)).shape == (2, 1, HORIZON * CHANNELS * 3)


def test_a_moving_average_of_one_step_is_the_series():
    x = torch.randn(2, 3, 9)
    assert torch.equal(moving_average(x, 1), x)


def test_without_a_history_nothing_is_forecast():
    numbers = InputSpec("numbers", Kind.NUMBER, ("a",), (1,), "float32")
    with pytest.raises(InputError, match="the data have no history"):
        DLinear({"numbers": numbers}, {})


def test_a_task_of_rows_does_not_fit():
    with pytest.raises(InputError, match="forecasting networks go with task"):
        DLinear(PAST, {}).decision(1)
