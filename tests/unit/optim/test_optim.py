"""Optimizers, update, clipping, constraints and averages against torch's own."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError, RecipeError
from deepseek.fields import Kind
from deepseek.models.forecasting.linear import LinearDecision
from deepseek.optim import WeightAverage, clip_norm_, clip_value_, decay_groups, limit_norm_, make_update, penalise_
from deepseek.optim.update import AdamUpdate, Limits, Update
from deepseek.registry import family

QUANTILES = np.sort(np.random.default_rng(0).normal(size=(2, 65)), axis=1).astype(np.float32)
NUMBERS = {"n": InputSpec("n", Kind.NUMBER, ("a", "b"), (2,), "float32", quantiles=QUANTILES)}
PAST = {"history": InputSpec("history", Kind.SERIES, ("load",), (8, 1), "float32", horizon=4)}
TEXT = {"t": InputSpec("t", Kind.TEXT, ("t",), (), "int32", (30,), ragged=True)}
FUSED = {"trunk": "identity", "fusion": {"type": "cross_attention", "width": 8}, "encoders": {"text": {"type": "text_bag", "width": 4}}}
NAMES = ["adam", "adamw", "sgd", "rmsprop", "adagrad", "nadam", "radam"]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2))


def backward(net: nn.Module, seed: int = 0) -> None:
    torch.manual_seed(seed)
    net.zero_grad()
    net(torch.randn(16, 4)).square().sum().backward()


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_lowers_the_loss(name):
    net = network()
    optimizer = family("optimizer").build({"type": name, "learning_rate": 0.01}).build(decay_groups(net))
    x = torch.randn(16, 4)
    before = net(x).square().sum()
    for _ in range(20):
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()
    assert net(x).square().sum() < before


def test_learning_rate_must_be_positive():
    with pytest.raises(RecipeError, match="learning_rate"):
        family("optimizer").build({"type": "adam", "learning_rate": 0})


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_kept_lists_make_the_same_step_bit_for_bit(name):
    ours, theirs = network(), network()
    spec = family("optimizer").build({"type": name, "weight_decay": 0.1})
    first, second = spec.build(decay_groups(ours)), spec.build(decay_groups(theirs))
    update = make_update(first)
    assert isinstance(update, AdamUpdate)
    for seed in range(5):
        for group in (*first.param_groups, *second.param_groups):
            group["lr"] = 0.01 / (seed + 1)
        backward(ours, seed)
        backward(theirs, seed)
        update()
        second.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("fused", [True, False])
def test_gradients_are_divided_and_steps_refused_on_the_way(fused):
    """The kernel does what is done by hand before it elsewhere: the division, and nothing at all where a step is refused."""
    made, plain = network(), network()
    first, second = (torch.optim.AdamW(net.parameters(), lr=0.01, fused=fused) for net in (made, plain))
    update, divisor = make_update(first), torch.tensor(3.0)
    assert update.divides == fused
    for seed in range(6):
        backward(made, seed)
        backward(plain, seed)
        refused = seed == 3
        update(Limits(torch.tensor(float(refused)), [divisor]))
        if not refused:
            for parameter in plain.parameters():
                parameter.grad /= divisor
            second.step()
        for a, b in zip(made.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a, b)
            assert first.state[a]["step"] == second.state[b]["step"] == seed + 1 - (seed >= 3)


def test_a_parameter_without_a_gradient_is_left_alone():
    net = network()
    update = make_update(torch.optim.AdamW(net.parameters(), fused=True))
    for seed in range(3):
        backward(net, seed)
        net[0].weight.grad = None
        before = net[0].weight.clone()
        update()
        assert torch.equal(net[0].weight, before)


def test_a_group_without_parameters_has_no_step():
    """As one has that is to take parameters up later; `Optimizer.step` passes over it, too."""
    net, twin = network(), network()
    first, second = (torch.optim.AdamW([{"params": one.parameters()}, {"params": []}], lr=0.01, fused=True) for one in (net, twin))
    update = make_update(first)
    for seed in range(3):
        backward(net, seed)
        backward(twin, seed)
        update()
        second.step()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


def test_steps_are_counted_whatever_device_new_tensors_are_made_on():
    """The module may be loaded while another device is the default, as in `with torch.device(...)`."""
    script = """
import torch
with torch.device("meta"):
    from deepseek.optim.update import AdamUpdate
weight = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.AdamW([weight], fused=True)
update = AdamUpdate(optimizer)
for _ in range(3):
    weight.grad = torch.ones(3)
    update()
print(float(optimizer.state[weight]["step"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3.0"


def test_other_optimizers_take_the_ordinary_step():
    assert type(make_update(torch.optim.SGD(network().parameters(), lr=0.1))) is Update
    assert type(make_update(torch.optim.Adam(network().parameters(), amsgrad=True, fused=True))) is Update


def test_only_matrices_outside_norms_and_embeddings_decay():
    model = nn.ModuleDict({"linear": nn.Linear(2, 2), "norm": nn.LayerNorm([2, 2]), "embedding": nn.Embedding(3, 2)})
    decayed, spared = decay_groups(model)
    assert [id(p) for p in decayed["params"]] == [id(model["linear"].weight)]
    assert len(spared["params"]) == 4
    assert spared["weight_decay"] == 0.0


def test_biases_of_any_shape_do_not_decay():
    layer = LinearDecision(2, 4, horizon=3, channels=1, each=1)
    assert layer.bias.ndim == 3
    decayed, spared = decay_groups(layer)
    assert [id(p) for p in decayed["params"]] == [id(layer.weight)]
    assert [id(p) for p in spared["params"]] == [id(layer.bias)]


@pytest.mark.parametrize(
    ("model", "inputs", "spared"),
    [
        ({"type": "mlp", "embedding": "linear"}, NUMBERS, {"number_0.weight", "number_0.bias"}),
        ({"type": "mlp", "embedding": "periodic"}, NUMBERS, {"number_0.frequency", "number_0.bias"}),
        ({"type": "mlp", "embedding": "piecewise"}, NUMBERS, {"number_0.slope", "number_0.bias"}),
        ({"type": "tabm", "variant": "full"}, NUMBERS, {"0.scale_in", "0.scale_out"}),
        ({"type": "tabm", "variant": "mini"}, NUMBERS, {"trunk.scale"}),
        ({"type": "transformer_xl", "width": 8}, TEXT, {"attention.content", "attention.distance"}),
        ({"type": "tft", "width": 8}, PAST, {"past_vectors.weight", "past_vectors.bias"}),
        ({"type": "network", **FUSED}, NUMBERS | TEXT, {"fusion.kinds", "absent.vectors"}),
    ],
)
def test_biases_scales_and_vectors_of_networks_do_not_decay(model, inputs, spared):
    network = family("model").build(model, inputs, {})
    groups = {parameter: group["regularise"] for group in decay_groups(network) for parameter in group["params"]}
    found = {name for name, _ in network.named_parameters() for ending in spared if name.endswith(ending)}
    assert len(found) >= len(spared)
    assert [name for name, parameter in network.named_parameters() if groups[parameter] and (name in found or parameter.ndim < 2)] == []
    assert any(groups.values())


def test_a_module_can_name_what_is_not_decayed():
    module = nn.Bilinear(2, 2, 2)
    module.no_decay = {"weight"}
    assert len(decay_groups(module)) == 1


def test_frozen_and_tied_parameters():
    model = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)])
    model[1].weight = model[0].weight
    model[2].weight.requires_grad_(False)
    assert sum(len(group["params"]) for group in decay_groups(model)) == 1
    with pytest.raises(InputError, match="no parameter"):
        decay_groups(model.requires_grad_(False))


def test_clipping_is_torchs():
    ours, theirs = network(), network()
    backward(ours)
    backward(theirs)
    norm = clip_norm_([p.grad for p in ours.parameters()], 0.5)
    expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
    torch.testing.assert_close(norm, expected, rtol=0, atol=0)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_clip_value():
    grads = [torch.tensor([-3.0, 0.5, 3.0])]
    clip_value_(grads, 1.0)
    assert grads[0].tolist() == [-1.0, 0.5, 1.0]


def test_penalties_are_the_gradients_of_the_penalised_loss():
    weight = torch.randn(3, 4, requires_grad=True)
    (0.3 * weight.abs().sum() + 0.2 / 2 * weight.square().sum()).backward()
    grad = torch.zeros(3, 4)
    penalise_([weight], [grad], l1=0.3, l2=0.2)
    torch.testing.assert_close(grad, weight.grad)


def test_limit_norm_shrinks_long_rows_only():
    weight = nn.Parameter(torch.tensor([[3.0, 4.0], [0.3, 0.4]]))
    limit_norm_([weight], 1.0)
    torch.testing.assert_close(weight.detach(), torch.tensor([[0.6, 0.8], [0.3, 0.4]]), rtol=1e-6, atol=1e-6)


def test_average_is_the_formula_and_swaps_both_ways():
    net = network()
    expected = copy.deepcopy(net)
    average = WeightAverage(net, decay=0.99)
    for step in range(1, 4):
        with torch.no_grad():
            for parameter, mean in zip(net.parameters(), expected.parameters(), strict=True):
                parameter.add_(step)
                mean.lerp_(parameter, 1 - min(0.99, (1 + step) / (10 + step)))
        average.update()
    live = [p.clone() for p in net.parameters()]
    with average.swapped():
        for a, b in zip(net.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(a, b)
    assert all(torch.equal(a, b) for a, b in zip(live, net.parameters(), strict=True))
