"""The sample that a survey keeps is uniform, bounded, and the same whatever the batches."""

import numpy as np
import pyarrow as pa

from deepseek.profiling.survey import RowSample


def test_the_result_does_not_depend_on_the_batches_and_the_sample_is_bounded():
    values = np.arange(5000)
    samples = []
    for size in (5000, 37):
        sample = RowSample(pa.schema([("x", pa.int64())]), capacity=100)
        for start in range(0, 5000, size):
            sample.add(pa.record_batch({"x": values[start : start + size]}), start)
        samples.append(sample.table()["x"].to_pylist())
    assert samples[0] == samples[1]
    assert len(samples[0]) == 100
    assert samples[0] == sorted(samples[0])
    assert 2200 < np.mean(samples[0]) < 2800
