"""What every transform must keep, as tests: a plugin's author derives from the class, says how to build one, and runs pytest."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod

import numpy as np
import pyarrow as pa
import torch

from deepseek.data.padding import pad
from deepseek.data.transforms.base import Array, Ragged, Transform


class TransformContract(ABC):
    """The tests that a transform passes.

    Example:
        ```python
        class TestMyTransform(TransformContract):
            def build(self): return MyTransform((Field("age", Kind.NUMBER),))
            def training(self): return pa.record_batch({"age": [1.0, None, 3.0, 4.0]})
            def unseen(self): return pa.record_batch({"age": [1e6, None]})
        ```
    """

    exact_batches = True
    """Whether what is fitted is the same to the bit however the rows are cut into batches; otherwise to a relative 1e-6."""

    @abstractmethod
    def build(self) -> Transform:
        """Return a transform that has seen nothing."""

    @abstractmethod
    def training(self) -> pa.RecordBatch:
        """Return training rows, at least four, missing values among them where the transform takes such."""

    @abstractmethod
    def unseen(self) -> pa.RecordBatch:
        """Return rows with legal values that training does not hold."""

    def fitted(self) -> Transform:
        """Return a transform fitted on all training rows at once."""
        return _fit(self.build(), [self.training()])

    def test_arrays_are_as_described(self) -> None:
        """Each input is there, with a row for each row, of the type and shape that its description says."""
        transform, batch = self.fitted(), self.training()
        arrays = transform.apply(batch)
        assert list(arrays) == [spec.name for spec in transform.inputs]
        for spec in transform.inputs:
            array = arrays[spec.name]
            assert _rows(array) == batch.num_rows
            values = array if isinstance(array, np.ndarray) else array.values
            assert (str(values.dtype), values.shape[1:]) == (spec.dtype, spec.shape)
            assert isinstance(array, Ragged) == spec.ragged == transform.ragged

    def test_rows_of_unequal_length_are_never_empty(self) -> None:
        """Each row of a ragged input has an element, codes stay within their number, and nothing lies between the rows."""
        transform = self.fitted()
        for batch in (self.training(), self.unseen()):
            arrays = transform.apply(batch)
            for spec in transform.inputs:
                array = arrays[spec.name]
                if not isinstance(array, Ragged):
                    continue
                assert array.offsets.dtype == np.int64
                assert array.offsets[0] == 0
                assert array.offsets[-1] == len(array.values)
                assert (np.diff(array.offsets) > 0).all()
                assert not spec.cardinalities or (array.values.min() >= 0 and array.values.max() < spec.cardinalities[0])

    def test_json_holds_everything_fitted(self) -> None:
        """A transform read from JSON gives the same bits."""
        transform = self.fitted()
        again = self.build().load_json(json.loads(json.dumps(transform.to_json(), allow_nan=False)))
        assert again.inputs == transform.inputs
        assert json.dumps(again.to_json()) == json.dumps(transform.to_json())
        for batch in (self.training(), self.unseen()):
            _assert_equal(again.apply(batch), transform.apply(batch))

    def test_a_row_alone_is_as_in_its_batch(self) -> None:
        """Serving one row gives what a batch gives for it."""
        transform, batch = self.fitted(), self.unseen()
        whole = transform.apply(batch)
        for row in range(batch.num_rows):
            _assert_equal(transform.apply(batch.slice(row, 1)), {name: _slice(array, row) for name, array in whole.items()})

    def test_fitting_does_not_depend_on_batches(self) -> None:
        """However the training rows are cut, the same is learned."""
        batch = self.training()
        cut = _fit(self.build(), [batch.slice(0, 1), batch.slice(1, 2), batch.slice(3)])
        _assert_equal(cut.apply(batch), self.fitted().apply(batch), exact=self.exact_batches)

    def test_no_rows_are_legal(self) -> None:
        """A batch without rows gives arrays without rows."""
        arrays = self.fitted().apply(self.training().slice(0, 0))
        assert all(_rows(array) == 0 for array in arrays.values())

    def test_apply_learns_nothing(self) -> None:
        """What is fitted stays as it was, whatever is applied."""
        transform = self.fitted()
        before = json.dumps(transform.to_json())
        transform.apply(self.unseen())
        assert json.dumps(transform.to_json()) == before

    def test_the_module_gives_finite_numbers(self) -> None:
        """Inside the model nothing is missing any more, and the columns are those described."""
        transform = self.fitted()
        module = transform.module()
        if module is None:
            return
        (spec,) = transform.inputs
        for batch in (self.training(), self.unseen()):
            array = transform.apply(batch)[spec.name]
            out = module(*_tensors(array))
            if isinstance(array, Ragged):
                out, mask = out
                assert mask.shape == out.shape[:2]
                assert mask.any(dim=1).all()
            assert torch.isfinite(out).all()
            assert isinstance(array, Ragged) or len(spec.shape) > 1 or out.shape == (batch.num_rows, len(spec.columns))
            assert spec.quantiles is None or spec.quantiles.shape[0] == len(spec.columns)

    def test_the_module_reads_nothing_behind_a_row(self) -> None:
        """Of rows of unequal length it sees what is real, however far the batch is padded and whatever stands there."""
        transform = self.fitted()
        module = transform.module()
        array = transform.apply(self.training())[transform.inputs[0].name]
        if module is None or not isinstance(array, Ragged):
            return
        x, mask = _tensors(array)
        out, real = module(x, mask)
        more = torch.ones(len(x), 7, *x.shape[2:], dtype=x.dtype)
        padded, still = module(torch.cat([torch.where(mask.view(*mask.shape, *[1] * (x.ndim - 2)), x, 1), more], dim=1), _behind(mask, 7))
        torch.testing.assert_close(padded[:, : out.shape[1]], out)
        assert torch.equal(still[:, : out.shape[1]], real)
        assert not still[:, out.shape[1] :].any()

    def test_the_module_exports(self) -> None:
        """The arithmetic can be exported for any number of rows, and any length of ragged ones."""
        transform = self.fitted()
        module = transform.module()
        if module is None:
            return
        array = transform.apply(self.training())[transform.inputs[0].name]
        tensors = _tensors(array)
        dynamic = {0: torch.export.Dim("rows"), **({1: torch.export.Dim("length")} if isinstance(array, Ragged) else {})}
        program = torch.export.export(module, tensors, dynamic_shapes=(dynamic,) * len(tensors))
        fewer = tuple(tensor[:2] for tensor in tensors)
        torch.testing.assert_close(program.module()(*fewer), module(*fewer))


def _fit(transform: Transform, batches: list[pa.RecordBatch]) -> Transform:
    start = 0
    for batch in batches:
        transform.observe(batch)
        if transform.uses_target:
            transform.observe_target(np.arange(start, start + batch.num_rows, dtype=np.float64)[:, None] % 3)
        start += batch.num_rows
    transform.finish()
    return transform


def _tensors(array: Array) -> tuple[torch.Tensor, ...]:
    """Return an array as a module is given it: with its mask where rows are of unequal length."""
    if isinstance(array, np.ndarray):
        return (torch.from_numpy(array.copy()),)
    values, mask = pad(array, np.arange(len(array)))
    return torch.from_numpy(values), torch.from_numpy(mask)


def _behind(mask: torch.Tensor, more: int) -> torch.Tensor:
    return torch.cat([mask, torch.zeros(len(mask), more, dtype=torch.bool)], dim=1)


def _rows(array: Array) -> int:
    return len(array) if isinstance(array, np.ndarray) else len(array.offsets) - 1


def _slice(array: Array, row: int) -> Array:
    if isinstance(array, np.ndarray):
        return array[row : row + 1]
    start, stop = array.offsets[row : row + 2]
    return Ragged(array.values[start:stop], np.array([0, stop - start]))


def _assert_equal(left: dict[str, Array], right: dict[str, Array], *, exact: bool = True) -> None:
    assert list(left) == list(right)
    for name, array in left.items():
        for one, other in zip(_parts(array), _parts(right[name]), strict=True):
            if exact:
                np.testing.assert_array_equal(one, other)
            else:
                np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def _parts(array: Array) -> tuple[np.ndarray, ...]:
    return (array,) if isinstance(array, np.ndarray) else (array.values, array.offsets)
