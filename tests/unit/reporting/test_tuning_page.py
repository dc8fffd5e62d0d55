"""The page of a search."""

from __future__ import annotations

from deepseek.reporting.tuning import render

TABM = {"type": "tabm", "width": 8}


def row(number, value, state="complete", error=None, **parameters):
    return {"number": number, "state": state, "value": value, "parameters": parameters, "seconds": 1.5, "steps": 10, "error": error}


def facts(trials, **changes):
    given = {
        "name": "churn<b>", "metric": "auc", "direction": "maximize", "trials": trials,
        "best": trials[min(1, len(trials) - 1)], "gain": 0.05,
        "space": {"train.learning_rate": {"low": 1e-4, "high": 0.1, "log": True}, "model": {"choices": ["mlp", TABM]}},
        "search": {"type": "tpe"}, "pruner": {"type": "median"}, "importance": {"train.learning_rate": 0.8, "model": 0.2},
        "metrics": {"validation": {"auc": 0.9}, "test": {"auc": 0.87}}, "seconds": 61.0,
    }  # fmt: skip
    return {**given, **changes}


TRIALS = [
    row(0, 0.85),
    row(1, 0.9, **{"train.learning_rate": 0.01, "model": {"type": "tabm", "width": 8}}),
    row(2, 0.8, **{"train.learning_rate": 0.02, "model": "mlp"}),
    row(3, None, "failed", "NonFiniteError: the loss\nmore", **{"train.learning_rate": 0.1, "model": "mlp"}),
]


def test_the_page_says_what_came_of_the_search():
    page = render(facts(TRIALS))
    for words in (
        "Trial by trial",
        "Importance",
        "tabm (width 8)",
        "0.87",
        "NonFiniteError: the loss",
        "better by 0.05",
        "3 complete, 1 failed",
    ):
        assert words in page
    assert "churn<b>" not in page


def test_a_search_without_importance_or_a_better_trial_has_a_page_too():
    page = render(facts([row(0, 0.85)], gain=0.0, importance={}, metrics={"validation": {"auc": 0.85}, "test": None}))
    assert "The recipe as it was is the best of them" in page
    assert "Importance" not in page
