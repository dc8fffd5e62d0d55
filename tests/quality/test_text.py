"""Zero-config training on real texts, beside logistic regression on TF-IDF of the same rows."""

import os

import pytest
from benchmarks import text

pytestmark = [
    pytest.mark.quality,
    pytest.mark.slow,
    pytest.mark.skipif(
        "DEEPSEEK_DATA" not in os.environ, reason="set DEEPSEEK_DATA to the folder of datasets (docs/benchmarks.md says which)"
    ),
]


def test_film_sentences_without_a_word_of_configuration():
    result = text.measure("sst2", seeds=1)
    assert result["versus_plain"]["difference"] > 0.005
    assert result["seconds_max"] < 120


def test_spam_without_a_word_of_configuration():
    result = text.measure("sms", seeds=1)
    assert result["accuracy_ours"] > 0.98
    assert result["seconds_max"] < 60
