import numpy as np
import pyarrow as pa
import pytest

from deepseek.data.columns import require_columns, with_columns
from deepseek.errors import ColumnError


def test_columns_are_exchanged_where_they_stand_with_what_is_said_of_them():
    schema = pa.schema([pa.field("a", pa.int64(), metadata={b"k": b"v"}), ("b", pa.string()), ("c", pa.int64())], metadata={b"t": b"w"})
    batch = pa.record_batch([pa.array([1, 2]), pa.array(["x", "y"]), pa.array([3, 4])], schema=schema)
    made = with_columns(batch, {"c": pa.array([5, None]), "a": pa.array([1.5, 2.5])})
    assert made.to_pydict() == {"a": [1.5, 2.5], "b": ["x", "y"], "c": [5, None]}
    assert made.schema.field("a").metadata == {b"k": b"v"}
    assert made.schema.metadata == {b"t": b"w"}
    assert with_columns(batch, {}) is batch


def test_a_column_that_is_not_there_is_named():
    names = [f"c{number}" for number in range(3)]
    require_columns(iter(names), iter(names), what="the check")
    with pytest.raises(ColumnError, match="the check reads the column 'c9', which is not in the table; its columns: c0, c1, c2"):
        require_columns(np.array(["c0", "c9"]).tolist(), names, what="the check")
