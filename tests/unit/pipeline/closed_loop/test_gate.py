import numpy as np
import pyarrow as pa
import pytest

from deepseek.monitoring.outcomes import Target
from deepseek.pipeline.closed_loop.gate import Answered, goodness, judge

BINARY = Target("binary", ("y",), ("no", "yes"))
VALUES = Target("values", ("y",))
NAMES = np.array(["no", "yes"])


def answers(yes):
    yes = np.asarray(yes, dtype=float)
    return Answered(BINARY, pa.table({"prediction": NAMES[(yes > 0.5) * 1], "probability_no": 1 - yes, "probability_yes": yes}))


def world(rows, right, seed):
    """Truth, and for each share of right answers a model that has so many right, each by itself."""
    draw = np.random.default_rng(seed)
    truth = draw.random(rows) < 0.5
    sides = []
    for share in right:
        sure = draw.uniform(0.55, 0.95, rows)
        good = draw.random(rows) < share
        sides.append(answers(np.where(truth == good, sure, 1 - sure)))
    return NAMES[truth * 1].tolist(), *sides


def gate(champion, candidate, labels, metric="accuracy", min_gain=0.0, alpha=0.05):
    return judge(champion, candidate, labels, metric=metric, min_gain=min_gain, alpha=alpha)


@pytest.mark.parametrize("metric", ["accuracy", "auc", "log_loss"])
def test_a_better_model_passes_and_a_worse_one_does_not(metric):
    labels, old, new = world(600, (0.7, 0.85), seed=0)
    found = gate(old, new, labels, metric)
    assert found.passed
    assert found.gain > found.low > 0
    assert found.rows == 600
    back = gate(new, old, labels, metric)
    assert not back.passed
    assert back.gain < 0
    assert back.why.endswith("no better")


@pytest.mark.parametrize("metric", ["accuracy", "auc", "log_loss"])
def test_of_models_that_are_no_better_few_pass(metric):
    worlds = [world(150, (0.8, 0.8), seed=seed) for seed in range(100)]
    assert np.mean([gate(old, new, labels, metric).passed for labels, old, new in worlds]) <= 0.1  # alpha is 0.05


def test_the_same_model_does_not_pass():
    labels, old, _ = world(500, (0.8, 0.8), seed=1)
    found = gate(old, old, labels)
    assert not found.passed
    assert found.gain == 0


def test_a_gain_that_is_too_small_does_not_pass():
    labels, old, new = world(4000, (0.80, 0.83), seed=2)
    assert gate(old, new, labels).passed
    assert not gate(old, new, labels, min_gain=0.05).passed
    assert "0.05 are asked for" in gate(old, new, labels, min_gain=0.05).why


def test_a_stricter_alpha_asks_for_more():
    labels, old, new = world(400, (0.8, 0.86), seed=3)
    assert gate(old, new, labels, alpha=0.2).passed
    assert not gate(old, new, labels, alpha=1e-6).passed


def test_few_rows_pass_by_the_exact_test_alone():
    """Four rows that differ, all for the new model: the bootstrap is sure, a coin is not."""
    truth = ["yes"] * 60
    old, new = np.full(60, 0.9), np.full(60, 0.9)
    old[:4] = 0.1
    found = gate(answers(old), answers(new), truth)
    assert not found.passed
    assert found.p == 1 / 16
    old[:8] = 0.1
    assert gate(answers(old), answers(new), truth).passed


def test_a_class_that_the_old_model_does_not_know_is_its_mistake():
    three = Target("classes", ("y",), ("a", "b", "c"))
    two = Target("classes", ("y",), ("a", "b"))
    labels = ["a"] * 30 + ["c"] * 30
    old = Answered(two, pa.table({"prediction": ["a"] * 60, "probability_a": [0.9] * 60, "probability_b": [0.1] * 60}))
    knows = {"prediction": ["a"] * 30 + ["c"] * 30, "probability_a": [0.8] * 60, "probability_b": [0.1] * 60, "probability_c": [0.1] * 60}
    found = gate(old, Answered(three, pa.table(knows)), labels)
    assert found.passed
    assert (found.champion, found.candidate) == (0.5, 1.0)


@pytest.mark.parametrize("metric", ["mae", "mse"])
def test_errors_of_numbers(metric):
    draw = np.random.default_rng(0)
    truth = draw.normal(size=1500)
    old, new = (Answered(VALUES, pa.table({"prediction": truth + draw.normal(0, wide, 1500)})) for wide in (1.0, 0.7))
    found = gate(old, new, truth.tolist(), metric)
    assert found.passed
    assert found.candidate < found.champion
    assert not gate(old, new, truth.tolist(), metric, min_gain=0.9).passed  # a share of what it was


def test_goodness_is_higher_for_better_answers():
    labels, old, new = world(2000, (0.6, 0.9), seed=4)
    for metric in ("accuracy", "auc", "log_loss"):
        assert goodness(new, labels, metric).mean() > goodness(old, labels, metric).mean()
    truth = [1.0, 2.0]
    near, far = (Answered(VALUES, pa.table({"prediction": [1.0 + wide, 2.0]})) for wide in (0.1, 3.0))
    assert goodness(near, truth, "mae")[0] > goodness(far, truth, "mae")[0]
