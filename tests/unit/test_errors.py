"""Errors about rows say which row of what the user gave it is."""

import numpy as np
import pytest

from deepseek.errors import OF_BATCH, DataError, RowError, rows_counted


def test_a_row_is_one_of_the_batch_until_somebody_knows_more():
    error = RowError(3, " holds 'old'", before="the column 'age' is a number, but ", hint="correct it")
    assert isinstance(error, DataError)
    assert error.message == "the column 'age' is a number, but row 3 of the batch holds 'old'"
    assert error.hint == "correct it"


@pytest.mark.parametrize("rows", [100, np.arange(100, 120), list(range(100, 120))])
def test_rows_are_counted_from_what_came_before_or_by_their_numbers(rows):
    with pytest.raises(RowError) as told, rows_counted(rows):
        raise RowError(np.int64(3), ": it is missing", hint="remove it")
    assert told.value.message == "row 103 (counted from 0): it is missing"
    assert told.value.hint == "remove it"


def test_a_piece_of_a_piece_is_counted_through():
    with pytest.raises(RowError) as told, rows_counted([7, 11, 13]), rows_counted(1, of=OF_BATCH):
        raise RowError(1, ": it is missing")
    assert told.value.message == "row 13 (counted from 0): it is missing"


def test_other_errors_pass():
    with pytest.raises(DataError) as told, rows_counted(100):
        raise DataError("there is no row")
    assert told.value.message == "there is no row"
