"""Public tests of kinds of target: derive a test class from `TargetContract`, and pytest checks that yours keeps its contract.

```python
class TestMyTarget(TargetContract):
    def build(self): return MyTarget([Field("y", Kind.CATEGORY)])
    def training(self): return pa.record_batch({"y": ["a", "b", "b", None]})
```
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pyarrow as pa

from deepseek.data.targets import TargetKind
from deepseek.data.targets.base import TargetTransform
from deepseek.data.transforms.base import Array, Ragged, Transform


class TargetContract(ABC):
    """What every kind of target must do."""

    @abstractmethod
    def build(self) -> TargetTransform:
        """Return a target that has seen nothing."""

    @abstractmethod
    def training(self) -> pa.RecordBatch:
        """Return training rows, at least four of which have a target."""

    def transforms(self) -> Sequence[Transform]:
        """Return the fitted transforms of the inputs, where the target has to do with them."""
        return ()

    def fitted(self, *batches: pa.RecordBatch) -> TargetTransform:
        """Return a target fitted on the training rows that have one."""
        target = self.build()
        for batch in batches or (self.training(),):
            target.observe(_with_target(target, batch))
        target.finish()
        target.follow(self.transforms())
        return target

    def test_its_kind_is_known(self) -> None:
        """A task can name it."""
        assert self.fitted().spec.kind == self.build().kind
        assert self.build().kind in get_args(TargetKind)

    def test_arrays_have_a_row_each(self) -> None:
        """Every array that is named is there, with a row for each row; also for no rows."""
        target = self.fitted()
        batch = _with_target(target, self.training())
        for rows in (batch, batch.slice(0, 0)):
            arrays = target.apply(rows)
            assert set(arrays) == set(target.names)
            assert all(len(array) == rows.num_rows for array in arrays.values())
            dense = [array for array in arrays.values() if not isinstance(array, Ragged)]
            assert target.spec.shape == () or all(array.shape[1:] == target.spec.shape for array in dense)

    def test_a_row_alone_is_as_in_its_batch(self) -> None:
        """What stands beside a row changes nothing."""
        target = self.fitted()
        batch = _with_target(target, self.training())
        whole = target.apply(batch)
        for row in range(batch.num_rows):
            for name, array in target.apply(batch.slice(row, 1)).items():
                np.testing.assert_array_equal(_row(array, 0), _row(whole[name], row))

    def test_fitting_does_not_depend_on_batches(self) -> None:
        """However the training rows are cut, the same is learned."""
        batch = self.training()
        cut = self.fitted(batch.slice(0, 1), batch.slice(1, 2), batch.slice(3)).spec
        whole = self.fitted().spec
        assert (cut.classes, cut.counts, cut.rows, cut.shape) == (whole.classes, whole.counts, whole.rows, whole.shape)
        np.testing.assert_allclose((*cut.mean, *cut.std), (*whole.mean, *whole.std), rtol=1e-12)

    def test_json_holds_everything_fitted(self) -> None:
        """A target read from JSON gives the same bits."""
        target = self.fitted()
        again = self.build().load_json(json.loads(json.dumps(target.to_json(), allow_nan=False)))
        again.follow(self.transforms())
        batch = _with_target(target, self.training())
        assert again.spec == target.spec
        for name, array in target.apply(batch).items():
            for row in range(batch.num_rows):
                np.testing.assert_array_equal(_row(again.apply(batch)[name], row), _row(array, row))

    def test_training_rows_are_neither_unseen_nor_bad(self) -> None:
        """What was learned from is known."""
        target = self.fitted()
        batch = _with_target(target, self.training())
        assert not target.unseen(batch).any()
        assert not target.bad(batch).any()


def _with_target(target: TargetTransform, batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.filter(pa.array(~target.missing(batch)))


def _row(array: Array, row: int) -> np.ndarray:
    if isinstance(array, Ragged):
        return array.values[array.offsets[row] : array.offsets[row + 1]]
    found: np.ndarray = array[row]
    return found
