from __future__ import annotations

import pytest
import torch
from torch import nn

import deepseek
from deepseek.errors import InputError
from deepseek.optim import make_adaptive, trained_parameters
from deepseek.optim.gradients import Gradients
from deepseek.optim.layer_rates import GradientVariance


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3, bias=False))


def give(net: nn.Module, sizes, number: int) -> None:
    random = torch.Generator().manual_seed(number)
    for layer, size in zip(net, sizes, strict=True):
        for parameter in layer.parameters():
            parameter.grad = size * torch.randn(parameter.shape, generator=random) + 0.3


def test_the_variance_is_that_of_all_elements_of_a_layer():
    net = network()
    trained = trained_parameters(net, torch.optim.SGD(net.parameters(), lr=0.1))
    rates, gradients = GradientVariance(trained), Gradients([one.parameter for one in trained])
    give(net, (1.0, 2.0, 3.0), 0)
    gradients.gather()
    for layer, found in zip(net, rates._variances(gradients), strict=True):
        whole = torch.cat([parameter.grad.flatten() for parameter in layer.parameters()])
        torch.testing.assert_close(found, whole.var(unbiased=False))


def test_a_factor_is_the_power_of_variance_over_its_running_mean():
    net = network()
    trained = trained_parameters(net, torch.optim.SGD(net.parameters(), lr=0.1))
    settings = {"power": 0.5, "decay": 0.8, "every": 1, "warmup": 4}
    rates, gradients = GradientVariance(trained, **settings), Gradients([one.parameter for one in trained])
    mean = torch.zeros(3)
    for number in range(30):
        give(net, (1.0 + number % 3, 1.0, 1.0 + 9 * (number == 20)), number)
        gradients.gather()
        rates(gradients)
        variances = rates._variances(gradients)
        mean = mean.lerp(variances, max(0.2, 1 / (number + 1)))
        wanted = (variances / mean).sqrt().clamp(0.5, 2.3) if number >= 4 else torch.ones(3)
        torch.testing.assert_close(torch.tensor([*rates.rates().values()]), wanted)
        if number == 20:
            assert max(rates.rates().values()) == pytest.approx(2.3 if wanted[2] == 2.3 else float(wanted[2]))
    assert list(rates.rates()) == ["0", "1", "2"]


def test_a_layer_that_begins_later_has_a_warm_up_of_its_own():
    """What was missing or zero is not measured: its factor is 1, and so it is for its first measurements."""
    net = network()
    trained = trained_parameters(net, torch.optim.SGD(net.parameters(), lr=0.1))
    rates, gradients = GradientVariance(trained, every=1, warmup=4), Gradients([one.parameter for one in trained])
    for number in range(20):
        give(net, (0.0 if number < 10 else 1.0 + number % 3, 1.0 + number % 3, 1.0), number)
        for parameter in net[0].parameters():
            parameter.grad = parameter.grad if number >= 10 else torch.zeros_like(parameter) if number % 2 else None
        gradients.gather()
        rates(gradients)
        first, second = list(rates.rates().values())[:2]
        assert (first == 1.0) == (number < 14)
        assert (second == 1.0) == (number < 4)
    assert rates.state["count"].tolist() == [10.0, 20.0, 20.0]


def test_it_scales_the_weight_decay_too():
    """With a gradient of zero only the decay moves the weights: that, too, is the layer's factor times as much."""
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.5)
    adaptive = make_adaptive(net, optimizer, layer_rates={"type": "gradient_variance", "every": 1, "warmup": 1})
    for number in range(5):
        give(net, (1.0, 1.0, 1.0 + number), number)
        adaptive.look()
    factor = adaptive.told().layer_rates["2"]
    assert factor > 1.1
    before = net[2].weight.detach().clone()
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    adaptive.hold()
    optimizer.step()
    adaptive.scale()
    torch.testing.assert_close(net[2].weight.detach(), before * (1 - factor * 0.1 * 0.5))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop", "adagrad", "nadam", "radam"])
def test_every_optimizer_can_be_under_it(optimizer):
    from deepseek.optim import decay_groups
    from deepseek.registry import family

    def after(rates):
        net = network()
        made = family("optimizer").build({"type": optimizer, "learning_rate": 0.01}).build(decay_groups(net))
        adaptive = make_adaptive(net, made, layer_rates=rates) if rates else None
        for number in range(8):
            give(net, (1.0, 1.0 + number, 1.0), number)
            if adaptive is not None:
                adaptive.look()
                adaptive.hold()
            made.step()
            if adaptive is not None:
                adaptive.scale()
        return [parameter.detach() for parameter in net.parameters()]

    plain = after(None)
    bound = after({"type": "gradient_variance", "every": 1, "warmup": 1, "low": 1.0, "high": 1.0})
    scaled = after({"type": "gradient_variance", "every": 1, "warmup": 1})
    assert all(map(torch.equal, plain, bound))  # a factor of 1 changes no bit
    assert not any(map(torch.equal, plain, scaled))


def test_a_power_of_0_is_refused():
    net = network()
    with pytest.raises(InputError, match="power is 0"):
        GradientVariance(trained_parameters(net, torch.optim.SGD(net.parameters(), lr=0.1)), power=0.0)


def test_the_articles_scheduler_is_its_formula():
    net = network()
    optimizer = torch.optim.SGD([{"params": layer.parameters()} for layer in net], lr=0.1, weight_decay=0.02)
    scheduler = deepseek.DynamicWeightScheduler(0.1, optimizer.param_groups)
    both = deepseek.DynamicWeightScheduler(0.1, [dict(group) for group in optimizer.param_groups], scale_weight_decay=True)
    give(net, (1.0, 30.0, 1e-3), 0)
    scheduler.step()
    both.step()
    for layer, group, scale, other in zip(net, optimizer.param_groups, scheduler.scales, both.layer_groups, strict=True):
        variance = torch.cat([parameter.grad.flatten() for parameter in layer.parameters()]).var()
        wanted = 1 + 0.5 * (1 - torch.exp(-0.1 * variance))
        assert group["lr"] == pytest.approx(0.1 * float(wanted))
        assert (group["weight_decay"], other["weight_decay"]) == (0.02, pytest.approx(0.02 * float(wanted)))
        assert scale == pytest.approx(float(wanted))
    assert scheduler.scales[1] > 1.49  # the most it can be is 1.5
    assert scheduler.scales[2] < 1.001  # and of a usual variance next to nothing is left


def test_the_articles_scheduler_wants_an_optimizers_groups():
    net = network()
    with pytest.raises(InputError, match="has no learning rate to set"):
        deepseek.DynamicWeightScheduler(0.1, [net[0]])
    with pytest.raises(InputError, match=r"layer_groups is a Linear, and no list of groups\n  give optimizer\.param_groups"):
        deepseek.DynamicWeightScheduler(0.1, net[0])
    with pytest.raises(InputError, match="base_lr is 0"):
        deepseek.DynamicWeightScheduler(0.0, [])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scheduler = deepseek.DynamicWeightScheduler(0.2, optimizer.param_groups)
    scheduler.step()  # no gradients yet
    assert optimizer.param_groups[0]["lr"] == 0.2
