"""Public tests of optimizers and schedules: derive a test class, and pytest checks that yours keeps its contract.

```python
class TestMyOptimizer(OptimizerContract):
    def build(self, **settings: float) -> OptimizerSpec:
        return MyOptimizer(**settings)

    def reference(self, weight: np.ndarray, gradients: Sequence[np.ndarray], *, learning_rate: float, weight_decay: float) -> np.ndarray:
        for gradient in gradients:
            weight = weight - learning_rate * (np.sign(gradient) + weight_decay * weight)
        return weight
```

They stand here, not in `deepseek.optim`, because what they ask most of all is that a run which is resumed goes on as if it had not stopped.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deepseek.optim import OptimizerSpec, Schedule, decay_groups, make_update
from deepseek.training.checkpoints.files import load_checkpoint, load_optimizer, optimizer_tensors, save_checkpoint

STEPS = 8
"""Enough for what begins differently, such as RAdam's rectification, to have begun."""


class OptimizerContract(ABC):
    """What every optimizer must do.

    Attributes:
        learning_rate: The rate that steps are made with here.
        tolerance: How far from the reference's a weight may be, relatively; more than rounding only where the optimizer itself keeps
            something in float32.
    """

    learning_rate: float = 0.01
    tolerance: float = 1e-9

    @abstractmethod
    def build(self, **settings: float) -> OptimizerSpec:
        """Return the optimizer's spec.

        Args:
            settings: `learning_rate` and `weight_decay`, or nothing.
        """

    @abstractmethod
    def reference(self, weight: np.ndarray, gradients: Sequence[np.ndarray], *, learning_rate: float, weight_decay: float) -> np.ndarray:
        """Return a matrix of weights after a step with each of the gradients, computed in float64 by other means.

        Args:
            weight: What they begin with, `[4, 3]`.
            gradients: One a step.
            learning_rate: The rate of all steps.
            weight_decay: The decay, 0 for none.
        """

    @pytest.mark.parametrize("weight_decay", [0.0, 0.1])
    def test_its_steps_are_those_of_the_reference(self, weight_decay: float) -> None:
        """Step by step, in float64 to the last digits."""
        torch.manual_seed(0)
        layer = nn.Linear(3, 4, bias=False).double()
        before, gradients = layer.weight.detach().numpy().copy(), [torch.randn(4, 3, dtype=torch.float64) for _ in range(STEPS)]
        optimizer = self._made(layer, weight_decay=weight_decay)
        for count, gradient in enumerate(gradients, start=1):
            layer.weight.grad = gradient.clone()
            optimizer.step()
            met = [one.numpy() for one in gradients[:count]]
            expected = self.reference(before.copy(), met, learning_rate=self.learning_rate, weight_decay=weight_decay)
            torch.testing.assert_close(layer.weight.detach(), torch.from_numpy(expected), rtol=self.tolerance, atol=1e-11)

    def test_a_resumed_run_goes_on_bit_for_bit(self, tmp_path: Path) -> None:
        """What it keeps between steps goes into a checkpoint and comes out of it: tensors by parameter, and nothing beside them."""
        model = _network()
        optimizer = self._made(model, weight_decay=0.1)
        _train(model, optimizer.step, range(3))
        kept = {"model": dict(model.state_dict()), "optimizer": optimizer_tensors(optimizer, model)}
        tensors, _ = load_checkpoint(save_checkpoint(tmp_path, 3, tensors=kept, state={}, keep=1))
        twin = _network(seed=1)
        twin.load_state_dict(tensors["model"])
        resumed = self._made(twin, weight_decay=0.1)
        load_optimizer(resumed, twin, tensors.get("optimizer", {}))
        _train(model, optimizer.step, range(3, 6))
        _train(twin, resumed.step, range(3, 6))
        _require_equal(twin, model)

    def test_all_forms_of_its_kernel_make_the_same_step(self) -> None:
        """One pass over memory, many tensors at a time and one after the other: where it has several forms, they agree."""
        sides = []
        for form in ({}, {"fused": False, "foreach": True}, {"fused": False, "foreach": False}):
            model = _network().double()
            optimizer = self._made(model, weight_decay=0.1)
            for group in optimizer.param_groups:
                group.update({key: value for key, value in form.items() if key in group})
            _train(model, optimizer.step, range(4))
            sides.append(model)
        for other in sides[1:]:
            for one, two in zip(sides[0].parameters(), other.parameters(), strict=True):
                torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)

    def test_the_step_of_the_trainer_is_its_own(self) -> None:
        """What keeps lists from step to step, to save time, moves the weights to the same bits."""
        ours, theirs = _network(), _network()
        update, optimizer = make_update(self._made(ours, weight_decay=0.1)), self._made(theirs, weight_decay=0.1)
        _train(ours, update, range(4))
        _train(theirs, optimizer.step, range(4))
        _require_equal(ours, theirs)

    def test_the_same_run_gives_the_same_bits(self) -> None:
        """Twice from the start."""
        first, second = _network(), _network()
        for model in (first, second):
            _train(model, self._made(model, weight_decay=0.1).step, range(4))
        _require_equal(first, second)

    def test_it_lowers_a_loss(self) -> None:
        """Thirty steps on one batch, at its own rate."""
        model = _network()
        optimizer = self.build().build(decay_groups(model))
        losses = _train(model, optimizer.step, [0] * 30)
        assert losses[-1] < losses[0]

    def test_gradients_of_zero_move_nothing(self) -> None:
        """Without decay, from the first step on: no division by a moment of zero."""
        model, still = _network(), _network()
        optimizer = self._made(model, weight_decay=0.0)
        for _ in range(3):
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
        _require_equal(model, still)

    def test_a_parameter_without_a_gradient_is_left_alone(self) -> None:
        """It is neither moved nor decayed while the others are."""
        model, still = _network(), _network()
        optimizer = self._made(model, weight_decay=0.1)
        first = next(iter(model.parameters()))
        for step in range(3):
            _backward(model, step)
            first.grad = None
            optimizer.step()
        pairs = list(zip(model.parameters(), still.parameters(), strict=True))
        assert torch.equal(*pairs[0])
        assert not any(torch.equal(*pair) for pair in pairs[1:])

    def test_weights_are_decayed_and_gains_and_biases_are_not(self) -> None:
        """The group that says `weight_decay: 0.0` keeps its values where gradients are zero; the other is drawn to zero."""
        model, still = _network(), _network()
        optimizer = self._made(model, weight_decay=0.1)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                before = next(old for new, old in zip(model.parameters(), still.parameters(), strict=True) if new is parameter)
                if group["regularise"]:
                    assert parameter.norm() < before.norm()
                else:
                    assert torch.equal(parameter, before)

    def test_shares_of_the_rate_are_kept(self) -> None:
        """A group with half of the rate steps as at half the rate."""
        ours, theirs = _network(), _network()
        groups = [{**group, "learning_rate_factor": 0.5} for group in decay_groups(ours)]
        first = self.build(learning_rate=self.learning_rate, weight_decay=0.1).build(groups)
        second = self.build(learning_rate=self.learning_rate / 2, weight_decay=0.1).build(decay_groups(theirs))
        _train(ours, first.step, range(3))
        _train(theirs, second.step, range(3))
        _require_equal(ours, theirs)

    def test_the_schedule_is_obeyed_at_every_step(self) -> None:
        """The rate is read from the groups when a step is made: one of zero moves nothing, the next one does."""
        model, still = _network(), _network()
        optimizer = self._made(model, weight_decay=0.1)
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        _train(model, optimizer.step, range(2))
        _require_equal(model, still)
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate
        _train(model, optimizer.step, range(2))
        assert not any(torch.equal(one, two) for one, two in zip(model.parameters(), still.parameters(), strict=True))

    def _made(self, model: nn.Module, *, weight_decay: float) -> torch.optim.Optimizer:
        return self.build(learning_rate=self.learning_rate, weight_decay=weight_decay).build(decay_groups(model))


class ScheduleContract(ABC):
    """What every schedule must do."""

    @abstractmethod
    def build(self, **settings: Any) -> Schedule:
        """Return the schedule.

        Args:
            settings: `warmup_steps` or `warmup`, or nothing.
        """

    @pytest.mark.parametrize("total", [1, 2, 3, 10, 1000])
    def test_every_factor_is_a_number_and_not_negative(self, total: int) -> None:
        """For runs of any length, at every step, and at the one behind the last."""
        for settings in ({}, {"warmup_steps": 5}, {"warmup": 0.5}):
            schedule = self.build(**settings)
            factors = np.array([schedule.factor(step, total) for step in range(total + 1)])
            assert np.isfinite(factors).all()
            assert (factors >= 0).all()

    def test_asking_changes_nothing(self) -> None:
        """A factor is a function of the step: a run that is resumed in the middle goes on as it would have."""
        schedule = self.build()
        ahead = [schedule.factor(step, 20) for step in range(20)]
        assert [schedule.factor(step, 20) for step in reversed(range(20))] == ahead[::-1]
        assert [self.build().factor(step, 20) for step in range(10, 20)] == ahead[10:]

    def test_the_rate_is_warmed_up(self) -> None:
        """Step by step up to 1."""
        schedule = self.build(warmup_steps=4)
        assert [schedule.factor(step, 40) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]

    def test_what_it_has_seen_survives_a_resume(self) -> None:
        """Its state is plain JSON, and another one that takes it up goes on alike."""
        schedule, twin = self.build(), self.build()
        for value in (0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6):
            schedule.observe(value, higher_is_better=True)
        twin.load_state_dict(json.loads(json.dumps(schedule.state_dict(), allow_nan=False)))
        for value in (0.6, 0.6, 0.6, 0.7, *([0.6] * 10)):
            assert [one.factor(15, 20) for one in (twin,)] == [schedule.factor(15, 20)]
            schedule.observe(value, higher_is_better=True)
            twin.observe(value, higher_is_better=True)
        assert twin.factor(15, 20) == schedule.factor(15, 20)


def _network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)  # biases and shifts of zero would hide that they are decayed
    return model


def _backward(model: nn.Module, batch: int) -> Tensor:
    draw = torch.Generator().manual_seed(batch)
    dtype = next(model.parameters()).dtype
    model.zero_grad()
    x, y = (torch.randn(16, width, generator=draw, dtype=torch.float64).to(dtype) for width in (4, 2))
    loss: Tensor = (model(x) - y).square().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _train(model: nn.Module, step: Callable[[], object], batches: Sequence[int]) -> list[float]:
    losses = []
    for batch in batches:
        losses.append(float(_backward(model, batch)))
        step()
    return losses


def _require_equal(one: nn.Module, other: nn.Module) -> None:
    for (name, ours), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
