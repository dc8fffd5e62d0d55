"""Each clipping against its formula, reckoned here with NumPy."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from deepseek.errors import CheckpointError, InputError
from deepseek.optim import clip_norm_, make_adaptive, trained_parameters
from deepseek.optim.clippings import AgcClipping, AutoClipping, SpikeSkipping, ZClipping
from deepseek.optim.gradients import Gradients, Parts
from deepseek.registry import family


class Run:
    """One vector of weights, and a clipping that gets gradients of given norms."""

    def __init__(self, spec) -> None:
        self.weight = nn.Parameter(torch.zeros(4))
        model = nn.Module()
        model.weight = self.weight
        self.optimizer = torch.optim.SGD([self.weight], lr=1.0)
        self.adaptive = make_adaptive(model, self.optimizer, clip=[spec])

    def step(self, norm: float) -> tuple[float, bool]:
        """Return the norm after clipping, and whether the step is refused."""
        self.weight.grad = torch.full((4,), norm / 2.0)
        self.adaptive.look()
        refused = self.adaptive.limit().refused
        return float(self.weight.grad.norm()), refused is not None and bool(refused)

    def after(self, norms) -> list[float]:
        return [self.step(float(norm))[0] for norm in norms]


def norms(count: int = 80) -> np.ndarray:
    return np.random.default_rng(0).lognormal(size=count)


def test_autoclip_limits_to_the_quantile_of_the_last_norms():
    given = norms()
    used = Run({"type": "autoclip", "percentile": 30, "window": 25, "warmup": 10, "every": 1}).after(given)
    for step in range(10):
        assert used[step] == pytest.approx(given[step])
    for step in range(10, 80):
        limit = np.quantile(given[max(0, step - 24) : step + 1], 0.3)
        assert used[step] == pytest.approx(min(given[step], limit), rel=1e-4)


def test_autoclip_looks_at_its_history_every_few_steps():
    given, used = norms(), Run({"type": "autoclip", "percentile": 50, "window": 100, "warmup": 10, "every": 7}).after(norms())
    for step in range(10, 80):
        looked = 9 + (step - 9) // 7 * 7
        assert used[step] == pytest.approx(min(given[step], np.quantile(given[: looked + 1], 0.5)), rel=1e-4)


def test_autoclip_forgets_what_is_older_than_its_window_and_counts_what_it_limits():
    given = norms()
    given[30:36] = [0.0, np.inf, np.nan, 0.0, np.inf, 0.0]
    run, limited = Run({"type": "autoclip", "percentile": 40, "window": 12, "warmup": 6, "every": 1}), 0
    for step, norm in enumerate(given):
        used, _ = run.step(float(norm))
        history = given[max(0, step - 11) : step + 1]
        measured = history[np.isfinite(history) & (history > 0)]
        if step >= 6 and len(measured) > 6:
            limit = np.quantile(measured, 0.4)
        if step >= 6 and np.isfinite(norm):
            assert used == pytest.approx(min(norm, limit), rel=1e-4)
        limited += step >= 6 and norm > limit
        assert run.adaptive.told().clipped_share == pytest.approx(limited / (step + 1))


def test_an_infinite_norm_stays_infinite_while_there_is_no_limit():
    run = Run({"type": "autoclip", "warmup": 3})
    assert run.after([0.0, 0.0, 0.0, 0.0, np.inf]) == [0.0, 0.0, 0.0, 0.0, np.inf]


def test_parts_have_histories_of_their_own():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    trained = trained_parameters(model, optimizer)
    assert [Parts(trained, per).names for per in ("model", "group", "layer")] == [("model",), ("group 0",), ("0", "1")]
    clipping = AutoClipping(trained, percentile=50, warmup=1, every=1, per="layer")
    gradients = Gradients([one.parameter for one in trained])
    for size in (1.0, 1.0, 1.0, 8.0):  # of the first layer alone
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        for parameter in model[0].parameters():
            parameter.grad *= size
        gradients.gather()
        clipping(gradients)
        gradients.settle()
    first, second = (torch.cat([p.grad.flatten() for p in layer.parameters()]) for layer in model)
    torch.testing.assert_close(first, torch.ones(12), rtol=1e-4, atol=0)
    torch.testing.assert_close(second, torch.ones(12), rtol=1e-4, atol=0)


def test_zclip_brings_outliers_back_and_leaves_the_rest():
    given = norms()
    given[[40, 60]] = 50.0
    run = Run({"type": "zclip", "threshold": 2.5, "decay": 0.9, "warmup": 20})
    used = run.after(given)
    mean, variance, clipped = given[:20].mean(), given[:20].var(ddof=1), 0
    for step in range(80):
        wanted = given[step]
        if step >= 20:
            z = (wanted - mean) / np.sqrt(variance)
            if z > 2.5:
                wanted, clipped = mean + 2.5**2 / z * np.sqrt(variance), clipped + 1
            mean = 0.9 * mean + 0.1 * wanted
            variance = 0.9 * variance + 0.1 * (wanted - mean) ** 2
        assert used[step] == pytest.approx(wanted, rel=1e-3)
    assert 2 <= clipped < 20
    assert run.adaptive.told().clipped_share == pytest.approx(clipped / 80)


def test_agc_is_the_papers_formula_by_unit():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3), nn.Linear(4, 5))
    model.add_module("head", nn.Linear(5, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * torch.rand(len(parameter), *[1] * (parameter.ndim - 1))
    given = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    with torch.no_grad():
        model[2].bias.zero_()
    trained = trained_parameters(model, optimizer)
    gradients = Gradients([one.parameter for one in trained])
    gradients.gather()
    AgcClipping(trained, share=0.2, eps=1e-2)(gradients)
    for name, parameter in model.named_parameters():
        if name.startswith("head."):
            assert torch.equal(parameter.grad, given[name])
            continue
        rows = [slice(None)] if parameter.ndim == 1 else range(len(parameter))
        for row in rows:
            limit = 0.2 * max(float(parameter[row].detach().norm()), 1e-2)
            wanted = given[name][row] * min(1.0, limit / float(given[name][row].norm()))
            torch.testing.assert_close(parameter.grad[row], wanted)


def test_a_spike_is_left_out_and_one_that_stays_is_not():
    run = Run({"type": "skip_spikes", "factor": 5.0, "window": 20, "warmup": 10, "every": 1})
    assert not any(run.step(norm)[1] for norm in [1.0] * 15)
    assert run.step(40.0) == (pytest.approx(40.0), True)
    assert not run.step(1.1)[1]
    told = run.adaptive.told().left_out
    assert (told.steps, told.last, told.norm, told.usual) == (1, 16, pytest.approx(40.0), pytest.approx(1.0))
    refused = [run.step(30.0)[1] for _ in range(20)]
    assert refused[0]
    assert not refused[-1]
    assert refused.index(False) <= 11  # once half of the history is that large, it is what is usual


def test_a_spike_early_on_is_used_unless_it_is_not_finite():
    run = Run({"type": "skip_spikes", "warmup": 10})
    assert not run.step(1.0)[1]
    assert not run.step(1e6)[1]
    assert run.step(float("inf"))[1]
    assert run.step(float("nan"))[1]


def test_norm_and_value_are_the_plain_ones():
    run = Run({"type": "norm", "max_norm": 0.5})
    other = torch.full((4,), 1.0)
    clip_norm_([other], 0.5)
    run.step(2.0)
    torch.testing.assert_close(run.weight.grad, other)
    run = Run({"type": "value", "max_value": 0.25})
    run.step(2.0)
    torch.testing.assert_close(run.weight.grad, torch.full((4,), 0.25))
    assert run.adaptive.told().clipped_share == 1.0


def test_several_act_in_their_order():
    weight = nn.Parameter(torch.zeros(4))
    model = nn.Module()
    model.weight = weight
    optimizer = torch.optim.SGD([weight], lr=1.0)
    adaptive = make_adaptive(model, optimizer, clip=[{"type": "value", "max_value": 1.0}, {"type": "norm", "max_norm": 1.0}])
    weight.grad = torch.tensor([8.0, 0.0, 0.0, 1.0])
    adaptive.look()
    adaptive.limit()
    torch.testing.assert_close(weight.grad, torch.tensor([0.5**0.5, 0.0, 0.0, 0.5**0.5]))


@pytest.mark.parametrize("clip", ["autoclip", {"type": "autoclip", "window": 30}], ids=str)
def test_one_alone_needs_no_list_as_in_a_recipe(clip):
    net = nn.Linear(2, 1)
    adaptive = make_adaptive(net, torch.optim.SGD(net.parameters(), lr=0.1), clip=clip)
    assert [type(one) for one in adaptive.clip] == [AutoClipping]


@pytest.mark.parametrize("kind", [AutoClipping, SpikeSkipping])
def test_a_warm_up_longer_than_the_history_is_refused(kind):
    net = nn.Linear(2, 1)
    with pytest.raises(InputError, match="warmup is 30 and window 20"):
        kind(trained_parameters(net, torch.optim.SGD(net.parameters(), lr=0.1)), window=20, warmup=30)


def test_a_history_of_other_clippings_is_refused():
    state = Run({"type": "autoclip", "window": 30}).adaptive.state_dict()
    with pytest.raises(CheckpointError, match=r"the run wants clip 0 ZClipping"):
        Run("zclip").adaptive.load_state_dict(state)
    with pytest.raises(CheckpointError, match="the checkpoint has"):
        Run({"type": "autoclip", "window": 40}).adaptive.load_state_dict(state)


def test_no_loop_over_parameters_in_a_step(monkeypatch):
    """However many layers a network has, as many operations are called from Python."""

    def calls(depth: int) -> int:
        net = nn.Sequential(*[nn.Linear(4, 4) for _ in range(depth)])
        optimizer = torch.optim.AdamW(net.parameters())
        adaptive = make_adaptive(
            net,
            optimizer,
            clip=[{"type": "autoclip", "per": "layer", "warmup": 1, "every": 1}, "agc", "zclip", "skip_spikes"],
            layer_rates={"type": "gradient_variance", "every": 1, "warmup": 1},
        )
        for parameter in net.parameters():
            parameter.grad = torch.ones_like(parameter)
        for _ in range(4):
            adaptive.look()
            adaptive.limit()
            adaptive.hold()
            adaptive.scale()
        counted = Counter()
        with counted:
            adaptive.look()
            adaptive.limit()
            adaptive.hold()
            adaptive.scale()
        return counted.count

    few, many = calls(3), calls(30)
    assert few == many > 20


class Counter(torch.overrides.TorchFunctionMode):
    """Counts calls of torch functions."""

    count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") != "__get__":
            self.count += 1
        return function(*args, **(kwargs or {}))


def test_a_part_that_begins_to_train_starts_without_a_history():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    part = torch.optim.SGD(net[1].parameters(), lr=0.1)
    before = make_adaptive(net, part, clip=[{"type": "zclip", "per": "layer", "warmup": 2}])
    for size in (1.0, 2.0, 3.0):
        for parameter in net[1].parameters():
            parameter.grad = torch.full_like(parameter, size)
        before.look()
        before.limit()
    after = make_adaptive(net, torch.optim.SGD(net.parameters(), lr=0.1), clip=[{"type": "zclip", "per": "layer", "warmup": 2}])
    after.go_on(before)
    old, new = (one.clip[0].state["mean"] for one in (before, after))
    assert (new[0], new[1]) == (0.0, old[0])
    assert after.clip[0].made == 3
    used = []
    for size in (1.0, 2.0, 3.0, 50.0):
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, size)
        after.look()
        after.limit()
        used.append([float(layer.weight.grad[0, 0]) for layer in net])
    assert used[0][0] == 1.0  # the new part's own warm-up
    assert used[1][0] == 2.0
    assert used[3][0] < 50.0 > used[3][1]


@pytest.mark.parametrize("spec", ["autoclip", "zclip", "skip_spikes"])
def test_norms_of_0_and_missing_gradients_are_no_history(spec):
    """With every fifth step zero, as of a layer that no row reaches, the other steps are limited as without those."""
    kind = {"type": spec, "warmup": 10} | ({"every": 1, "window": 200} if spec != "zclip" else {"decay": 0.9})
    plain, given = Run(kind).after(norms()), []
    run, missing = Run(kind), Run(kind)
    for step, norm in enumerate(norms()):
        if step % 4 == 3:
            assert run.step(0.0) == (0.0, False)
            missing.weight.grad = None
            missing.adaptive.look()
            missing.adaptive.limit()
        given.append(run.step(float(norm))[0])
        missing.step(float(norm))
    assert given == pytest.approx(plain, rel=1e-5)
    ours, theirs = run.adaptive.state_dict(), missing.adaptive.state_dict()
    assert all(torch.equal(tensor.nan_to_num(), theirs[name].nan_to_num()) for name, tensor in ours.items())


def test_autoclip_bears_more_zeros_than_its_percentile():
    run = Run({"type": "autoclip", "percentile": 10, "warmup": 5, "every": 1})
    used = run.after([0.0, 1.0, 2.0, 3.0, 4.0] * 10)
    assert used[-5] == 0.0
    assert used[-4:] == pytest.approx([1.0] * 4)


def test_autoclip_takes_no_limit_from_a_few_norms_and_keeps_the_one_it_had():
    seldom = Run({"type": "autoclip", "percentile": 10, "window": 12, "warmup": 3, "every": 1})
    assert seldom.after([5.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0] * 6) == [5.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0] * 6
    before = Run({"type": "autoclip", "percentile": 50, "window": 12, "warmup": 3, "every": 1})
    assert before.after([2.0] * 12)[-1] == 2.0
    assert before.after([0.0] * 12 + [8.0]) == pytest.approx([0.0] * 12 + [2.0])


def test_a_spike_after_batches_that_weigh_nothing():
    run = Run({"type": "skip_spikes", "factor": 5.0, "warmup": 5, "every": 1})
    assert not any(run.step(norm)[1] for norm in [0.0, 0.0, 0.0, 1.0] * 10)
    assert run.step(6.0)[1]


def test_zclip_leaves_a_norm_alone_that_has_been_the_same_so_far():
    run = Run({"type": "zclip", "warmup": 5, "decay": 0.9})
    used = run.after([1.0] * 10 + [1.5] + [1.4] * 5)
    assert used[10] == 1.5
    assert all(0.0 < norm <= 1.5 for norm in used)


def test_an_infinite_gradient_is_its_own_layers_alone():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    adaptive = make_adaptive(net, torch.optim.SGD(net.parameters(), lr=0.1), clip=[{"type": "norm", "per": "layer", "max_norm": 1.0}])
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    net[0].weight.grad[0, 0] = float("inf")
    adaptive.look()
    adaptive.limit()
    torch.testing.assert_close(net[1].weight.grad, torch.full((2, 2), 6**-0.5))


def test_histories_are_taken_up_by_the_names_of_the_parts():
    def made(*layers: str):
        net = nn.Sequential(OrderedDict((name, nn.Linear(2, 2)) for name in layers))
        return make_adaptive(net, torch.optim.SGD(net.parameters(), lr=0.1), clip=[{"type": "zclip", "per": "layer", "warmup": 2}])

    saved = made("b")
    saved.clip[0].state["mean"].fill_(3.0)
    more = made("a", "b")
    more.load_state_dict(saved.state_dict())
    assert more.clip[0].state["mean"].tolist() == [0.0, 3.0]
    with pytest.raises(CheckpointError, match="ZClipping has c, and the checkpoint has histories of b too"):
        made("c").load_state_dict(saved.state_dict())


def test_every_clipping_says_what_it_was_given_wrongly():
    net = nn.Linear(2, 1)
    trained = trained_parameters(net, torch.optim.SGD(net.parameters(), lr=0.1))
    with pytest.raises(Exception, match="percentile"):
        family("clipping").build({"type": "autoclip", "percentile": 101.0}, trained)
    with pytest.raises(InputError, match="a parameter that the model has not"):
        trained_parameters(net, torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1))
    assert ZClipping(trained).limited_share() == 0.0


def test_whether_a_step_is_made_is_said_by_rank_0():
    """Norms of the same gradient may differ in their last bit between processors; the decision must not."""
    net = nn.Linear(2, 1)
    said = []

    def agree(flag):
        said.append(float(flag))
        flag.fill_(1.0 - float(flag))  # as if rank 0 had decided the other way

    adaptive = make_adaptive(net, torch.optim.SGD(net.parameters(), lr=0.1), clip=["skip_spikes"], agree=agree)
    for value, others in ((1.0, 1.0), (float("nan"), 0.0)):
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, value)
        adaptive.look()
        assert float(adaptive.limit().refused) == others
    assert said == [0.0, 1.0]
    never = make_adaptive(net, torch.optim.SGD(net.parameters(), lr=0.1), clip=["zclip"], agree=agree)
    never.look()
    never.limit()
    assert len(said) == 2  # nothing is sent where nothing can be refused
