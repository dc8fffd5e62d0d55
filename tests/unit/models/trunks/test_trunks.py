from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from deepseek.errors import InputError, RecipeError
from deepseek.models.trunks.identity import IdentityTrunk
from deepseek.models.trunks.mlp import MlpTrunk
from deepseek.models.trunks.residual import ResidualTrunk
from deepseek.models.trunks.tabm import TabMTrunk
from deepseek.registry import family


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def first_gradient(residual_every):
    torch.manual_seed(0)
    trunk = MlpTrunk(8, depth=24, width=8, dropout=0.0, residual_every=residual_every)
    trunk(torch.randn(64, 8)).square().sum().backward()
    return trunk.blocks[0][0].weight.grad.norm().item()


def test_residual_connections_carry_gradients_to_early_blocks():
    # Ablation: without the connections 24 small blocks let next to nothing through.
    assert first_gradient(2) > 1e3 * first_gradient(0)


def test_residual_every_adds_what_came_into_each_group():
    trunk = MlpTrunk(3, depth=5, width=4, dropout=0.0, residual_every=2).eval()
    x = torch.randn(6, 3)
    h = trunk.blocks[1](trunk.blocks[0](x)) + trunk.bypass(x)
    h = trunk.blocks[3](trunk.blocks[2](h)) + h
    torch.testing.assert_close(trunk(x)[:, 0], trunk.blocks[4](h))


def test_residual_connections_that_would_never_be_made_are_an_error():
    with pytest.raises(InputError, match="residual_every is 3 with a depth of 2"):
        MlpTrunk(3, depth=2, residual_every=3)


@pytest.mark.parametrize("name", ["mlp", "residual", "tabm"])
def test_dropout_acts_in_training_only(name):
    x = torch.randn(4, 3)
    trunk = family("trunk").build({"type": name, "dropout": 0.5, "width": 16}, 3)
    trunk.train()
    trunk(x)  # batch statistics move once, before evaluation is compared with itself
    assert not torch.equal(trunk(x), trunk(x))
    trunk.eval()
    assert torch.equal(trunk(x), trunk(x))
    still = family("trunk").build({"type": name, "dropout": 0.0, "width": 16}, 3).train()
    assert torch.equal(still(x), still(x))


@pytest.mark.parametrize("normalization", ["layer", "batch"])
def test_normalization_takes_away_the_scale_of_the_input(normalization):
    plain, normal = (MlpTrunk(3, depth=1, dropout=0.0, normalization=kind).train() for kind in ("none", normalization))
    for trunk in (plain, normal):
        torch.nn.init.zeros_(trunk.blocks[0][0].bias)
    x = torch.randn(50, 3)
    torch.testing.assert_close(normal(100 * x), normal(x), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(plain(100 * x), 100 * plain(x))


def test_depth_and_width_are_built():
    trunk = MlpTrunk(3, depth=4, width=7)
    assert [block[0].out_features for block in trunk.blocks] == [7] * 4
    assert len(ResidualTrunk(3, depth=5).blocks) == 5
    assert ResidualTrunk(3, width=10, expansion=1.5).blocks[0][1].out_features == 15


def test_residual_trunk_adds_its_blocks():
    trunk = ResidualTrunk(3, depth=2, width=4).eval()
    x = torch.randn(5, 3)
    h = trunk.stem(x)
    for block in trunk.blocks:
        h = h + block(h)
    torch.testing.assert_close(trunk(x)[:, 0], trunk.last(h))


def test_tabm_members_are_a_loop_over_scaled_perceptrons():
    trunk = TabMTrunk(3, members=4, depth=2, width=5, scale_init="normal").eval()
    for block in trunk.blocks:
        torch.nn.init.normal_(block[0].scale_out)
        torch.nn.init.normal_(block[0].bias)
    x, out = torch.randn(6, 3), None
    out = trunk(x)
    for k in range(4):
        h = x
        for block in trunk.blocks:
            layer = block[0]
            weight = layer.weight * torch.outer(layer.scale_out[k], layer.scale_in[k])
            h = functional.linear(h, weight, layer.bias[k]).relu()
        torch.testing.assert_close(out[:, k], h, rtol=1e-4, atol=1e-5)


def test_tabm_mini_shares_all_layers_behind_the_first_scales():
    trunk = TabMTrunk(3, members=4, depth=2, width=5, variant="mini").eval()
    x = torch.randn(6, 3)
    for k in range(4):
        h = x * trunk.scale[k]
        for block in trunk.blocks:
            h = block[0](h).relu()
        torch.testing.assert_close(trunk(x)[:, k], h)
    counts = {
        variant: sum(p.numel() for p in TabMTrunk(3, members=4, variant=variant).parameters()) for variant in ("mini", "full", "packed")
    }
    assert counts["mini"] < counts["full"] < counts["packed"]


@pytest.mark.parametrize("variant", ["full", "mini", "packed"])
def test_tabm_members_differ(variant):
    out = TabMTrunk(30, members=3, variant=variant).eval()(torch.randn(6, 30))
    assert not torch.allclose(out[:, 0], out[:, 1])


def test_identity_adds_the_dimension_of_members():
    x = torch.randn(2, 3)
    assert torch.equal(IdentityTrunk(3)(x), x[:, None])


def test_recipe_keys_out_of_range_are_named():
    with pytest.raises(RecipeError, match="dropout"):
        family("trunk").validate({"type": "mlp", "dropout": 1.0})
