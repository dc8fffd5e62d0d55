import json

import numpy as np
import pytest

from deepseek.errors import InputError
from deepseek.statistics.label_free import ConfidenceCurve
from deepseek.statistics.sketches import NumberSketch


def rows(count, hard, seed, gap=0.0):
    """Confidences, and whether the answer was right: a model that is too sure of itself by `gap`; `hard` is the share of unsure rows."""
    draw = np.random.default_rng(seed)
    confidence = np.where(draw.random(count) < hard, draw.uniform(0.5, 0.8, count), draw.uniform(0.8, 1.0, count))
    return confidence, draw.random(count) < confidence - gap


def estimated(curve, confidence):
    sketch = curve.sketch()
    sketch.update(confidence)
    return curve.estimate(sketch)


@pytest.mark.parametrize("gap", [0.0, 0.1])
@pytest.mark.parametrize("hard", [0.1, 0.5, 0.9])
def test_a_changed_mix_of_rows_is_estimated_within_two_points(hard, gap):
    curve = ConfidenceCurve.fit(*rows(8_000, 0.3, 0, gap))
    confidence, right = rows(20_000, hard, 1, gap)
    found = estimated(curve, confidence)
    assert found.calibrated == pytest.approx(right.mean(), abs=0.02)
    assert found.rows == 20_000
    if gap:  # believing the probabilities themselves would be ten points off
        assert abs(confidence.mean() - right.mean()) > 0.08


def test_the_threshold_gives_the_validation_rows_their_own_accuracy():
    confidence, right = rows(5_000, 0.3, 0)
    curve = ConfidenceCurve.fit(confidence, right)
    assert estimated(curve, confidence).thresholded == pytest.approx(right.mean(), abs=1e-3)
    harder = rows(5_000, 0.9, 1)
    assert estimated(curve, harder[0]).thresholded < right.mean() - 0.1


def test_a_model_that_is_wrong_and_sure_is_not_found_out():
    curve = ConfidenceCurve.fit(*rows(5_000, 0.3, 0))
    confidence, _ = rows(5_000, 0.3, 1)
    turned = np.random.default_rng(2).random(5_000) < 0.5  # the truth has changed, the inputs have not
    assert estimated(curve, confidence).calibrated > turned.mean() + 0.2


def test_json_keeps_the_curve():
    curve = ConfidenceCurve.fit(*rows(500, 0.3, 0))
    again = ConfidenceCurve.from_json(json.loads(json.dumps(curve.to_json(), allow_nan=False)))
    confidence, _ = rows(300, 0.5, 1)
    assert estimated(again, confidence) == estimated(curve, confidence)


@pytest.mark.parametrize("right", [True, False])
def test_all_right_or_all_wrong_has_no_limit(right):
    curve = ConfidenceCurve.fit(np.linspace(0.5, 1, 50), np.full(50, right))
    found = estimated(curve, np.array([0.9]))
    assert np.isnan(found.thresholded)
    assert found.calibrated == float(right)
    assert ConfidenceCurve.from_json(json.loads(json.dumps(curve.to_json(), allow_nan=False))).to_json() == curve.to_json()


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="no row"):
        ConfidenceCurve.fit(np.empty(0), np.empty(0, bool))
    with pytest.raises(InputError, match="other bins"):
        ConfidenceCurve.fit(*rows(50, 0.3, 0)).estimate(NumberSketch([0.5]))
    assert np.isnan(estimated(ConfidenceCurve.fit(*rows(50, 0.3, 0)), np.empty(0)).calibrated)
