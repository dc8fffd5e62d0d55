"""The step against hand-written PyTorch: bit for bit where the arithmetic is the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from deepseek.data.batch import Batch
from deepseek.distributed import make_precision
from deepseek.optim import WeightAverage, decay_groups
from deepseek.training.step import StepRules, TrainingStep


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def batches(rows: int = 32, count: int = 8, *, weighted: bool = False) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        Batch(
            {"x": torch.randn(rows, 4, generator=generator)},
            {"y": torch.randint(0, 3, (rows,), generator=generator)},
            torch.rand(rows, generator=generator) if weighted else None,
        )
        for _ in range(count)
    ]


def loss(out, batch):
    rows = functional.cross_entropy(out, batch.targets["y"], reduction="none")
    weight = torch.ones_like(rows) if batch.weight is None else batch.weight
    return (rows * weight).sum(), weight.sum()


def weights_after(data, *, optimizer=lambda p: torch.optim.SGD(p, lr=0.1), micro: int = 1, **options) -> list[torch.Tensor]:
    net = network()
    step = TrainingStep(lambda inputs: net(inputs["x"]), loss, optimizer(decay_groups(net)), **options)
    step.micro_batches = micro
    for batch in data:
        step(batch)
    return [parameter.detach().clone() for parameter in net.parameters()]


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    "optimizer", [lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), lambda p: torch.optim.Adam(p, fused=True)], ids=["sgd", "adam"]
)
def test_it_is_the_plain_loop_bit_for_bit(optimizer):
    net = network()
    plain = optimizer(net.parameters())
    for batch in batches():
        plain.zero_grad()
        functional.cross_entropy(net(batch.inputs["x"]), batch.targets["y"]).backward()
        plain.step()
    assert same(net.parameters(), weights_after(batches(), optimizer=optimizer))


@pytest.mark.parametrize("micro", [2, 3, 32])
def test_micro_batches_are_the_batch(micro):
    data = batches(weighted=True)
    for a, b in zip(weights_after(data), weights_after(data, micro=micro), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_rows_of_weight_0_count_for_nothing():
    whole = batches(rows=32, weighted=True)
    for batch in whole:
        batch.weight[16:] = 0
    halves = [Batch({"x": b.inputs["x"][:16]}, {"y": b.targets["y"][:16]}, b.weight[:16]) for b in whole]
    for a, b in zip(weights_after(whole), weights_after(halves), strict=True):
        torch.testing.assert_close(a, b)


def test_a_batch_of_weight_0_changes_nothing():
    data = batches(count=1, weighted=True)
    data[0].weight.zero_()
    assert same(weights_after(data), weights_after([]))


@pytest.mark.parametrize("rules", [{"clip_norm": 0.1}, {"clip_value": 0.01}, {"l1": 0.1}, {"l2": 0.1}, {"max_norm": 0.1}], ids=str)
def test_every_rule_changes_the_weights(rules):
    assert not same(weights_after(batches()), weights_after(batches(), rules=StepRules(**rules)))


def test_l2_is_weight_decay_of_sgd():
    ours = weights_after(batches(), rules=StepRules(l2=0.1))
    theirs = weights_after(batches(), optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1, weight_decay=0.1))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_max_norm_holds():
    weights = weights_after(batches(), rules=StepRules(max_norm=0.1))
    assert all(weight.norm(dim=1).max() <= 0.1 + 1e-6 for weight in weights if weight.ndim > 1)


def test_the_running_loss_is_the_quotient_of_sums():
    net = network()
    step = TrainingStep(lambda inputs: net(inputs["x"]), loss, torch.optim.SGD(net.parameters(), lr=0.0))
    data = [batches(rows=8)[0], batches(rows=24)[0]]
    expected = sum(loss(net(b.inputs["x"]), b)[0].item() for b in data) / 32
    for batch in data:
        step(batch)
    assert (step.numerator / step.denominator).item() == pytest.approx(expected)


def test_skipping_leaves_the_weights_of_a_nan_batch():
    data = batches(count=3)
    data[1].inputs["x"][0, 0] = float("nan")
    assert same(weights_after(data, rules=StepRules(on_nonfinite="skip")), weights_after([data[0], data[2]]))
    assert not torch.isfinite(weights_after(data)[0]).all()


def test_factor_scales_every_rate_and_1_gives_back_the_peak():
    net = network()
    step = TrainingStep(lambda inputs: net(inputs["x"]), loss, torch.optim.SGD(decay_groups(net), lr=0.3))
    step.set_factor(0.5)
    assert [group["lr"] for group in step.optimizer.param_groups] == [0.15, 0.15]
    step.set_factor(1.0)
    assert [group["lr"] for group in step.optimizer.param_groups] == [0.3, 0.3]


@pytest.mark.parametrize("name", ["bf16", "fp16"])
@pytest.mark.parametrize("micro", [1, 2])
def test_short_formats_stay_near_float32_and_are_not_it(name, micro):
    options = {"precision": make_precision(name, torch.device("cpu")), "micro": micro}
    plain, short = weights_after(batches()), weights_after(batches(), **options)
    assert not same(plain, short)
    for a, b in zip(plain, short, strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.02)


def test_fp16_skips_an_overflow_and_lowers_its_scale():
    precision = make_precision("fp16", torch.device("cpu"))
    data = batches(count=2)
    weights_after(data[:1], precision=precision)
    before = precision.state_dict()["scale"]
    data[1].inputs["x"] *= 1e8
    weights_after(data[1:], precision=precision)
    assert precision.state_dict()["scale"] < before


def test_fp16_goes_on_after_overflows_that_are_skipped_with_lower_scales():
    precision, net = make_precision("fp16", torch.device("cpu")), network()
    rules = StepRules(on_nonfinite="skip")
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, fused=True)
    step = TrainingStep(lambda inputs: net(inputs["x"]), loss, optimizer, precision=precision, rules=rules)
    data, scales = batches(count=4), [precision.state_dict()["scale"]]
    for batch in data[:2]:
        batch.inputs["x"] *= 1e8
    for number, batch in enumerate(data):
        before = [parameter.detach().clone() for parameter in net.parameters()]
        step(batch)
        scales.append(precision.state_dict()["scale"])
        assert same(before, net.parameters()) == (number < 2)
    assert step.skipped == 2
    assert scales[2] < scales[1] < scales[0]
    assert scales[4] == scales[2]


def test_fp16_begins_on_a_rank_whose_share_of_the_first_batch_is_empty():
    """As after a resume before an epoch's short last batch: its gradients come from the other ranks."""
    before = make_precision("fp16", torch.device("cpu")).state_dict()
    precision, weight = make_precision("fp16", torch.device("cpu")), nn.Parameter(torch.ones(2))
    precision.load_state_dict({**before, "scale": 4.0})
    optimizer = torch.optim.SGD([weight], lr=1.0)
    weight.grad = torch.tensor([2.0, 4.0])
    precision.unscale(optimizer)
    precision.update(optimizer.step, optimizer)
    assert weight.tolist() == [0.5, 0.0]


def test_the_average_follows():
    net = network()
    average = WeightAverage(net, decay=0.9)
    step = TrainingStep(lambda inputs: net(inputs["x"]), loss, torch.optim.SGD(net.parameters(), lr=0.1), average=average)
    for batch in batches():
        step(batch)
    assert average.updates == 8
    assert not same(average.average.values(), net.parameters())
