"""Segmentations measured as they answer: pictures that are larger than the network's size whole, window by window.

Legend of shapes: `b` rows · `k` classes · `*space` height and width, or depth, height and width · `c` channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from deepseek.data.batch import Batch
from deepseek.data.prepared import PreparedDataset, WholeRow, Wholes
from deepseek.inference.backends.base import Backend
from deepseek.inference.windows import in_windows
from deepseek.tasks.base import TARGET
from deepseek.tasks.model import TaskModel

ROWS_AT_ONCE = 4
_PROBABILITY = "probability"


class WindowedModel(nn.Module):
    """A segmentation's network that takes pictures of any size from its own on, for `training.evaluation.evaluate`.

    Args:
        model: The network with its decision layer.
        name: The picture among the inputs.
        space: The network's size.
    """

    def __init__(self, model: TaskModel, *, name: str, space: Sequence[int]) -> None:
        super().__init__()
        self.model, self.name, self.space = model, name, tuple(space)
        self.train(model.training)  # what measures brings it back to the mode it was in, and the network with it

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return `[b, k, *space]`: raw outputs for pictures of the network's size, of larger ones the logarithms of the probabilities.

        A softmax over these gives the probabilities again, so that decoding and losses take them for outputs.
        """
        given = inputs[self.name]
        if tuple(given.shape[1:-1]) == self.space:
            out: Tensor = self.model(inputs)
            return out

        def run(values: np.ndarray) -> np.ndarray:
            decoded = self.model.predict({self.name: torch.from_numpy(values).to(given.device)})
            answered: np.ndarray = decoded[_PROBABILITY].float().cpu().numpy()
            return answered

        answers = [in_windows(run, one, self.space, fill=0.0, rows=ROWS_AT_ONCE) for one in given.cpu().numpy()]
        probability = torch.from_numpy(np.stack(answers)).to(given.device)
        return probability.clamp(min=torch.finfo(torch.float32).tiny).log()


class WindowedBackend(Backend):
    """A backend that takes pictures of any size from the network's own on.

    Args:
        backend: What runs the network.
        name: The picture among the inputs.
        space: The network's size.
    """

    files = ()
    library = "numpy"

    def __init__(self, backend: Backend, /, *, name: str, space: Sequence[int]) -> None:
        self._backend, self._name, self._space = backend, name, tuple(space)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return `probability` `[b, k, *space]`."""
        given = inputs[self._name]
        if tuple(given.shape[1:-1]) == self._space:
            return self._backend.run(inputs)

        def run(values: np.ndarray) -> np.ndarray:
            return self._backend.run({self._name: np.ascontiguousarray(values)})[_PROBABILITY]

        return {_PROBABILITY: np.stack([in_windows(run, one, self._space, fill=0.0, rows=ROWS_AT_ONCE) for one in given])}


def with_wholes(batches: Iterable[Batch], dataset: PreparedDataset, wholes: Wholes, *, rank: int = 0, ranks: int = 1) -> Iterator[Batch]:
    """Yield the rows of a split, those that are larger than the network's size whole and one at a time.

    Args:
        batches: This rank's rows, of the network's size.
        dataset: The rows that they are of.
        wholes: Which of them are larger.
        rank: Which rank this is; whole rows are dealt out anew.
        ranks: How many there are.
    """
    for batch in batches:
        assert batch.row is not None, "rows of a dataset know which they are"
        small = torch.from_numpy(~np.isin(batch.row.numpy(), wholes.rows))
        if small.all():
            yield batch
        elif small.any():
            yield _chosen(batch, small)
    for place in range(rank, len(wholes), ranks):
        row = dataset.take(wholes.rows[place : place + 1])
        yield whole_batch(wholes.take(place), name=wholes.name, weight=row.weight, row=row.row)


def whole_batch(whole: WholeRow, *, name: str, weight: Tensor | None = None, row: Tensor | None = None) -> Batch:
    """Return one whole row as a batch.

    Args:
        whole: Picture and mask.
        name: The input.
        weight: What the row weighs, `[1]`.
        row: Which row it is, `[1]`.
    """
    return Batch({name: torch.from_numpy(whole.values)[None]}, {TARGET: torch.from_numpy(whole.mask)[None]}, weight, row)


def _chosen(batch: Batch, which: Tensor) -> Batch:
    inputs, targets = ({name: tensor[which] for name, tensor in held.items()} for held in (batch.inputs, batch.targets))
    return Batch(inputs, targets, None if batch.weight is None else batch.weight[which], None if batch.row is None else batch.row[which])
