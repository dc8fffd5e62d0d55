"""Optimizers and schedules, built-in and a plugin's, held to the public suites; and what the suites find in wrong ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from deepseek.components import FAMILIES
from deepseek.optim import OptimizerSpec, Schedule
from deepseek.registry import family
from deepseek.training.contract import OptimizerContract, ScheduleContract

B1, B2, EPS = 0.9, 0.999, 1e-8


def moments(gradients):
    """The running mean and square after each gradient."""
    mean = square = 0.0
    for gradient in gradients:
        mean, square = B1 * mean + (1 - B1) * gradient, B2 * square + (1 - B2) * gradient**2
        yield mean, square


def adam(w, gradients, *, learning_rate, weight_decay):
    mean = square = 0.0
    for step, gradient in enumerate(gradients, start=1):
        pull = gradient + weight_decay * w
        mean, square = B1 * mean + (1 - B1) * pull, B2 * square + (1 - B2) * pull**2
        w = w - learning_rate * (mean / (1 - B1**step)) / (np.sqrt(square / (1 - B2**step)) + EPS)
    return w


def adamw(w, gradients, *, learning_rate, weight_decay):
    for step, (mean, square) in enumerate(moments(gradients), start=1):
        w = w * (1 - learning_rate * weight_decay)
        w = w - learning_rate * (mean / (1 - B1**step)) / (np.sqrt(square / (1 - B2**step)) + EPS)
    return w


def sgd(w, gradients, *, learning_rate, weight_decay):
    velocity = 0.0
    for gradient in gradients:
        pull = gradient + weight_decay * w
        velocity = 0.9 * velocity + pull
        w = w - learning_rate * (pull + 0.9 * velocity)
    return w


def rmsprop(w, gradients, *, learning_rate, weight_decay):
    square = 0.0
    for gradient in gradients:
        pull = gradient + weight_decay * w
        square = 0.99 * square + 0.01 * pull**2
        w = w - learning_rate * pull / (np.sqrt(square) + EPS)
    return w


def adagrad(w, gradients, *, learning_rate, weight_decay):
    square = 0.0
    for gradient in gradients:
        pull = gradient + weight_decay * w
        square = square + pull**2
        w = w - learning_rate * pull / (np.sqrt(square) + 1e-10)
    return w


def nadam(w, gradients, *, learning_rate, weight_decay):
    product = 1.0
    for step, ((mean, square), gradient) in enumerate(zip(moments(gradients), gradients, strict=True), start=1):
        here, ahead = (B1 * (1 - 0.5 * 0.96 ** (count * 0.004)) for count in (step, step + 1))
        product *= here
        w = w * (1 - learning_rate * weight_decay)
        spread = np.sqrt(square / (1 - B2**step)) + EPS
        w = w - learning_rate * ((1 - here) / (1 - product) * gradient + ahead / (1 - product * ahead) * mean) / spread
    return w


def radam(w, gradients, *, learning_rate, weight_decay):
    longest = 2 / (1 - B2) - 1
    for step, (mean, square) in enumerate(moments(gradients), start=1):
        w = w * (1 - learning_rate * weight_decay)
        length = longest - 2 * step * B2**step / (1 - B2**step)
        way = mean / (1 - B1**step)
        if length > 5:
            rectified = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
            way = way * rectified * math.sqrt(1 - B2**step) / (np.sqrt(square) + EPS)
        w = w - learning_rate * way
    return w


REFERENCES = {"adam": adam, "adamw": adamw, "sgd": sgd, "rmsprop": rmsprop, "adagrad": adagrad, "nadam": nadam, "radam": radam}
SCHEDULES = {
    "constant": {},
    "cosine": {"final": 0.1},
    "linear": {},
    "step": {},
    "one_cycle": {},
    "plateau": {"patience": 2, "gamma": 0.5},
}


def test_every_builtin_is_in_these_suites():
    assert set(REFERENCES) == set(FAMILIES["optimizer"][1])
    assert set(SCHEDULES) == set(FAMILIES["schedule"][1])


@pytest.mark.parametrize("case", REFERENCES)
class TestBuiltinOptimizers(OptimizerContract):
    @pytest.fixture(autouse=True)
    def _case(self, case):
        self.case = case
        self.tolerance = 1e-6 if case == "nadam" else 1e-9  # PyTorch keeps the product of NAdam's momenta in float32

    def build(self, **settings):
        return family("optimizer").build({"type": self.case, **settings})

    def reference(self, weight, gradients, **settings):
        return REFERENCES[self.case](weight, gradients, **settings)


@pytest.mark.parametrize("case", SCHEDULES)
class TestBuiltinSchedules(ScheduleContract):
    @pytest.fixture(autouse=True)
    def _case(self, case):
        self.case = case

    def build(self, **settings):
        return family("schedule").build({"type": self.case, **SCHEDULES[self.case], **settings})


class Signs(torch.optim.Optimizer):
    """Steps along the signs of a running mean; faults can be switched on."""

    fault = ""

    def __init__(self, groups, *, lr, weight_decay):
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})
        self.first = lr

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            rate = self.first if self.fault == "rate" else group["lr"]
            decay = 0.1 if self.fault == "decay" else group["weight_decay"]
            for parameter in group["params"]:
                if parameter.grad is None and self.fault == "none":
                    parameter.mul_(1 - rate * decay)
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                mean = state.setdefault("mean", torch.zeros_like(parameter)).mul_(0.9).add_(parameter.grad, alpha=0.1)
                if self.fault == "state":
                    state["count"] = state.get("count", 0) + 1  # no tensor: no checkpoint holds it
                    rate = group["lr"] / state["count"]
                signs = mean / mean.abs() if self.fault == "zero" else mean.sign()
                parameter.mul_(1 - rate * decay).sub_(signs, alpha=rate)


class SignsSpec(OptimizerSpec):
    """Sign descent with momentum, as a plugin brings it (Bernstein et al., 2018, https://arxiv.org/abs/1802.04434)."""

    kind: type[Signs] = Signs

    def build(self, groups, /):
        groups = [{**group, "lr": self.learning_rate * group.get("learning_rate_factor", 1.0)} for group in groups]
        return self.kind(groups, lr=self.learning_rate, weight_decay=self.weight_decay)


class TestAPluginsOptimizer(OptimizerContract):
    def build(self, **settings):
        return SignsSpec(**settings)

    def reference(self, weight, gradients, *, learning_rate, weight_decay):
        mean = 0.0
        for gradient in gradients:
            mean = 0.9 * mean + 0.1 * gradient
            weight = weight * (1 - learning_rate * weight_decay) - learning_rate * np.sign(mean)
        return weight


FAULTS = {
    "rate": "test_the_schedule_is_obeyed_at_every_step",
    "decay": "test_weights_are_decayed_and_gains_and_biases_are_not",
    "none": "test_a_parameter_without_a_gradient_is_left_alone",
    "zero": "test_gradients_of_zero_move_nothing",
    "state": "test_a_resumed_run_goes_on_bit_for_bit",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_suite_finds_a_wrong_optimizer(fault, tmp_path):
    class Wrong(TestAPluginsOptimizer):
        def build(self, **settings):
            spec = SignsSpec(**settings)
            spec.kind = type("Wrong", (Signs,), {"fault": fault})
            return spec

    arguments = (tmp_path,) if fault == "state" else ()
    getattr(TestAPluginsOptimizer(), FAULTS[fault])(*arguments)
    with pytest.raises(AssertionError):
        getattr(Wrong(), FAULTS[fault])(*arguments)


class Counting(Schedule):
    """Counts how often it is asked, as a schedule must not."""

    asked = 0

    def shape(self, step, steps):
        self.asked += 1
        return 1 / self.asked


class Forgetful(Schedule):
    """Halves at every look at a metric, and does not keep that."""

    scale = 1.0

    def shape(self, step, steps):
        return self.scale

    def observe(self, value, *, higher_is_better):
        self.scale /= 2


WRONG_SCHEDULES = {Counting: "test_asking_changes_nothing", Forgetful: "test_what_it_has_seen_survives_a_resume"}


@pytest.mark.parametrize(("wrong", "test"), WRONG_SCHEDULES.items())
def test_the_suite_finds_a_wrong_schedule(wrong, test):
    class Suite(ScheduleContract):
        def build(self, **settings):
            return wrong(**settings)

    with pytest.raises(AssertionError):
        getattr(Suite(), test)()
