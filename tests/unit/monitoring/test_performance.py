import math

import numpy as np
import pytest

from deepseek.monitoring import MonitorSettings
from deepseek.monitoring.outcomes import Outcomes, Target
from deepseek.monitoring.performance import Performance
from deepseek.monitoring.reference import ModelReference
from deepseek.statistics.sequential import Reference

CLASSES = Target("binary", ("churned",), ("no", "yes"))
VALUES = Target("values", ("price",))


def performance(target, *, name, reached, **settings):
    known = ModelReference({"inputs": 0, "answers": 2000}, target, {}, {}, {}, {name: reached}, None, {})
    return Performance(known, MonitorSettings(metric=name, **settings))


def right(draw, rows, accuracy):
    return Outcomes({"accuracy": (draw.random(rows) < accuracy).astype(np.float64)})


@pytest.mark.parametrize("settings", [{"drop": 0.05}, {"window_rows": 5000}])
def test_an_alarm_does_not_end_by_the_good_labels_from_before_it(settings):
    draw, watched = np.random.default_rng(0), performance(CLASSES, name="accuracy", reached=Reference.of_share(0.9, 2000), **settings)
    for _ in range(600):
        watched.update(right(draw, 10, 0.9))
    place = next(place for place in range(100) if watched.update(right(draw, 10, 0.5)))
    assert place < 10  # forty points are seen by few labels, which hardly show in the window
    assert watched.window["accuracy"] > 0.9 - watched.drop / 2
    for _ in range(50):
        assert not watched.recovered
        watched.update(right(draw, 10, 0.5))
    watched.update(right(draw, watched._settings.window_rows, 0.9))
    assert watched.recovered
    watched.restart()
    assert not watched.recovered


def test_an_alarm_that_an_older_version_raised_waits_for_a_window_from_now_on():
    watched = performance(CLASSES, name="accuracy", reached=Reference.of_share(0.9, 2000), window_rows=500)
    watched.update(right(np.random.default_rng(0), 500, 0.95))
    state = {name: value for name, value in watched.to_json().items() if name not in {"alarm_at", "unmeasured"}}
    watched.load_json(state)
    assert not watched.recovered
    watched.update(right(np.random.default_rng(1), 500, 0.95))
    assert watched.recovered


@pytest.mark.parametrize("metric", ["accuracy", "auc"])
def test_what_is_kept_of_labels_does_not_grow_with_them(metric):
    reached = Reference.of_share(0.9, 2000) if metric == "accuracy" else Reference(0.9, 0.5, 2000)
    watched = performance(CLASSES, name=metric, reached=reached, window_rows=500)
    draw, kept = np.random.default_rng(0), []
    for _ in range(20):
        found = right(draw, 1010, 0.9)
        found.score, found.truth = draw.random(1010), draw.random(1010) < 0.5
        watched.update(found)
        kept.append(len(watched.to_json()["score"]))
    assert max(kept) == 500


def test_an_answer_that_is_no_number_does_not_end_the_test():
    watched = performance(VALUES, name="mae", reached=Reference(1.0, 0.5, 2000), drop=0.1)
    watched.update(Outcomes({"mae": np.array([math.nan, 1.0, math.inf, 1.0])}))
    facts = watched.facts()
    assert (facts["labels"], facts["labels_without_a_value"], facts["window"]) == (4, 2, {"mae": 1.0})
    assert watched.update(Outcomes({"mae": np.full(2000, 2.0)}))
    assert watched.to_json()["unmeasured"] == 2


def test_a_probability_that_is_no_number_costs_its_own_metrics_alone():
    watched = performance(CLASSES, name="auc", reached=Reference(0.9, 0.5, 2000))
    rows = {"accuracy": np.array([0.0, 1.0]), "log_loss": np.array([math.nan, 0.1])}
    watched.update(Outcomes(rows, np.array([math.nan, 0.9]), np.array([False, True])))
    assert watched.window == {"accuracy": 0.5, "log_loss": 0.1}
    assert watched.facts()["labels_without_a_value"] == 1
