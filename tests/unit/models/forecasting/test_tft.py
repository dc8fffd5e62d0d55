from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deepseek.data.transforms.base import InputSpec
from deepseek.data.windows.rules import HISTORY, HISTORY_KNOWN
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.forecasting.base import to_window_scale
from deepseek.models.forecasting.gating import GatedResidual, ReadableAttention, VariableSelection
from deepseek.models.forecasting.recurrent import SeriesRnn
from deepseek.models.forecasting.tft import TemporalFusionTransformer
from deepseek.models.recurrent import run_from

CONTEXT, HORIZON = 12, 4
WHOLE = CONTEXT + HORIZON
SPECS = {
    HISTORY: InputSpec(HISTORY, Kind.SERIES, ("a", "b"), (CONTEXT, 2), "float32", horizon=HORIZON),
    HISTORY_KNOWN: InputSpec(HISTORY_KNOWN, Kind.SERIES, ("a", "b"), (CONTEXT, 2), "float32"),
    "observed_numbers": InputSpec("observed_numbers", Kind.SERIES, ("wind",), (CONTEXT, 1), "float32"),
    "observed_categories": InputSpec("observed_categories", Kind.SERIES, ("sky",), (CONTEXT, 1), "int32", (4,)),
    "known_numbers": InputSpec("known_numbers", Kind.SERIES, ("price",), (WHOLE, 1), "float32", horizon=HORIZON),
    "known_categories": InputSpec("known_categories", Kind.SERIES, ("holiday",), (WHOLE, 1), "int32", (3,), horizon=HORIZON),
    "static_numbers": InputSpec("static_numbers", Kind.NUMBER, ("size",), (1,), "float32"),
    "static_categories": InputSpec("static_categories", Kind.CATEGORY, ("shop", "region"), (2,), "int32", (5, 3)),
}
FEW = {HISTORY: SPECS[HISTORY]}


def window(rows=3, specs=None):
    made = {}
    for name, spec in (specs or SPECS).items():
        if spec.cardinalities:
            made[name] = torch.randint(0, min(spec.cardinalities), (rows, *spec.shape), dtype=torch.int32)
        else:
            made[name] = torch.randn(rows, *spec.shape)
    return made


def build(kind, specs=None, **given):
    torch.manual_seed(0)
    network = kind(specs or SPECS, {}, width=8, dropout=0.0, **given)
    return network.eval(), network.decision(HORIZON * 2 * 3)


NETWORKS = {
    "tft": lambda specs=None: build(TemporalFusionTransformer, specs, heads=2),
    "tft, two layers": lambda specs=None: build(TemporalFusionTransformer, specs, heads=2, depth=2),
    "series_rnn": lambda specs=None: build(SeriesRnn, specs),
    "series_rnn, gru without attention": lambda specs=None: build(SeriesRnn, specs, cell="gru", depth=2, attention=False),
}


@pytest.mark.parametrize("name", NETWORKS)
class TestNetworks:
    @pytest.mark.parametrize("specs", [SPECS, FEW], ids=["every kind of input", "the history alone"])
    def test_shapes_and_gradients(self, name, specs):
        network, decision = NETWORKS[name](specs)
        out = decision(network(window(specs=specs)))
        assert out.shape == (3, 1, HORIZON * 2 * 3)
        out.sum().backward()
        for place, parameter in [*network.named_parameters(), *decision.named_parameters()]:
            assert parameter.grad is not None, place
            assert torch.isfinite(parameter.grad).all(), place

    @pytest.mark.parametrize("given", list(SPECS))
    def test_every_input_has_a_say(self, name, given):
        network, decision = NETWORKS[name]()
        inputs = window()
        spec = SPECS[given]
        other = (inputs[given] + 1) % min(spec.cardinalities) if spec.cardinalities else inputs[given] + 1
        assert not torch.allclose(decision(network(inputs)), decision(network({**inputs, given: other.to(inputs[given].dtype)})))

    def test_windows_do_not_see_each_other(self, name):
        network, decision = NETWORKS[name]()
        inputs = window()
        alone = decision(network({key: value[:1] for key, value in inputs.items()}))
        torch.testing.assert_close(alone, decision(network(inputs))[:1], rtol=1e-4, atol=1e-5)

    def test_it_exports_for_any_number_of_windows(self, name):
        network, decision = NETWORKS[name]()
        whole = _Whole(network, decision)
        inputs, more = window(), window(7)
        dynamic = ({key: {0: torch.export.Dim("rows", min=1)} for key in inputs},)
        with torch.no_grad():
            exported = torch.export.export(whole, (inputs,), dynamic_shapes=dynamic).module()
            torch.testing.assert_close(exported(more), whole(more), rtol=1e-4, atol=1e-5)


class TestWindowScale:
    @pytest.mark.parametrize("kind", [TemporalFusionTransformer, SeriesRnn])
    @pytest.mark.parametrize("window_scale", [True, False])
    def test_forecasts_move_and_stretch_with_the_past(self, kind, window_scale):
        """A level and a width that training never saw make no difference; without the scale of the window they do."""
        extra = {"heads": 2} if kind is TemporalFusionTransformer else {}
        network, decision = build(kind, FEW, window_scale=window_scale, **extra)
        past = torch.randn(3, CONTEXT, 2)
        level, width = torch.tensor([100.0, -7.0]), torch.tensor([20.0, 3.0])
        plain, moved = (decision(network({HISTORY: history})).reshape(3, HORIZON, 2, 3) for history in (past, past * width + level))
        as_moved = torch.allclose(moved, plain * width[:, None] + level[:, None], rtol=1e-3, atol=1e-2)
        assert as_moved == window_scale

    def test_what_is_not_known_has_no_say_in_the_scale(self):
        past, known = torch.randn(2, CONTEXT, 2), torch.ones(2, CONTEXT, 2)
        known[:, 3:6, 0] = 0.0
        wild = torch.where(known > 0, past, torch.full_like(past, 50.0))
        scaled, statistics = to_window_scale({HISTORY: wild, HISTORY_KNOWN: known})
        left = past[:, [*range(3), *range(6, CONTEXT)], 0]
        torch.testing.assert_close(statistics[:, 0], left.mean(dim=1))
        torch.testing.assert_close(statistics[:, 2], left.std(dim=1, correction=0), rtol=1e-3, atol=1e-4)
        assert (scaled[HISTORY][:, 3:6, 0] == 0).all()

    @pytest.mark.parametrize(("values", "level"), [(0, 0.0), (1, 3.0)])
    def test_a_past_of_one_value_or_none_has_the_width_of_training(self, values, level):
        """One value has no deviation: taken for a past that stands still, its forecasts and their quantiles would lie within hundredths."""
        known = torch.zeros(1, CONTEXT, 2)
        known[:, CONTEXT - values :] = 1.0
        _, statistics = to_window_scale({HISTORY: 3.0 * known, HISTORY_KNOWN: known})
        assert statistics.tolist() == [[level, level, 1.0, 1.0]]
        _, of_one_step = to_window_scale({HISTORY: torch.full((1, 1, 2), 3.0)})  # context_length: 1
        assert of_one_step.tolist() == [[3.0, 3.0, 1.0, 1.0]]

    def test_a_past_that_stands_still_or_is_unknown_stays_finite(self):
        for history, known in ((torch.full((1, CONTEXT, 2), 3.0), torch.ones(1, CONTEXT, 2)), (torch.zeros(1, CONTEXT, 2),) * 2):
            scaled, statistics = to_window_scale({HISTORY: history, HISTORY_KNOWN: known})
            assert torch.isfinite(scaled[HISTORY]).all()
            assert torch.isfinite(statistics).all()


class _Whole(nn.Module):
    def __init__(self, network, decision):
        super().__init__()
        self.network, self.decision = network, decision

    def forward(self, inputs):
        return self.decision(self.network(inputs))


class TestTransformer:
    def test_a_step_ahead_sees_what_is_known_up_to_itself(self):
        """What is known of a later step moves no earlier one: the decoder and attention look back only."""
        network, decision = NETWORKS["tft"]()
        inputs = window()
        later = inputs["known_numbers"].clone()
        later[:, CONTEXT + 2] += 1
        before, after = (decision(network({**inputs, "known_numbers": known})) for known in (inputs["known_numbers"], later))
        moved = (before - after).reshape(3, HORIZON, -1).abs().amax(dim=(0, 2)) > 1e-6
        assert moved.tolist() == [False, False, True, True]

    def test_weights_say_what_was_looked_at(self):
        network, _ = NETWORKS["tft"]()
        told = network.interpretation(window())
        assert list(told.past) == ["a", "b", "a_known", "b_known", "wind", "price", "position", "sky", "holiday"]
        assert list(told.future) == ["price", "position", "holiday"]
        assert list(told.static) == ["size", "shop", "region"]
        for weights in (told.past, told.future, told.static):
            torch.testing.assert_close(torch.stack(list(weights.values())).sum(dim=0), torch.ones_like(next(iter(weights.values()))))
        torch.testing.assert_close(told.attention.sum(dim=-1), torch.ones(3, HORIZON))
        assert (told.attention[:, 0, CONTEXT + 1 :] == 0).all()

    def test_a_width_that_heads_cannot_share_is_refused(self):
        with pytest.raises(InputError, match="give a multiple of heads"):
            TemporalFusionTransformer(FEW, {}, width=10, heads=4)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def affine(layer, x):
    return x @ layer.weight.detach().numpy().T + (0 if layer.bias is None else layer.bias.detach().numpy())


def normalised(layer, x):
    spread = np.sqrt(x.var(axis=-1, keepdims=True) + layer.eps)
    return (x - x.mean(axis=-1, keepdims=True)) / spread * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def gated(unit, x):
    value, gate = np.split(affine(unit.both, x), 2, axis=-1)
    return value * sigmoid(gate)


def residual(network, x, context=None):
    """Equations 2 to 5 of the paper, in NumPy."""
    inner = affine(network.first, x) + (0 if context is None else affine(network.context, context))
    inner = affine(network.second, np.where(inner > 0, inner, np.exp(np.minimum(inner, 0)) - 1))
    around = x if isinstance(network.around, nn.Identity) else affine(network.around, x)
    return normalised(network.norm, around + gated(network.gate, inner))


class TestThePapersEquations:
    @pytest.mark.parametrize(("width_in", "context"), [(6, None), (6, 4), (10, 4)])
    def test_gated_residual_networks(self, width_in, context):
        torch.manual_seed(0)
        network = GatedResidual(width_in, 6, context=context)
        x, given = torch.randn(3, 5, width_in), None if context is None else torch.randn(3, 1, context)
        wanted = residual(network, x.numpy(), None if given is None else given.numpy())
        np.testing.assert_allclose(network(x, given).detach().numpy(), wanted, atol=1e-5)

    def test_variable_selection(self):
        torch.manual_seed(0)
        network = VariableSelection(3, 4, context=4)
        variables, context = torch.randn(2, 5, 3, 4), torch.randn(2, 1, 4)
        scores = residual(network.weigh, variables.numpy().reshape(2, 5, 12), context.numpy())
        weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
        each = np.stack([residual(one, variables.numpy()[..., place, :]) for place, one in enumerate(network.each)], axis=-2)
        chosen, told = network(variables, context)
        np.testing.assert_allclose(told.detach().numpy(), weights, atol=1e-5)
        np.testing.assert_allclose(chosen.detach().numpy(), (each * weights[..., None]).sum(axis=-2), atol=1e-5)

    def test_interpretable_attention(self):
        """Equations 13 to 16: heads of their own queries and keys, one set of values, the mean over heads."""
        torch.manual_seed(0)
        network = ReadableAttention(8, 2)
        queries, steps = torch.randn(2, 3, 8), torch.randn(2, 7, 8)
        hidden = torch.arange(7) > torch.arange(4, 7)[:, None]
        asked, known, values = (
            affine(layer, x.numpy()) for layer, x in ((network.query, queries), (network.key, steps), (network.value, steps))
        )
        parts, weights = [], []
        for head in range(2):
            cut = slice(4 * head, 4 * head + 4)
            scores = np.where(hidden.numpy(), -np.inf, asked[..., cut] @ known[..., cut].transpose(0, 2, 1) / 2)
            shares = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
            weights.append(shares)
            parts.append(shares @ values)
        out, told = network(queries, steps, hidden)
        np.testing.assert_allclose(told.detach().numpy(), np.mean(weights, axis=0), atol=1e-5)
        np.testing.assert_allclose(out.detach().numpy(), affine(network.out, np.mean(parts, axis=0)), atol=1e-5)


def test_an_lstm_that_goes_on_where_another_ended_is_one_lstm():
    torch.manual_seed(0)
    layer, x = nn.LSTM(4, 5, batch_first=True), torch.randn(3, 9, 4)
    nothing = torch.zeros(3, 5)
    first, cell = run_from(layer, x[:, :6], hidden=nothing, cell=nothing)
    second, _ = run_from(layer, x[:, 6:], hidden=first[:, -1], cell=cell)
    torch.testing.assert_close(torch.cat((first, second), dim=1), layer(x)[0])
