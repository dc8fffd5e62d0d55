from __future__ import annotations

import pytest
import torch
from torch import nn

from deepseek.compression.fusion import folded
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.encoders.audio import MaskedBatchNorm
from deepseek.models.encoders.audio_cnn import AudioCnnEncoder
from deepseek.models.encoders.audio_rnn import AudioRnnEncoder, ResidualLstm

SOUND = {"call": InputSpec("call", Kind.AUDIO, ("call",), (12,), "float32", ragged=True)}


def batch(rows=5, length=20):
    torch.manual_seed(1)
    mask = torch.arange(length) < torch.linspace(3, length, rows).round().long().unsqueeze(1)
    return {"call": torch.randn(rows, length, 12) * mask.unsqueeze(-1), "call_mask": mask}


def test_batch_statistics_are_those_of_real_frames():
    torch.manual_seed(0)
    x, mask = torch.randn(4, 3, 7, 5), torch.arange(7) < torch.tensor([[7], [2], [5], [1]])
    own, plain = MaskedBatchNorm(3).train(), nn.BatchNorm1d(3).train()
    real = x.transpose(1, 2)[mask]  # [n, c, f]
    wanted = plain(real)
    made = own(x * mask[:, None, :, None] + 99 * ~mask[:, None, :, None], mask)
    torch.testing.assert_close(made.transpose(1, 2)[mask], wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(own.running_mean, plain.running_mean)
    torch.testing.assert_close(own.running_var, plain.running_var)
    assert own.num_batches_tracked == 1
    torch.testing.assert_close(own.eval()(x, mask), plain.eval()(x.flatten(2)).view_as(x))


def test_training_does_not_see_padding():
    first, second = (AudioCnnEncoder(SOUND, channels=[4, 8], blocks=[1, 0], dropout=0.0) for _ in range(2))
    second.load_state_dict(first.state_dict())
    inputs = batch()
    longer = {name: torch.cat([tensor, tensor.new_zeros(5, 9, *tensor.shape[2:])], dim=1) for name, tensor in inputs.items()}
    torch.testing.assert_close(first.train()(inputs).tokens, second.train()(longer).tokens, rtol=1e-4, atol=1e-5)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value)


def test_normalisations_are_folded_where_the_network_is_exported():
    encoder = AudioCnnEncoder(SOUND, channels=[4, 8], blocks=[1, 0]).eval()
    made = folded(encoder, lambda one: one(batch()))
    assert len(made.pairs) == 4
    torch.testing.assert_close(made.module(batch()).tokens, encoder(batch()).tokens, rtol=1e-4, atol=1e-5)


def test_time_is_halved_as_often_as_said():
    for halve_time, length in ((0, 20), (1, 10), (2, 5)):
        encoder = AudioCnnEncoder(SOUND, channels=[4, 8, 8], blocks=[0, 0, 0], pool="none", halve_time=halve_time).eval()
        tokens, mask = encoder(batch())
        assert mask.sum(dim=1).max() == length
        assert tokens.shape[:2] == mask.shape
    with pytest.raises(InputError, match="one number of blocks for each stage"):
        AudioCnnEncoder(SOUND, channels=[4], blocks=[0, 1])


def cell(layer, x):
    """The layer by its formulas, gate by gate."""
    w, u, bias = layer.given.weight, layer.carried.weight, layer.given.bias
    size = x.shape[2]
    h = c = torch.zeros(len(x), size)
    out = []
    for t in range(x.shape[1]):
        i, f, g, o = (
            x[:, t] @ w[size * k : size * (k + 1)].T + bias[size * k : size * (k + 1)] + h @ u[size * k : size * (k + 1)].T
            for k in range(4)
        )
        i, f = torch.sigmoid(i + layer.peep_into * c), torch.sigmoid(f + layer.peep_keep * c)
        c = f * c + i * torch.tanh(g)
        o = torch.sigmoid(o + layer.peep_out * c)
        h = o * (torch.tanh(c) @ layer.project.weight.T + x[:, t]) if layer.residual else o * torch.tanh(c)
        out.append(h)
    return torch.stack(out, dim=1)


@pytest.mark.parametrize("residual", [True, False])
def test_a_layer_is_the_residual_lstm_of_the_paper(residual):
    torch.manual_seed(0)
    layer = ResidualLstm(6, residual=residual, layer_norm=False)
    for one in (layer.peep_into, layer.peep_keep, layer.peep_out):
        nn.init.normal_(one)
    x = torch.randn(3, 9, 6)
    torch.testing.assert_close(layer(x), cell(layer, x))


def test_without_peepholes_and_shortcut_it_is_pytorchs_lstm():
    torch.manual_seed(0)
    layer, theirs = ResidualLstm(6, residual=False, layer_norm=False), nn.LSTM(6, 6, batch_first=True)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(layer.given.weight)
        theirs.weight_hh_l0.copy_(layer.carried.weight)
        theirs.bias_ih_l0.copy_(layer.given.bias)
        theirs.bias_hh_l0.zero_()
    x = torch.randn(3, 9, 6)
    torch.testing.assert_close(layer(x), theirs(x)[0])


def test_shortcuts_carry_gradients_to_deep_layers():
    reached = {}
    for residual in (True, False):
        torch.manual_seed(0)
        encoder = AudioRnnEncoder(SOUND, width=16, depth=12, residual=residual, layer_norm=False, dropout=0.0)
        encoder(batch()).tokens.square().sum().backward()
        reached[residual] = float(encoder.read.weight.grad.norm())
    assert reached[True] > 100 * reached[False]


@pytest.mark.parametrize("layer_norm", [True, False])
def test_gates_of_a_new_layer_are_open_for_the_shortcut_and_the_cell(layer_norm):
    torch.manual_seed(0)
    x = torch.randn(3, 9, 32)
    states = x
    for _ in range(10):
        states = ResidualLstm(32, residual=True, layer_norm=layer_norm)(states)
    assert torch.corrcoef(torch.stack([x.flatten(), states.flatten()]))[0, 1] > 0.15  # gates half open leave 0.03, which is chance
    assert states.std() > 0.1
    layer = ResidualLstm(32, residual=True, layer_norm=layer_norm)
    into, keep, new, out = layer.norm_given(layer.given(torch.zeros(1, 32))).chunk(4, dim=-1)
    assert keep.mean() > 0.5
    assert out.mean() > 1.5
    assert into.mean().abs() < 0.3
    assert new.mean().abs() < 0.3


def test_several_frames_are_read_at_a_step():
    tokens, mask = AudioRnnEncoder(SOUND, width=8, stride=3, pool="none").eval()(batch())
    assert mask.sum(dim=1).max() == 7  # 20 frames, three at a step
    assert tokens.shape[1] == mask.shape[1]


def test_other_inputs_are_refused():
    with pytest.raises(InputError, match="takes spectrograms"):
        AudioRnnEncoder({"call": InputSpec("call", Kind.AUDIO, ("call",), (), "int16", ragged=True)})
    with pytest.raises(InputError, match="given 2 inputs"):
        AudioCnnEncoder({**SOUND, "other": SOUND["call"]})
