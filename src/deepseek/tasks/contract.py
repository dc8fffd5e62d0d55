"""Public tests of tasks: derive a test class from `TaskContract`, and pytest checks that your task keeps its contract.

```python
class TestMyTask(TaskContract):
    def build(self) -> Task:
        return MyTask(target)

    def targets(self, rows: int) -> Tensor:
        return torch.randint(0, 2, (rows,)).float()
```
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor, nn

from deepseek.data.batch import Batch
from deepseek.tasks.base import TARGET, Task
from deepseek.tasks.metrics import MeanLoss

ROWS, WIDTH = 12, 8


class TaskContract(ABC):
    """What every task must do."""

    @abstractmethod
    def build(self) -> Task:
        """Return a fresh task."""

    @abstractmethod
    def targets(self, rows: int) -> Tensor:
        """Return targets of so many rows, as a batch holds them, every class among them where there are enough rows."""

    def outputs(self, rows: int) -> Tensor:
        """Return what a network could say of so many rows: random `[b, 2, o]`, two members; other where the task takes no vectors."""
        return torch.randn(rows, 2, self.build().outputs)

    def test_the_head_has_the_promised_shape(self) -> None:
        """`[b, m, o]` for one member and for several, or what stands in its place for maps and sequences."""
        if (task := self.build()).takes != "vector":
            out = self.outputs(ROWS)
            shape = (ROWS, WIDTH, *out.shape[2:]) if task.takes == "map" else (ROWS, out.shape[1], WIDTH)
            assert task.head(WIDTH)(torch.randn(shape)).shape == out.shape
            return
        for members in (1, 3):
            task = self.build()
            assert task.head(WIDTH, members)(torch.randn(ROWS, members, WIDTH)).shape == (ROWS, members, task.outputs)

    def test_members_have_weights_of_their_own(self) -> None:
        """A member's output depends on that member's features alone, and differs from another's for the same features."""
        task = self.build()
        if task.takes != "vector":
            return
        head, x = task.head(WIDTH, 3), torch.randn(1, 1, WIDTH).expand(ROWS, 3, WIDTH)
        out = head(x)
        assert not torch.allclose(out[:, 0], out[:, 1])
        changed = x.clone()
        changed[:, 2] += 1
        torch.testing.assert_close(head(changed)[:, :2], out[:, :2])

    def test_the_loss_is_a_weighted_sum_over_rows(self) -> None:
        """Parts of a batch add up to the batch, with and without weights; weights of one change nothing."""
        task, (out, batch) = self.build(), self._case()
        for given in (batch, replace(batch, weight=None)):
            whole = task.loss(out, given)
            parts = [task.loss(piece, part) for piece, part in zip(_pieces(out, 5), given.split(5), strict=True)]
            for index in (0, 1):
                assert whole[index].shape == ()
                torch.testing.assert_close(whole[index], torch.stack([part[index] for part in parts]).sum())
        ones = task.loss(out, replace(batch, weight=torch.ones(ROWS)))
        torch.testing.assert_close(ones, task.loss(out, replace(batch, weight=None)))

    def test_a_row_of_weight_zero_counts_nothing(self) -> None:
        """It is as if the row were not there."""
        task, (out, batch) = self.build(), self._case()
        silenced = replace(batch, weight=torch.ones(ROWS).index_fill(0, torch.tensor([0]), 0.0))
        without = Batch({}, {TARGET: batch.targets[TARGET][1:]}, torch.ones(ROWS - 1))
        torch.testing.assert_close(task.loss(out, silenced), task.loss(out[1:], without))

    def test_the_loss_teaches(self) -> None:
        """Some steps of gradient descent on the outputs themselves make the loss much smaller."""
        task, (out, batch) = self.build(), self._case()
        out = nn.Parameter(out)
        optimizer = torch.optim.Adam([out], lr=0.3)
        losses = []
        for _ in range(50):
            numerator, denominator = task.loss(out, batch)
            optimizer.zero_grad()
            (numerator / denominator).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(numerator.detach() / denominator))
        assert losses[-1] < 0.5 * losses[0]

    def test_half_precision_outputs_are_widened(self) -> None:
        """Loss and answers of bfloat16 outputs are float32."""
        task, (out, batch) = self.build(), self._case()
        half = out.bfloat16()
        assert task.loss(half, batch)[0].dtype == torch.float32
        assert all(tensor.dtype == torch.float32 for tensor in task.decode(half).values())

    def test_answers_have_a_row_each(self) -> None:
        """`answer` gives a table with the prediction, from tensors and from arrays, also for no rows."""
        task, (out, _) = self.build(), self._case()
        decoded = task.decode(out)
        table = task.answer(decoded)
        assert table.num_rows == ROWS
        assert any(name.startswith("prediction") for name in table.column_names)
        assert table.equals(task.answer({name: tensor.numpy() for name, tensor in decoded.items()}))
        nothing = task.answer(task.decode(out[:0]))
        assert nothing.num_rows == 0
        assert nothing.schema.equals(table.schema)

    def test_metrics_add_up(self) -> None:
        """Metrics of uneven parts, merged, are those of the whole; the loss and the monitored metric are among them."""
        task, (out, batch) = self.build(), self._case()
        whole, parts = task.metrics(), [task.metrics(), task.metrics()]
        assert {"loss", task.monitor} <= set(whole)
        pieces = [(out, batch), *zip(_pieces(out, 8), batch.split(8), strict=True)]
        for metrics, (some, rows) in zip((whole, *parts), pieces, strict=True):
            for metric in metrics.values():
                metric.update(task.decode(some), rows)
                if isinstance(metric, MeanLoss):
                    metric.add(*task.loss(some, rows))
        for name, metric in whole.items():
            parts[0][name].merge(parts[1][name].state)
            merged = parts[0][name].compute()
            assert abs(merged - metric.compute()) < 1e-6 * max(1.0, abs(merged)), name

    def test_decoding_exports(self) -> None:
        """`torch.export` takes the decoding with a dynamic batch."""
        task, (out, _) = self.build(), self._case()
        module = _Decoding(task)
        exported = torch.export.export(module, (out,), dynamic_shapes=({0: torch.export.Dim("rows", min=1)},)).module()
        torch.testing.assert_close(exported(out[:5]), module(out[:5]))

    def _case(self) -> tuple[Tensor, Batch]:
        out = self.outputs(ROWS)
        return out, Batch({"x": torch.zeros(ROWS, 1)}, {TARGET: self.targets(ROWS)}, torch.rand(ROWS) + 0.5)


class _Decoding(nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, out: Tensor) -> dict[str, Tensor]:
        return self.task.decode(out)


def _pieces(out: Tensor, rows: int) -> list[Tensor]:
    return [out[start : start + rows] for start in range(0, out.shape[0], rows)]
