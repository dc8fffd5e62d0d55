"""Public tests of strategies: derive a class from this one, and pytest checks on two ranks that your strategy keeps its contract.

```python
class TestMine(StrategyContract):
    def build(self) -> Strategy:
        return MyStrategy()
```
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from deepseek.data.batch import Batch
from deepseek.distributed.launch import launch
from deepseek.distributed.ranks import RankContext
from deepseek.distributed.strategies.base import Placement, Situation, Strategy
from deepseek.distributed.sync import GradientSync, sum_across

ROWS = 7


class Blocks(nn.Module):
    """Six blocks in a chain: a model that every strategy can share out."""

    def __init__(self) -> None:
        super().__init__()
        widths = [4, 8, 8, 8, 8, 8, 2]
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in pairwise(widths))

    def chain(self) -> list[nn.Module]:
        """Return what takes the inputs, and the blocks."""
        return [_Named(), *self.blocks]

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Map `x` `[b, 4]` to `[b, 2]`."""
        x = inputs["x"]
        for block in self.blocks:
            x = block(x)
        return x


class StrategyContract(ABC):
    """What every strategy must do."""

    @abstractmethod
    def build(self) -> Strategy:
        """Return a fresh strategy; it is sent to other processes."""

    def model(self) -> nn.Module:
        """Return a model that it can share out; its inputs are `x`, `[b, 4]`, its outputs `[b, 2]`."""
        return Blocks()

    def test_gradients_answers_and_weights_are_those_of_one_rank(self) -> None:
        """On two ranks with shares of unequal size, one of them once empty: nothing is lost, nothing counted or written down twice."""
        found: list[str] = launch(_differences, 2, self.build(), self.model(), device="cpu")
        assert not found, f"not as on one rank: {', '.join(found)}"


class _Named(nn.Module):
    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return inputs["x"]


def _loss(out: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    return (out - batch.targets["y"]).square().sum(), torch.tensor(float(len(batch)))


def _rows(count: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch({"x": torch.randn(count, 4, generator=generator)}, {"y": torch.randn(count, 2, generator=generator)})


def _differences(ranks: RankContext, strategy: Strategy, model: nn.Module) -> list[str]:
    """Return in what a shared-out model differs from a whole one."""
    model = copy.deepcopy(model)  # what is sent to processes lies in memory that they share, and one of them is about to change it
    frozen = _freeze_some(model)
    alone = [_alone(model, count) for count in (ROWS, 1)]
    whole = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if not ranks.is_main:
        _spoil(model)
    placement = strategy.place(model, Situation(ranks=ranks, row=_rows(1), batch_rows=ROWS))
    found = _wrong_pieces(placement, whole) if placement.shards else []
    for count, expected in zip((ROWS, 1), alone, strict=True):
        found += [f"{what} with {count} rows" for what in _wrong_steps(placement, count, expected)]
    placement.gather()
    for name, tensor in model.state_dict().items():
        if tensor.shape != whole[name].shape or not torch.equal(tensor, whole[name]):
            found.append(f"{name}, put together again")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    found += [f"whether {name} is trained" for name in sorted(trained & frozen)]
    return found


def _freeze_some(model: nn.Module) -> set[str]:
    """Leave a bias untrained, and a weight in the midst of several; return their names."""
    named = dict(model.named_parameters())
    biases, weights = ([name for name, parameter in named.items() if parameter.ndim == dimensions] for dimensions in (1, 2))
    frozen = {*biases[:1], *weights[len(weights) // 2 :][: len(weights) > 2]}
    for name in frozen:
        named[name].requires_grad_(False)
    return frozen


@torch.no_grad()
def _spoil(model: nn.Module) -> None:
    """Give this rank other weights than rank 0 has, whose weights are to count."""
    for parameter in model.parameters():
        parameter.add_(1.0)


@torch.no_grad()
def _wrong_pieces(placement: Placement, whole: Mapping[str, Tensor]) -> list[str]:
    """Return what is wrong with what the ranks write down, of which checkpoints are made, and with what they take up."""
    found = []
    for name, parameter in placement.model.named_parameters():
        if not torch.equal(parameter, placement.local(name, whole[name])):
            found.append(f"this rank's part of {name}")
    for name, shape in placement.shapes().items():
        piece, times = placement.piece(name), torch.zeros(shape)
        if list(whole[name].shape) != shape:
            found.append(f"the whole shape of {name}")
        if piece is not None:
            piece.of(times).fill_(1.0)
            if not torch.equal(piece.of(whole[name]), dict(placement.model.named_parameters())[name]):
                found.append(f"where the part of {name} lies")
        sum_across([times], placement.ranks)
        if not bool((times == 1.0).all()):
            found.append(f"how often each number of {name} is written down")
    return found


def _wrong_steps(placement: Placement, count: int, expected: tuple[dict[str, Tensor], Tensor, Tensor]) -> list[str]:
    """Return what is wrong with gradients and answers."""
    gradients, answers, norm = expected
    found, batch = [], _share(_rows(count), placement.rows)
    _backward(placement, batch)
    for name, parameter in placement.model.named_parameters():
        if not parameter.requires_grad or parameter.grad is None:
            continue
        if name not in gradients or not torch.allclose(parameter.grad, placement.local(name, gradients[name]), atol=1e-5):
            found.append(f"the gradient of {name}")
    if placement.shards and not torch.allclose(placement.norm(placement.model.parameters()), norm, atol=1e-5):
        found.append("the norm of the gradients")
    with torch.no_grad():
        out = placement.module(batch.inputs)
    start = placement.rows.rank * count // placement.rows.ranks
    if not torch.allclose(out, answers[start : start + len(batch)], atol=1e-5):
        found.append("the answers")
    return found


def _alone(model: nn.Module, count: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    batch = _rows(count)
    out = model(batch.inputs)
    numerator, _ = _loss(out, batch)
    model.zero_grad()
    numerator.backward()  # type: ignore[no-untyped-call]
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    norm = nn.utils.get_total_norm(list(gradients.values()))
    model.zero_grad()
    return gradients, out.detach(), norm


def _share(batch: Batch, rows: RankContext) -> Batch:
    start, stop = rows.rank * len(batch) // rows.ranks, (rows.rank + 1) * len(batch) // rows.ranks
    return batch.cut([start, stop - start, len(batch) - stop])[1]


def _backward(placement: Placement, batch: Batch) -> None:
    """Leave the sums of the gradients of all rows in the parameters."""
    if placement.shards:
        _, denominator = placement.backward(batch, loss=_loss, pieces=2, least=1)
        placement.finish(denominator)
        return
    trained = [parameter for parameter in placement.model.parameters() if parameter.requires_grad]
    sync = GradientSync(trained, exchange=placement.exchange)
    sync.zero()
    sync.arm(torch.tensor(float(len(batch))))
    if len(batch):
        _loss(placement.module(batch.inputs), batch)[0].backward()  # type: ignore[no-untyped-call]
    sync.finish()
