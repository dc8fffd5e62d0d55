"""What the scripts of `benchmarks/claims/` count by: steps to a target, intervals, what is kept, and the baselines they bring."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from benchmarks.claims.paired import Kept, interval, steps_to

from deepseek.registry import family, load_plugin

CLAIMS = Path(__file__).parents[2] / "benchmarks" / "claims"


def validated(values):
    return [{"step": 10 * (place + 1), "accuracy": value} for place, value in enumerate(values)]


class TestStepsToATarget:
    def test_one_lucky_validation_is_not_enough(self):
        assert steps_to(validated([0.5, 0.95, 0.5, 0.8, 0.9, 0.91]), "accuracy", 0.85) == 60

    def test_of_so_few_validations_none_counts(self):
        assert steps_to(validated([0.95, 0.95]), "accuracy", 0.85) is None

    def test_who_never_comes_there_has_no_steps(self):
        assert steps_to(validated([0.5, 0.6, 0.7, 0.8]), "accuracy", 0.85) is None


def test_an_interval_is_that_of_students_t():
    # mean 2, deviation 1, t(2; 0.975) = 4.3027: 2 ± 4.3027 / sqrt(3)
    assert interval([1.0, 2.0, 3.0]) == pytest.approx([-0.4841, 4.4841], abs=1e-4)


def test_what_is_kept_is_not_made_again(tmp_path):
    file = tmp_path / "kept"
    assert Kept(file)(["a", 1], lambda: 3) == 3
    again = Kept(file)
    assert again(["a", 1], lambda: pytest.fail("made again")) == 3
    assert again(["a", 2], lambda: 4) == 4


def test_fewer_rates_are_those_in_the_middle(plugins_forgotten):
    script = sys.modules[load_plugin("layer_rates.py", CLAIMS)]
    assert script.middle((1, 2, 3, 4, 5), 3) == (2, 3, 4)
    assert script.middle((1, 2, 3, 4, 5), 5) == (1, 2, 3, 4, 5)


class TestTrustRatios:
    """One step of each by hand; the weights have norm 5, the gradient norm 13."""

    @pytest.fixture(autouse=True)
    def registered(self, plugins_forgotten):
        load_plugin("layer_rates.py", CLAIMS)

    def step(self, name, steps=1, **settings):
        weight, bias = torch.nn.Parameter(torch.tensor([[3.0, 4.0]])), torch.nn.Parameter(torch.tensor([1.0]))
        optimizer = family("optimizer").build({"type": name, **settings}).build([{"params": [weight, bias]}])
        for _ in range(steps):
            weight.grad, bias.grad = torch.tensor([[5.0, 12.0]]), torch.tensor([2.0])
            optimizer.step()
        return weight.detach(), bias.detach()

    def test_lars_scales_a_gradient_by_the_weights_norm_and_leaves_vectors(self):
        weight, bias = self.step("lars", learning_rate=2.0)
        torch.testing.assert_close(weight, torch.tensor([[3.0, 4.0]]) - 2.0 * 0.001 * 5 / 13 * torch.tensor([[5.0, 12.0]]))
        torch.testing.assert_close(bias, torch.tensor([1.0 - 2.0 * 2.0]))

    def test_lars_decays_within_the_norm(self):
        weight, _ = self.step("lars", learning_rate=1.0, weight_decay=1.0)
        gradient = torch.tensor([[8.0, 16.0]])
        torch.testing.assert_close(weight, torch.tensor([[3.0, 4.0]]) - 0.001 * 5 / gradient.norm() * gradient)

    def test_lars_has_momentum(self):
        once, _ = self.step("lars", learning_rate=1.0)
        twice, _ = self.step("lars", steps=2, learning_rate=1.0)
        first = torch.tensor([[3.0, 4.0]]) - once
        second = 0.9 * first + 0.001 * once.norm() / 13 * torch.tensor([[5.0, 12.0]])
        torch.testing.assert_close(twice, once - second)

    def test_lamb_steps_by_the_weights_norm_along_adams_step(self):
        weight, bias = self.step("lamb", learning_rate=0.1)
        direction = torch.tensor([[1.0, 1.0]])  # Adam's first step: the signs
        torch.testing.assert_close(weight, torch.tensor([[3.0, 4.0]]) - 0.1 * 5 / 2**0.5 * direction, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(bias, torch.tensor([0.9]), rtol=1e-5, atol=1e-5)
