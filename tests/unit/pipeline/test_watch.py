import math

import numpy as np

from deepseek.monitoring.outcomes import Outcomes
from deepseek.pipeline.watch import _over, _weight_of


def test_a_metric_of_a_file_is_that_of_the_rows_which_have_one():
    parts = [Outcomes({"mae": np.array([1.0, math.nan])}), Outcomes({"mae": np.array([math.inf, 3.0])})]
    assert (_over(parts, "mae"), _weight_of(parts, "mae")) == (2.0, 2.0)
    assert _over([Outcomes({"mae": np.array([math.nan])})], "mae") is None


def test_an_area_stands_for_the_rows_that_it_is_known_from():
    score, truth = np.arange(100.0), np.arange(100) >= 95
    score[0] = math.nan
    parts = [Outcomes({"accuracy": np.ones(100)}, score, truth)]
    assert _over(parts, "auc") == 1.0
    assert _weight_of(parts, "auc") == 4 * 5 * 94 / 99
