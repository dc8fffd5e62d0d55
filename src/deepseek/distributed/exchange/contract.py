"""What every exchange must do, as tests that a plugin's author runs on it: on real processes, which talk as they do in training.

Derive a class whose name begins with `Test` and say which exchange it is:

    class TestMine(ExchangeContract):
        spec = {"type": "mine", "level": 3}
        plugins = ("mine.py",)     # what registers it: files, or names of modules
        error = 0.1                # how far from the sum it may be, as a share of the sum's norm; 1e-6 for an exact one

Nothing is measured twice: all tests of a class look at one job of `ranks` processes (`observe`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deepseek.distributed.exchange.base import Exchange
from deepseek.distributed.launch import launch
from deepseek.distributed.ranks import RankContext
from deepseek.distributed.sync import GradientSync
from deepseek.registry import family, load_plugin

_STEPS, _RESUMED_AT, _SIZE = 6, 3, 1e5
_SHAPES = ((1,), (7, 5), (64, 40), (3, 4, 5), (513,))
"""A scalar, small and odd ones, a matrix worth two factors, more than one row of 512."""


@dataclass(frozen=True)
class Observed:
    """What a job of several processes found out about an exchange.

    Attributes:
        ranks: How many processes there were.
        same: Whether all of them had the same bits after every step.
        errors: The distance from the exact sum as a share of its norm, by step.
        weights: The sum of the weights of the rows, by step, and what it should have been.
        repeated: Whether another exchange with the same seeds gave the same bits.
        resumed: Whether one that was given the state of the third step gave the same bits from there on.
        empty: The largest absolute value of the sum of nothing, in a first step.
        spoilt: Whether gradients that were NaN on one rank were no numbers on all, and those of the next step were again.
        share: What was sent, as a share of plain float32.
    """

    ranks: int
    same: bool
    errors: tuple[float, ...]
    weights: tuple[tuple[float, float], ...]
    repeated: bool
    resumed: bool
    empty: float
    spoilt: bool
    share: float


class ExchangeContract:
    """The suite: pytest collects the methods of derived classes."""

    spec: ClassVar[str | Mapping[str, Any]]
    plugins: ClassVar[tuple[str, ...]] = ()
    error: ClassVar[float] = 1e-6
    ranks: ClassVar[int] = 2

    def observed(self) -> Observed:
        """Return what is known of the exchange."""
        return _once(_frozen(self.spec), self.ranks, self.plugins)

    def test_all_ranks_have_the_same_bits(self) -> None:
        """Whatever was lost on the way: replicas must not drift apart."""
        assert self.observed().same

    def test_the_sum_is_the_sum(self) -> None:
        """As exactly as promised, in every step, of gradients of many shapes in buckets of many sizes."""
        assert max(self.observed().errors) <= self.error

    def test_the_weight_of_the_rows_is_exact(self) -> None:
        """It divides everything: an error in it would be an error in every weight."""
        assert all(found == wanted for found, wanted in self.observed().weights)

    def test_the_same_seeds_give_the_same_bits(self) -> None:
        """A run can be repeated."""
        assert self.observed().repeated

    def test_a_resume_is_the_uninterrupted_run(self) -> None:
        """What is kept from step to step is in the state, whole."""
        assert self.observed().resumed

    def test_nothing_sums_to_nothing(self) -> None:
        """Where no rank has a gradient, none arises."""
        assert self.observed().empty == 0.0

    def test_what_is_not_finite_reaches_every_rank_and_passes(self) -> None:
        """NaN must not be rounded away, nor stay in what is kept."""
        assert self.observed().spoilt

    def test_what_is_sent_is_counted(self) -> None:
        """Each message counts."""
        assert self.observed().share > 0.0


def observe(
    specs: Sequence[str | Mapping[str, Any]], *, ranks: int = 2, plugins: Sequence[str] = (), folder: Path | None = None
) -> list[Observed]:
    """Return what is found out about exchanges, all in one job of processes.

    Args:
        specs: The exchanges.
        ranks: How many processes.
        plugins: What registers exchanges that are not built in.
        folder: What the plugins' paths are relative to; the current folder where not given.
    """
    found = launch(_observe_all, ranks, list(specs), tuple(plugins), folder or Path.cwd(), device="cpu")
    return [Observed(**each) for each in found]


@lru_cache
def _once(spec: str | tuple[tuple[str, Any], ...], ranks: int, plugins: tuple[str, ...]) -> Observed:
    return observe([spec if isinstance(spec, str) else dict(spec)], ranks=ranks, plugins=plugins)[0]


def _frozen(spec: str | Mapping[str, Any]) -> str | tuple[tuple[str, Any], ...]:
    return spec if isinstance(spec, str) else tuple(spec.items())


def _observe_all(
    context: RankContext, specs: Sequence[str | Mapping[str, Any]], plugins: Sequence[str], folder: Path
) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    for plugin in plugins:
        load_plugin(plugin, folder)
    return [_observe(context, spec) for spec in specs]


def _observe(context: RankContext, spec: str | Mapping[str, Any]) -> dict[str, Any]:
    def fresh() -> _Rig:
        return _Rig(context, family("exchange").build(spec, context))

    rig, again, resumed = fresh(), fresh(), fresh()
    sums, errors, weights, repeated, followed = [], [], [], True, True
    for step in range(_STEPS):
        if step == _RESUMED_AT:
            resumed.take_up(rig)
        found, weight = rig.make(step)
        exact, wanted = rig.exact(step)
        sums.append(found)
        errors.append(float((found.double() - exact).norm() / exact.norm()))
        weights.append((weight, wanted))
        repeated &= bool(torch.equal(found, again.make(step)[0]))
        followed &= step < _RESUMED_AT or bool(torch.equal(found, resumed.make(step)[0]))
    empty, _ = fresh().make(0, scale=0.0)
    spoilt, _ = rig.make(_STEPS, scale=float("nan") if context.rank == context.ranks - 1 else 1.0)
    after, _ = rig.make(_STEPS + 1)
    return {
        "ranks": context.ranks,
        "same": _agreed(torch.cat([*sums, after])),
        "errors": tuple(errors),
        "weights": tuple(weights),
        "repeated": _all(repeated),
        "resumed": _all(followed),
        "empty": float(empty.abs().max()),
        "spoilt": _all(not bool(spoilt.isfinite().any()) and bool(after.isfinite().all())),
        "share": rig.exchange.traffic.share,
    }


class _Rig:
    """Gradients that are known beforehand, on their way through `GradientSync`."""

    def __init__(self, context: RankContext, exchange: Exchange) -> None:
        self.context, self.exchange = context, exchange
        self.parameters = [nn.Parameter(torch.zeros(shape)) for shape in _SHAPES]
        self.sync = GradientSync(self.parameters, bucket_bytes=3000, exchange=exchange)

    @torch.no_grad()
    def make(self, step: int, *, scale: float = 1.0) -> tuple[Tensor, float]:
        """Return the sum of a step's gradients over the ranks, and of the weights; without a backward pass, as on a rank without rows."""
        self.exchange.begin(1000 * step + self.context.rank)
        self.sync.zero()
        self.sync.arm(torch.tensor(_weight(step, self.context.rank)))
        for parameter, gradient in zip(self.parameters, _gradients(step, self.context.rank), strict=True):
            assert parameter.grad is not None
            parameter.grad.copy_(gradient * scale)
        weight = float(self.sync.finish())
        return torch.cat([parameter.grad.flatten() for parameter in self.parameters if parameter.grad is not None]), weight

    def exact(self, step: int) -> tuple[Tensor, float]:
        """Return what the sums should be, in float64."""
        every = [torch.cat([each.flatten() for each in _gradients(step, rank)]).double() for rank in range(self.context.ranks)]
        return torch.stack(every).sum(dim=0), sum(_weight(step, rank) for rank in range(self.context.ranks))

    def take_up(self, other: _Rig) -> None:
        """Go on where another is, by its state alone."""
        self.exchange.load_own_state({name: tensor.clone() for name, tensor in other.exchange.own_state().items()})


def _gradients(step: int, rank: int) -> list[Tensor]:
    """Return the gradients of a rank, half of which ranks have in common: sums over many rows, too large for float16 as they are.

    They grow with the weight of the rows, as sums do.
    """
    shared, own = (torch.Generator().manual_seed(seed) for seed in (7 + step, 100 + 10 * step + rank))
    size = _SIZE * (step + 2)
    return [(torch.randn(shape, generator=shared) + torch.randn(shape, generator=own)) * size for shape in _SHAPES]


def _weight(step: int, rank: int) -> float:
    return float((rank + 1) * (step + 2))


def _agreed(values: Tensor) -> bool:
    """Whether values are the same, bit for bit, on every rank."""
    bits = values.view(torch.int32).to(torch.int64)
    low, high = bits.clone(), bits.clone()
    dist.all_reduce(low, op=dist.ReduceOp.MIN)
    dist.all_reduce(high, op=dist.ReduceOp.MAX)
    return bool(torch.equal(low, high))


def _all(fact: bool) -> bool:
    """Whether something holds on every rank."""
    held = torch.tensor([int(fact)])
    dist.all_reduce(held, op=dist.ReduceOp.MIN)
    return bool(held.item())
