from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from deepseek.models.layers import BatchEnsembleLinear, MemberLinear, QuickDropout, SharedDropout, StochasticDepth, member_scales


def test_member_linear_is_a_loop_over_members():
    layer, x = MemberLinear(3, 4, 2), torch.randn(5, 3, 4)
    wanted = torch.stack([x[:, k] @ layer.weight[k] + layer.bias[k] for k in range(3)], dim=1)
    torch.testing.assert_close(layer(x), wanted)


def test_batch_ensemble_is_a_loop_over_rank_one_scaled_weights():
    torch.manual_seed(0)
    layer, x = BatchEnsembleLinear(3, 4, 2, scale_in="normal"), torch.randn(3, 5, 4)
    torch.nn.init.normal_(layer.scale_out)
    weights = [layer.weight * torch.outer(layer.scale_out[k], layer.scale_in[k]) for k in range(3)]
    wanted = torch.stack([functional.linear(x[k], weights[k], layer.bias[k]) for k in range(3)])
    torch.testing.assert_close(layer(x), wanted)


def test_batch_ensemble_works_in_autocasts_format_throughout():
    layer, x = BatchEnsembleLinear(3, 4, 2), torch.randn(1, 5, 4)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), layer(x), rtol=0.05, atol=0.05)
    assert layer(x).dtype == torch.float32


def test_batch_ensemble_begins_as_the_paper_says():
    layer = BatchEnsembleLinear(4, 50, 6, scale_in="signs")
    assert set(layer.scale_in.unique().tolist()) == {-1.0, 1.0}
    assert (layer.scale_out == 1).all()
    assert (layer.bias == layer.bias[0]).all()
    assert (BatchEnsembleLinear(4, 5, 6).scale_in == 1).all()
    assert 0.8 < member_scales(20, 50, "normal").std() < 1.2


def test_shared_dropout_is_one_mask_for_all_members_and_only_in_training():
    drop, x = SharedDropout(0.5), torch.ones(4, 40, 10)
    out = drop(x)
    assert (out == out[:1]).all()
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert drop.eval()(x) is x


def test_stochastic_depth_drops_whole_rows_and_only_in_training():
    depth, x = StochasticDepth(0.5), torch.ones(60, 2, 3, 3)
    out = depth(x).flatten(1)
    assert (out == out[:, :1]).all()
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert depth.eval()(x) is x


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_quick_dropout_keeps_its_share_and_the_mean(dtype):
    torch.manual_seed(0)
    layer, x = QuickDropout(0.3), torch.ones(333, 301, dtype=dtype, requires_grad=True)
    out = layer(x)
    assert abs((out == 0).float().mean().item() - 0.3) < 0.01
    assert abs(out.float().mean().item() - 1.0) < 0.01
    out.sum().backward()
    assert torch.equal(x.grad, out)
    torch.manual_seed(0)
    assert torch.equal(layer(x), out)
    assert layer.eval()(x) is x


def test_quick_dropout_draws_a_quarter_of_the_numbers():
    drawn = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if torch.Tag.nondeterministic_seeded in func.tags:
                drawn.append(result.numel())
            return result

    with Count():
        QuickDropout(0.5)(torch.ones(16, 8))
    assert drawn == [32]
