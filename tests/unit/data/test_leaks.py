import numpy as np
import pyarrow as pa
import pytest

from deepseek.data.landing import LandedTable, LandingCounts
from deepseek.data.leaks import check_leaks


@pytest.fixture
def table(tmp_path):
    rows = pa.table({"a": [1, 1, 2, 2, 3, 4], "b": ["x", "x", "y", "y", None, None], "y": [0, 1, 0, 0, 1, 1]})
    with pa.ipc.new_file(str(tmp_path / "data.arrow"), rows.schema) as writer:
        writer.write_table(rows, max_chunksize=2)
    return LandedTable(tmp_path / "data.arrow", LandingCounts(6, 6, 0))


def test_rows_with_the_same_inputs_are_counted_between_parts(table):
    leaks = check_leaks(table, np.array([0, 2, 1, 2, 0, 2], dtype=np.int8), columns=["a", "b"])
    assert (leaks.validation_in_train, leaks.test_in_train, leaks.test_in_validation) == (0, 1, 1)
    (warning,) = leaks.warnings
    assert warning.startswith(
        "1 of 3 test rows (33.3%) have exactly the inputs of a training row, 1 of 3 test rows (33.3%) those of a validation"
    )
    assert leaks.to_json()["test_in_train"] == 1


def test_the_target_and_rows_left_out_do_not_count(table):
    assert not check_leaks(table, np.array([0, 0, 1, 1, 2, 2], dtype=np.int8), columns=["a", "b"]).warnings
    assert not check_leaks(table, np.array([0, -1, 1, -1, 2, 2], dtype=np.int8), columns=["a", "b"]).warnings
    assert not check_leaks(table, np.array([0, 2, 1, 2, 0, 2], dtype=np.int8), columns=["a", "b", "y"]).test_in_train
    assert not check_leaks(table, np.array([0, 2, 1, 2, 0, 2], dtype=np.int8), columns=[]).warnings


def test_test_rows_of_their_own_are_compared_with_all_training_rows(table):
    split = np.array([0, 0, 1, 1, 0, 2], dtype=np.int8)
    leaks = check_leaks(table, split, columns=["a", "b"], test=table)
    assert (leaks.test_in_train, leaks.test_in_validation, leaks.test) == (3, 2, 6)
