"""How often a model that is no better passes the gate, where rows are few and mistakes rare."""

import json

import numpy as np
import pyarrow as pa
import pytest

from deepseek.monitoring.outcomes import Target
from deepseek.pipeline.closed_loop.gate import Answered, judge
from deepseek.pipeline.closed_loop.policy import after_verdict

BINARY = Target("binary", ("y",), ("no", "yes"))
VALUES = Target("values", ("y",))
NAMES = np.array(["no", "yes"])
ALPHA = 0.025
"""What the first model of a round may pass by where nothing else is asked for."""


def answers(yes):
    return Answered(BINARY, pa.table({"prediction": NAMES[(yes > 0.5) * 1], "probability_no": 1 - yes, "probability_yes": yes}))


def passes(worlds, metric):
    found = [judge(old, new, labels, metric=metric, min_gain=0.0, alpha=ALPHA).passed for old, new, labels in worlds]
    return np.mean(found)


def limit(count):
    """Return above which share of passes a gate that holds comes once in a thousand times."""
    return ALPHA + 3.1 * np.sqrt(ALPHA * (1 - ALPHA) / count)


def overconfident(rows, count):
    """A model that is surer than the old one on every row, and so much worse on 1.6 % of them that it is as good as the old one."""
    old, new = 0.96, 0.9955
    gain, loss = np.log(new / old), np.log((1 - old) / (1 - new))
    draw = np.random.default_rng(rows)
    for _ in range(count):
        labels = NAMES[(draw.random(rows) >= gain / (gain + loss)) * 1].tolist()
        yield answers(np.full(rows, old)), answers(np.full(rows, new)), labels


def strangers(rows, count):
    """A model that is a bit surer than the old one, and takes 3 % of rows, a kind that the others tell nothing of, for their opposite."""
    old, new, astray = 0.9, 0.9 * np.exp(0.05), 0.9 * np.exp(-0.05 * 0.97 / 0.03)
    draw = np.random.default_rng(rows)
    for _ in range(count):
        said = np.where(draw.random(rows) < 0.03, astray, new)
        yield answers(np.full(rows, old)), answers(said), ["yes"] * rows


def outliers(rows, count):
    """A model of numbers that is a bit nearer on every row but for 3 %, on which it is far off; as good as the old one."""
    draw = np.random.default_rng(rows)
    for _ in range(count):
        truth = draw.uniform(-10, 10, rows)
        wrong = draw.random(rows) < 0.03
        off = np.where(wrong, 1.0 + 0.1 * 0.97 / 0.03, 0.9) * np.sign(-truth)
        old, new = (Answered(VALUES, pa.table({"prediction": truth + by})) for by in (np.sign(-truth), off))
        yield old, new, truth.tolist()


def rank_upside_down(rows, positives, count):
    """A model that ranks all rows right but for one of twenty positives, which it ranks last; the old one's area is 0.95 too."""
    draw = np.random.default_rng(rows + positives)
    truth = np.arange(rows) < positives
    for _ in range(count):
        old = draw.normal(size=rows) + 2.3262 * truth
        new = draw.normal(size=rows) * 0.01 + np.where(truth & (draw.random(rows) < 0.05), -1.0, truth)
        yield answers(1 / (1 + np.exp(-old))), answers(1 / (1 + np.exp(-new))), NAMES[truth * 1].tolist()


def by_chance(rows, positives, count):
    """Two models that are equally good, each by itself."""
    draw = np.random.default_rng(rows + positives)
    truth = np.arange(rows) < positives
    for _ in range(count):
        yield *(answers(1 / (1 + np.exp(-draw.normal(size=rows) - truth))) for _ in range(2)), NAMES[truth * 1].tolist()


@pytest.mark.parametrize("rows", [50, 100, 200])
def test_rare_and_grave_mistakes_that_no_row_shows_are_reckoned_with(rows):
    assert passes(overconfident(rows, 100), "log_loss") <= limit(100)
    assert passes(strangers(rows, 100), "log_loss") <= limit(100)
    assert passes(outliers(rows, 100), "mae") <= limit(100)


@pytest.mark.parametrize(("rows", "positives"), [(60, 2), (60, 5), (60, 10), (200, 20)])
def test_areas_of_few_rows_of_a_class_are_no_proof(rows, positives):
    assert passes(by_chance(rows, positives, 100), "auc") <= limit(100)
    assert passes(rank_upside_down(rows, positives, 100), "auc") <= limit(100)


def test_what_is_better_passes_all_the_same():
    draw = np.random.default_rng(0)
    truth = draw.random(400) < 0.2
    old, new = (answers(1 / (1 + np.exp(-draw.normal(size=400) - far * (truth - 0.5)))) for far in (0.5, 3.0))
    labels = NAMES[truth * 1].tolist()
    for metric in ("auc", "log_loss"):
        assert judge(old, new, labels, metric=metric, min_gain=0.0, alpha=ALPHA).passed


@pytest.mark.parametrize("positives", [0, 1, 9])
def test_too_few_rows_of_a_class_are_waited_for(positives):
    ((old, new, labels),) = by_chance(60, positives, 1)
    found = judge(old, new, labels, metric="auc", min_gain=0.0, alpha=ALPHA)
    assert (found.passed, found.gain, found.low) == (False, None, None)
    assert f"{positives} of 60 rows are of the rarer class" in found.why
    assert after_verdict(found.passed, found.gain, 1) == "unsure"
    assert "NaN" not in json.dumps(found.to_json())


@pytest.mark.parametrize("metric", ["log_loss", "auc"])
def test_labels_that_no_model_knows_prove_nothing(metric):
    ((old, new, _),) = by_chance(60, 30, 1)
    found = judge(old, new, ["maybe"] * 60, metric=metric, min_gain=0.0, alpha=ALPHA)
    assert (found.passed, found.gain, found.rows) == (False, None, 0)
    assert "none of 60 rows has a label that both models know" in found.why


@pytest.mark.parametrize("metric", ["mae", "mse"])
def test_numbers_of_several_columns_are_judged(metric):
    target = Target("values", ("a", "b"))
    truth = np.random.default_rng(0).normal(size=(300, 2))
    old, new = (Answered(target, pa.table({"prediction_a": truth[:, 0] + off, "prediction_b": truth[:, 1] - off})) for off in (1.0, 0.2))
    assert judge(old, new, truth.tolist(), metric=metric, min_gain=0.0, alpha=ALPHA).passed
    assert not judge(new, old, truth.tolist(), metric=metric, min_gain=0.0, alpha=ALPHA).passed
