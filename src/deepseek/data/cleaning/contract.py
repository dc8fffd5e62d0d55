"""What every cleaner must do, as tests that a plugin's author runs on it.

Derive a class whose name begins with `Test` and say how the cleaner is made and on which rows:

    class TestRounder(CleanerContract):
        def make(self): return Rounder(digits=2)
        def schema(self): return Schema((Field("price", Kind.NUMBER),))
        def train(self): return pa.record_batch({"price": [1.234, None, 5.678]})
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepseek.data.cleaning.base import Cleaner
from deepseek.data.columns import is_number
from deepseek.fields import Schema


class CleanerContract(ABC):
    """The suite: pytest collects the methods of derived classes."""

    @abstractmethod
    def make(self) -> Cleaner:
        """Return a fresh cleaner, the same each time."""

    @abstractmethod
    def schema(self) -> Schema:
        """Return the description of the columns."""

    @abstractmethod
    def train(self) -> pa.RecordBatch:
        """Return training rows, at least one of which the cleaner changes or drops."""

    def test_it_does_something(self) -> None:
        """A cleaner that changes and drops nothing is switched off."""
        cleaner, batch = self._fitted(), self.train()
        dropped = cleaner.drop(batch)
        assert (dropped is not None and dropped.any()) or not _same(cleaner.apply(batch), batch)

    def test_rows_are_kept_in_order(self) -> None:
        """`apply` keeps every row in its place, and every column; it adds exactly what it announces."""
        cleaner, batch = self._fitted(), self.train()
        place = pa.array(np.arange(batch.num_rows))
        cleaned = cleaner.apply(batch.append_column("__place__", place))
        assert cleaned.column("__place__").equals(place)
        assert set(cleaned.schema.names) == {*batch.schema.names, "__place__", *(field.name for field in cleaner.added)}

    def test_the_given_batch_is_left_as_it_was(self) -> None:
        """Arrow data is shared; nobody writes into it."""
        batch = self.train()
        self._fitted().apply(batch)
        assert _same(batch, self.train())

    def test_only_what_was_observed_is_fitted(self) -> None:
        """Other splits pass through `apply`, shifted by 1000, and no statistic moves."""
        cleaner = self._fitted()
        before = json.dumps(cleaner.to_json())
        cleaner.apply(_shifted(self.train(), 1000))
        cleaner.start()
        cleaner.apply(_shifted(self.train(), 1000))
        assert json.dumps(cleaner.to_json()) == before

    def test_the_state_survives_json_exactly(self) -> None:
        """A cleaner read from JSON repairs rows bit for bit as the fitted one does, and says the same of itself."""
        fitted = self._fitted()
        state = json.loads(json.dumps(fitted.to_json(), allow_nan=False))
        loaded = self.make().load_json(state)
        assert loaded.to_json() == fitted.to_json()
        assert loaded.added == fitted.added
        for batch in (self.train(), _shifted(self.train(), 1000)):
            assert _same(loaded.apply(batch), fitted.apply(batch))

    def test_fitting_does_not_depend_on_the_cut_into_batches(self) -> None:
        """One row at a time gives the same statistics, but for the last bits of sums."""
        batch = self.train()
        _assert_near(self._fitted([batch.slice(row, 1) for row in range(batch.num_rows)]).to_json(), self._fitted().to_json())

    def test_a_pass_does_not_depend_on_the_cut_into_batches(self) -> None:
        """After `start`, one row at a time gives the same rows and drops the same ones."""
        whole, rowwise, batch = self._fitted(), self._fitted(), self.train()
        whole.start()
        rowwise.start()
        rows = [batch.slice(row, 1) for row in range(batch.num_rows)]
        dropped, parts = whole.drop(batch), [rowwise.drop(row) for row in rows]
        if dropped is not None:
            assert dropped.tolist() == [bool(part[0]) for part in parts if part is not None]
        assert _same(pa.concat_batches([rowwise.apply(row) for row in rows]), whole.apply(batch))

    def test_without_a_pass_nothing_is_carried_from_batch_to_batch(self) -> None:
        """In production one request must not show in the answer to the next."""
        batch = self.train()
        loaded = self.make().load_json(self._fitted().to_json())
        last = batch.slice(batch.num_rows - 1, 1)
        alone = loaded.apply(last)
        loaded.apply(batch)
        assert _same(loaded.apply(last), alone)

    def test_an_empty_batch_passes(self) -> None:
        """No rows, no error."""
        assert self._fitted().apply(self.train().slice(0, 0)).num_rows == 0

    def _fitted(self, batches: list[pa.RecordBatch] | None = None) -> Cleaner:
        cleaner = self.make()
        cleaner.begin(self.schema())
        for batch in batches or [self.train()]:
            cleaner.observe(batch)
        cleaner.finish()
        return cleaner


def _same(one: pa.RecordBatch, other: pa.RecordBatch) -> bool:
    # Arrow's own comparison holds NaN for different from NaN; the shortest text of a float is exact
    return bool(one.schema.equals(other.schema)) and repr(one.to_pydict()) == repr(other.to_pydict())


def _shifted(batch: pa.RecordBatch, by: int) -> pa.RecordBatch:
    columns = [pc.add(column, pa.scalar(by, column.type)) if is_number(column.type) else column for column in batch.columns]
    return pa.record_batch(columns, schema=batch.schema)


def _assert_near(given: object, wanted: object) -> None:
    if isinstance(given, dict) and isinstance(wanted, dict):
        assert given.keys() == wanted.keys()
        for key, value in given.items():
            _assert_near(value, wanted[key])
    elif isinstance(given, list) and isinstance(wanted, list):
        assert len(given) == len(wanted)
        for one, other in zip(given, wanted, strict=True):
            _assert_near(one, other)
    elif isinstance(given, float) and isinstance(wanted, float):
        assert np.isclose(given, wanted, rtol=1e-12, atol=1e-12, equal_nan=True)
    else:
        assert given == wanted
