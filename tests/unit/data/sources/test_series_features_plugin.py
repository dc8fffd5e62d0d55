"""The plugin of `benchmarks/claims/plugin_operators.py`: a source like any other, whose features are those of the plain definition."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepseek.data.sources import open_source
from deepseek.data.sources.contract import SourceContract
from deepseek.registry import load_plugin

CLAIMS = Path(__file__).parents[4] / "benchmarks" / "claims"
ROWS = 12


def table():
    at = [datetime(2026, 2, 27, 20) + timedelta(hours=hour) for hour in range(ROWS)]  # Friday into Saturday
    values = np.random.default_rng(0).integers(0, 50, ROWS).astype(float)
    return pa.table({"row": list(range(ROWS)), "at": pa.array(at, pa.timestamp("us")), "n": values, "word": ["a", "b", "c"] * 4})


class TestSeriesFeatures(SourceContract):
    @pytest.fixture
    def source(self, tmp_path, plugins_forgotten):
        load_plugin("series_features.py", CLAIMS)
        pq.write_table(table(), tmp_path / "rows.parquet")
        spec = {"type": "series_features", "source": "rows.parquet", "time": "at", "columns": ["n"], "lags": [1, 3], "windows": [4]}
        spec["statistics"] = ["mean", "min", "max"]  # exact in any order of summing
        return open_source(spec, folder=tmp_path)

    @pytest.fixture
    def expected(self):
        rows = table()
        values, at = rows["n"].to_pylist(), rows["at"].to_pylist()
        past = [np.array(values[max(place - 4, 0) : place]) for place in range(ROWS)]

        def over(statistic):
            return [float(statistic(one)) if len(one) else None for one in past]

        features = {
            "n_lag_1": [None, *values[:-1]],
            "n_lag_3": [None, None, None, *values[:-3]],
            "n_mean_4": over(np.mean),
            "n_min_4": over(np.min),
            "n_max_4": over(np.max),
            "hour": [float(one.hour) for one in at],
            "weekday": [float(one.weekday()) for one in at],
            "month": [float(one.month) for one in at],
            "is_weekend": [float(one.weekday() > 4) for one in at],
        }
        return pa.table({**{name: rows[name] for name in rows.column_names}, **features})


def test_deviations_are_those_of_the_sample(tmp_path, plugins_forgotten):
    load_plugin("series_features.py", CLAIMS)
    pq.write_table(table(), tmp_path / "rows.parquet")
    spec = {"type": "series_features", "source": "rows.parquet", "time": "at", "columns": ["n"], "windows": [4], "statistics": ["std"]}
    read = pa.Table.from_batches(list(open_source(spec, folder=tmp_path).read()))
    values = table()["n"].to_numpy()
    expected = [np.std(values[max(place - 4, 0) : place], ddof=1) for place in range(2, ROWS)]
    assert read["n_std_4"].to_pylist() == [None, None, *(pytest.approx(value, rel=1e-9) for value in expected)]
