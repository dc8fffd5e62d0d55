"""Public tests of augmentations: derive a test class from `AugmentationContract`, and pytest checks that yours keeps its contract.

```python
class TestMine(AugmentationContract):
    def build(self) -> Augmentation:
        return Mine(inputs)

    def batch(self, rows: int) -> Batch:
        return Batch({"photo": torch.randint(0, 256, (rows, 8, 8, 3), dtype=torch.uint8)})
```
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch.utils import _pytree as pytree

from deepseek.data.augment.base import Augmentation, Draw
from deepseek.data.batch import MASK, Batch

ROWS = 12


class AugmentationContract(ABC):
    """What every augmentation must do.

    Attributes:
        keeps_shape: Whether a row's inputs keep their shapes; texts may become longer.
    """

    keeps_shape = True

    @abstractmethod
    def build(self) -> Augmentation:
        """Return the augmentation, ready for the first step; it is to change most rows."""

    @abstractmethod
    def batch(self, rows: int) -> Batch:
        """Return so many rows, the same ones each time."""

    def test_something_changes(self) -> None:
        """The inputs are others than before."""
        batch = self.batch(ROWS)
        assert _differ(self._apply(batch), batch)

    def test_the_given_batch_stays_as_it_was(self) -> None:
        """Nothing is written into the tensors that were given."""
        batch, untouched = self.batch(ROWS), self.batch(ROWS)
        self._apply(batch)
        assert not _differ(batch, untouched)

    def test_the_same_draw_gives_the_same_batch(self) -> None:
        """What happens follows from the draw, and another draw is another batch."""
        batch = self.batch(ROWS)
        assert not _differ(self._apply(batch), self._apply(batch))
        assert any(_differ(self._apply(batch), self._apply(batch, seed=seed)) for seed in range(1, 9))

    def test_ranks_together_do_what_one_does(self) -> None:
        """Rows are changed alike whichever share of the global batch they come in."""
        batch, augmentation = self.batch(ROWS), self.build()
        whole, starts = self._apply(batch, augmentation=augmentation), (0, 4, 10)
        for start, part in zip(starts, batch.cut([4, 6, 2]), strict=True):
            own = self._apply(part, augmentation=augmentation, start=start)
            wanted = whole.cut([start, len(part), ROWS - start - len(part)])[1]
            assert not _differ(own.trimmed(), wanted.trimmed())

    def test_rows_keep_their_number_and_type(self) -> None:
        """As many rows come out, of the same types and, but for texts, of the same shapes; no row too."""
        batch = self.batch(ROWS)
        made = self._apply(batch)
        assert len(made) == ROWS
        for name, tensor in batch.inputs.items():
            assert made.inputs[name].dtype == tensor.dtype
            assert made.inputs[name].shape == tensor.shape or (not self.keeps_shape and made.inputs[name].shape[0] == ROWS)
        assert len(self._apply(batch.cut([0, ROWS])[0], start=ROWS)) == 0

    def _apply(self, batch: Batch, *, augmentation: Augmentation | None = None, seed: int = 0, start: int = 0) -> Batch:
        draw = Draw(torch.Generator().manual_seed(seed), start, ROWS)
        return (augmentation or self.build()).apply(batch, draw)


def _differ(one: Batch, other: Batch) -> bool:
    left, right = ([leaf for leaf in pytree.tree_leaves(batch) if leaf is not None] for batch in (one, other))
    assert {name.endswith(MASK) for name in one.inputs} == {name.endswith(MASK) for name in other.inputs}
    return any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(left, right, strict=True))
