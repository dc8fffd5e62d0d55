"""Zero-config training on real tables, beside gradient boosting on the same rows."""

import os

import pytest
from benchmarks import tabular

pytestmark = [
    pytest.mark.quality,
    pytest.mark.slow,
    pytest.mark.skipif(
        "DEEPSEEK_DATA" not in os.environ, reason="set DEEPSEEK_DATA to the folder of datasets (docs/benchmarks.md says which)"
    ),
]


def test_adult_without_a_word_of_configuration():
    result = tabular.measure("adult", seeds=1)
    assert result["auc_ours"] > 0.922
    assert result["seconds_max"] < 180


def test_german_credit_without_a_word_of_configuration():
    result = tabular.measure("german", seeds=1)
    assert result["difference"] > -0.01
