"""Rows that cannot be read leave no trace in the arrays of the others."""

import numpy as np

from deepseek.data.materialize import _keep, _scatter
from deepseek.data.transforms import Ragged


def test_scattered_rows_of_unequal_length_lie_where_they_belong():
    rows = Ragged(np.array([1, 2, 3], np.int32), np.array([0, 1, 3]))
    spread = _scatter(rows, np.array([False, True, False, True]))
    assert spread.offsets.tolist() == [0, 0, 1, 1, 3]
    kept = _keep(spread, np.array([True, False, True, True]))
    assert (kept.values.tolist(), kept.offsets.tolist()) == ([2, 3], [0, 0, 0, 2])
