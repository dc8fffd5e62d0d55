"""What every check must do, as tests that a plugin's author runs on it.

Derive a class whose name begins with `Test` and say how the check is made, on which rows, and which of them are bad:

    class TestEvenCheck(CheckContract):
        def make(self, **settings): return EvenCheck(column="n", **settings)
        def batch(self): return pa.record_batch({"n": [2, 3, None]})
        def expected(self): return [False, True, False]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.data.checks.base import Check
from deepseek.errors import ColumnError, InputError


class CheckContract(ABC):
    """The suite: pytest collects the methods of derived classes."""

    @abstractmethod
    def make(self, **settings: Any) -> Check:
        """Return a fresh check, made with these settings (`on_fail`) besides its own."""

    @abstractmethod
    def batch(self) -> pa.RecordBatch:
        """Return rows, good and bad ones among them, every bad one for the check's reason."""

    @abstractmethod
    def expected(self) -> list[bool]:
        """Return for each row of `batch` whether it is bad."""

    def test_the_bad_rows_are_found(self) -> None:
        """The mask is boolean, one value a row, and right; a batch with no bad row or only bad ones would prove nothing."""
        mask = self._asked([self.batch()])
        assert mask.dtype == bool
        assert mask.tolist() == self.expected()
        assert 0 < mask.sum() < len(mask)

    def test_the_answer_does_not_depend_on_the_cut_into_batches(self) -> None:
        """One row at a time gives the same answer."""
        batch = self.batch()
        assert self._asked([batch.slice(row, 1) for row in range(batch.num_rows)]).tolist() == self.expected()

    def test_asking_twice_gives_the_same_answer(self) -> None:
        """A check that has looked at the table once answers a second pass alike."""
        check, batch = self._observed([self.batch()]), self.batch()
        assert check.bad(batch).tolist() == check.bad(batch).tolist()

    def test_an_empty_batch_has_no_bad_row(self) -> None:
        """No rows, no answer, no error."""
        assert self.make().bad(self.batch().slice(0, 0)).shape == (0,)

    def test_the_columns_it_reads_are_named(self) -> None:
        """Without any one of them there is an error that names it; with them alone the answer stays."""
        columns = list(self.make().columns)
        batch = self.batch()
        assert columns
        assert self._asked([batch.select(columns)]).tolist() == self.expected()
        for name in columns:
            try:
                self.make().bad(batch.drop_columns([name]))
            except ColumnError as error:
                assert name in str(error)  # noqa: PT017  the suite runs without pytest installed
            else:
                raise AssertionError(f"the missing column {name!r} went unnoticed")

    def test_the_reason_names_a_column(self) -> None:
        """The words go to the rejects file and into the answer of the server."""
        check = self.make()
        assert any(name in check.reason for name in check.columns)

    def test_what_becomes_of_bad_rows_can_be_said(self) -> None:
        """`on_fail` is taken, and a wrong one refused."""
        assert self.make(on_fail="flag").on_fail == "flag"
        try:
            self.make(on_fail="ignore")
        except InputError:
            return
        raise AssertionError("on_fail='ignore' was accepted")

    def _observed(self, batches: list[pa.RecordBatch]) -> Check:
        check = self.make()
        if check.table_wide:
            for batch in batches:
                check.observe(batch)
            check.finish()
        return check

    def _asked(self, batches: list[pa.RecordBatch]) -> np.ndarray:
        check = self._observed(batches)
        return np.concatenate([check.bad(batch) for batch in batches])
