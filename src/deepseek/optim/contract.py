"""Public tests of clippings and of rates by layer: derive a class from one of these, and pytest checks that yours keeps its contract.

```python
class TestMine(ClippingContract):
    def build(self, parameters):
        return Mine(parameters, share=0.1)
```
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from deepseek.errors import CheckpointError
from deepseek.optim.adaptive import Adaptive
from deepseek.optim.clippings.base import Clipping
from deepseek.optim.gradients import Remembering, Trained, trained_parameters
from deepseek.optim.layer_rates.base import LayerRates

STEPS = 60


class _HistoryContract(ABC):
    """What everything with a history of gradients must do."""

    @abstractmethod
    def build(self, parameters: Sequence[Trained]) -> Remembering:
        """Return a fresh one, without a history."""

    def test_its_history_goes_on_bit_for_bit(self) -> None:
        """Saved in the middle and taken up by a fresh one, it does in all further steps what it would have done."""
        for unused in (False, True):
            whole = _Run(self.build, unused=unused)
            whole.steps(range(STEPS))
            first, second = _Run(self.build, unused=unused), _Run(self.build, unused=unused)
            first.steps(range(STEPS // 2))
            second.model.load_state_dict(first.model.state_dict())
            second.history.load_state_dict({name: tensor.clone() for name, tensor in first.history.state_dict().items()})
            second.steps(range(STEPS // 2, STEPS))
            assert all(map(torch.equal, whole.model.parameters(), second.model.parameters()))
            assert _same(whole.history.state_dict(), second.history.state_dict())

    def test_what_is_not_finite_leaves_no_trace(self) -> None:
        """A gradient that overflowed, as happens in fp16, does not make later steps infinite or NaN."""
        run = _Run(self.build, unused=False)
        run.steps(range(STEPS // 2))
        kept = [parameter.detach().clone() for parameter in run.model.parameters()]
        run.spoil(float("inf"))
        run.spoil(float("nan"))
        with torch.no_grad():
            for parameter, before in zip(run.model.parameters(), kept, strict=True):
                parameter.copy_(before)
        run.steps(range(STEPS // 2, STEPS))
        assert all(bool(parameter.isfinite().all()) for parameter in run.model.parameters())

    def test_its_state_has_a_row_for_each_part(self) -> None:
        """So that what is trained may change, and each part that stays keeps its history."""
        history = _Run(self.build, unused=False).history
        assert history.state
        assert all(len(tensor) == len(history.parts.names) for tensor in history.state.values())

    def test_a_part_keeps_its_history_when_others_come(self) -> None:
        """It is taken up by the part's name, from a run that goes on and from a checkpoint; what comes has none."""
        old, same = _Run(self.build, unused=False, frozen=1), _Run(self.build, unused=False, frozen=1)
        old.steps(range(STEPS))
        same.history.go_on(old.history)
        assert _same(old.history.state_dict(), same.history.state_dict())
        more, resumed, fresh = (_Run(self.build, unused=False) for _ in range(3))
        more.history.go_on(old.history)
        resumed.history.load_state_dict({name: tensor.clone() for name, tensor in old.history.state_dict().items()})
        assert _same(more.history.state_dict(), resumed.history.state_dict())
        names, known = more.history.parts.names, old.history.parts.names
        for key, tensor in more.history.state.items():
            for place, name in enumerate(names):
                wanted = old.history.state[key][known.index(name)] if name in known else fresh.history.state[key][place]
                assert torch.allclose(tensor[place], wanted, rtol=0, atol=0, equal_nan=True)

    def test_a_history_of_other_parts_is_refused(self) -> None:
        """A checkpoint whose parts have other names is not this run's, even where there are as many."""
        first, other = _Run(self.build, unused=False).history, _Run(self.build, unused=False, called="other").history
        if first.parts.names == other.parts.names:
            return  # the parts are not layers
        with pytest.raises(CheckpointError):
            other.load_state_dict(first.state_dict())

    def test_a_layer_that_begins_to_train_later_trains(self) -> None:
        """It is not measured by a history that it does not have."""
        old, new = _Run(self.build, unused=False, frozen=2), _Run(self.build, unused=False)
        old.steps(range(STEPS))
        new.history.go_on(old.history)
        self._trains(new)

    def test_a_layer_without_a_gradient_at_first_trains_later(self) -> None:
        """Zeros, and gradients that are not there, are not what is usual of a layer."""
        for zero in (True, False):
            run = _Run(self.build, unused=False)
            for number in range(STEPS):
                run.step(number, silent=2, zero=zero)
            self._trains(run)

    def test_a_layer_without_a_gradient_now_and_then_stays_finite(self) -> None:
        """Nothing is divided by a norm of zero, and what is missing leaves the same behind as zeros do."""
        runs = [_Run(self.build, unused=False) for _ in range(2)]
        for run, zero in zip(runs, (True, False), strict=True):
            for number in range(2 * STEPS):
                run.step(number, silent=2 if number % 5 == 0 else 0, zero=zero)
            assert all(bool(parameter.isfinite().all()) for parameter in run.model.parameters())
            self._trains(run)
        assert _same(*(run.history.state_dict() for run in runs))

    def _trains(self, run: _Run) -> None:
        """Check that the first layers move: of every step's gradient, not next to nothing on the whole is used."""
        shares = []
        for number in range(STEPS, 2 * STEPS):
            given, used, refused = run.step(number)
            shares += [float(b.norm() / a.norm()) for a, b in zip(given[:2], used[:2], strict=True) if not refused]
        assert len(shares) > STEPS
        assert min(shares) > 1e-3


class ClippingContract(_HistoryContract):
    """What every clipping must do."""

    @abstractmethod
    def build(self, parameters: Sequence[Trained]) -> Clipping:
        """Return a fresh one, which is to act on gradients that become a thousand times larger after `STEPS` steps."""

    def test_something_is_limited_or_left_out(self) -> None:
        """A gradient that is far larger than those before is not used as it is."""
        run = _Run(self.build, unused=False)
        run.steps(range(STEPS))
        given, used, refused = run.step(STEPS, scale=1000.0)
        assert refused or any(not torch.equal(a, b) for a, b in zip(given, used, strict=True))

    def test_no_gradient_grows_or_turns(self) -> None:
        """Every element keeps its sign, and none becomes larger."""
        run = _Run(self.build, unused=False)
        for number in range(STEPS):
            given, used, _ = run.step(number, scale=1.0 + 50.0 * (number % 7 == 6))
            for a, b in zip(given, used, strict=True):
                assert bool((b.abs() <= a.abs() * (1 + 1e-5)).all())
                assert bool((b * a >= 0).all())

    def test_it_says_whether_it_may_refuse(self) -> None:
        """What returns a flag says so in `refuses`, and tells what was left out."""
        run = _Run(self.build, unused=False)
        run.steps(range(STEPS))
        run.step(STEPS, scale=1000.0)
        clipping = run.history
        assert isinstance(clipping, Clipping)
        assert (clipping.left_out() is not None) == clipping.refuses


class LayerRatesContract(_HistoryContract):
    """What all rates by layer must do."""

    @abstractmethod
    def build(self, parameters: Sequence[Trained]) -> LayerRates:
        """Return fresh ones, whose factors are to differ after `STEPS` steps of noisy gradients."""

    def test_factors_come_to_differ_and_are_over_0(self) -> None:
        """Not all layers keep the optimizer's own rate."""
        run = _Run(self.build, unused=False)
        run.steps(range(STEPS))
        assert isinstance(run.history, LayerRates)
        rates = run.history.rates()
        assert len(set(rates.values())) > 1
        assert min(rates.values()) > 0

    def test_a_layers_step_is_its_factor_times_the_optimizers(self) -> None:
        """Rate and weight decay together, for any optimizer."""
        for kind in (torch.optim.SGD, torch.optim.AdamW):
            run = _Run(self.build, unused=False, optimizer=kind)
            run.steps(range(STEPS))
            before = {name: tensor.detach().clone() for name, tensor in run.model.named_parameters()}
            run.step(STEPS, scaled=False)
            plain = {name: tensor.detach().clone() for name, tensor in run.model.named_parameters()}
            run.adaptive.scale()
            assert isinstance(run.history, LayerRates)
            rates = run.history.rates()
            for name, tensor in run.model.named_parameters():
                wanted = before[name] + rates[name.rpartition(".")[0]] * (plain[name] - before[name])
                torch.testing.assert_close(tensor.detach(), wanted, rtol=1e-4, atol=1e-6)


class _Run:
    """A small network that gets gradients of a known size."""

    def __init__(
        self,
        build: Callable[[Sequence[Trained]], Remembering],
        *,
        unused: bool,
        optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
        frozen: int = 0,
        called: str = "",
    ) -> None:
        torch.manual_seed(0)
        layers = [nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 3)]
        self.model = nn.Sequential(OrderedDict((f"{called}{place}", layer) for place, layer in enumerate(layers)))
        trained = [parameter for layer in layers[frozen:] for parameter in layer.parameters()]
        self.optimizer = optimizer(trained, lr=1e-2, weight_decay=1e-2)  # type: ignore[call-arg]
        self.trained = trained_parameters(self.model, self.optimizer)
        self.history = build(self.trained)
        rates = self.history if isinstance(self.history, LayerRates) else None
        clip = [self.history] if isinstance(self.history, Clipping) else []
        self.adaptive = Adaptive(self.trained, clip=clip, layer_rates=rates)
        self._unused = unused

    def steps(self, numbers: range) -> None:
        """Make so many steps."""
        for number in numbers:
            self.step(number)

    def step(
        self, number: int, *, scale: float = 1.0, scaled: bool = True, silent: int = 0, zero: bool = False
    ) -> tuple[list[Tensor], list[Tensor], bool]:
        """Make a step; return the gradients as they were given and as they are used, and whether it was refused.

        So many first parameters are `silent`: their gradients are `zero`, or not there.
        """
        random = torch.Generator().manual_seed(number)
        for place, one in enumerate(self.trained):
            noise = torch.randn(one.parameter.shape, generator=random) * (0.5 + torch.rand((), generator=random))
            one.parameter.grad = None if self._unused and place == 1 else 0.01 * scale * noise
            if place < silent:
                one.parameter.grad = torch.zeros_like(one.parameter) if zero else None
        return self._make(scaled=scaled)

    def spoil(self, value: float) -> None:
        """Make a step whose gradients are not numbers."""
        for one in self.trained:
            one.parameter.grad = torch.full_like(one.parameter, value)
        self._make(scaled=True)

    def _make(self, *, scaled: bool) -> tuple[list[Tensor], list[Tensor], bool]:
        given = [one.parameter.grad.clone() for one in self.trained if one.parameter.grad is not None]
        self.adaptive.look()
        refused = self.adaptive.limit().refused
        used = [one.parameter.grad.clone() for one in self.trained if one.parameter.grad is not None]
        stopped = refused is not None and bool(refused)
        self.adaptive.hold()
        if not stopped:
            self.optimizer.step()
        if scaled:
            self.adaptive.scale()
        return given, used, stopped


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.allclose(one[name], other[name], rtol=0, atol=0, equal_nan=True) for name in one)
