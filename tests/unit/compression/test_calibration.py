import numpy as np
import pyarrow as pa
import pytest

from deepseek.compression.calibration import BATCH_ROWS, Calibration
from deepseek.errors import InputError


def batches(sizes):
    return iter([pa.record_batch({"x": pa.array(np.arange(size, dtype=np.float32))}) for size in sizes])


def arrays(batch):
    return {"x": batch.column(0).to_numpy()}


@pytest.mark.parametrize(("sizes", "most", "rows"), [([100], 70, 70), ([10, 0, 10], 512, 20), ([40, 40], 40, 40), ([40, 40], 41, 41)])
def test_so_many_rows_are_taken_in_small_batches(sizes, most, rows):
    made = Calibration.of(batches(sizes), arrays, most=most)
    assert made.rows == rows
    assert max(len(batch["x"]) for batch in made.batches) <= BATCH_ROWS
    assert made.first(33).rows <= 64


def test_without_rows_nothing_can_be_measured():
    with pytest.raises(InputError, match="no training row"):
        Calibration.of(batches([0]), arrays, most=10)
