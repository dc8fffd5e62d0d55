"""Public tests of strategies: derive a class from this one, and pytest checks on two ranks that your strategy keeps its contract.

```python
class TestMine(StrategyContract):
    def build(self) -> Strategy:
        return MyStrategy()
```
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from deepseek.data.batch import Batch
from deepseek.distributed.launch import launch
from deepseek.distributed.ranks import RankContext
from deepseek.distributed.strategies.base import Placement, Situation, Strategy
from deepseek.distributed.sync import GradientSync

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
        """On two ranks with shares of unequal size, one of them once empty: nothing is lost, nothing counted twice."""
        found: list[str] = launch(_differences, 2, self.build(), self.model(), device="cpu")
        assert found == []


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
    alone = [_alone(model, count) for count in (ROWS, 1)]
    whole = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    placement = strategy.place(model, Situation(ranks=ranks, row=_rows(1), batch_rows=ROWS))
    found = []
    for count, (gradients, answers, norm) in zip((ROWS, 1), alone, strict=True):
        batch = _share(_rows(count), placement.rows)
        _backward(placement, batch)
        for name, parameter in placement.model.named_parameters():
            if parameter.requires_grad and parameter.grad is not None:
                wanted = placement.local(name, gradients[name])
                if not torch.allclose(parameter.grad, wanted, atol=1e-5):
                    found.append(f"the gradient of {name} with {count} rows")
        if placement.shards and not torch.allclose(placement.norm(placement.model.parameters()), norm, atol=1e-5):
            found.append(f"the norm of the gradients with {count} rows")
        with torch.no_grad():
            out = placement.module(batch.inputs)
        start = placement.rows.rank * count // placement.rows.ranks
        if not torch.allclose(out, answers[start : start + len(batch)], atol=1e-5):
            found.append(f"the answers to {count} rows")
    placement.gather()
    for name, tensor in model.state_dict().items():
        if tensor.shape != whole[name].shape or not torch.equal(tensor, whole[name]):
            found.append(f"{name}, put together again")
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
    sync = GradientSync(list(placement.model.parameters()), exchange=placement.exchange)
    sync.zero()
    sync.arm(torch.tensor(float(len(batch))))
    if len(batch):
        _loss(placement.module(batch.inputs), batch)[0].backward()  # type: ignore[no-untyped-call]
    sync.finish()
