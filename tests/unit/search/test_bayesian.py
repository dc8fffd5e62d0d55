import math

import pytest

from deepseek.errors import InputError, RunError
from deepseek.optim import BayesianOptimizer
from deepseek.search import BayesianOptimizer as TheSame

pytest.importorskip("optuna")

PARAM_SPACE = {"learning_rate": (1e-5, 1e-2), "batch_size": [32, 64, 128], "dropout": (0.1, 0.5)}


def loss(params):
    return (math.log10(params["learning_rate"]) + 3) ** 2 + (params["batch_size"] != 64) + abs(params["dropout"] - 0.3)


def test_the_snippet():
    result = BayesianOptimizer(param_space=PARAM_SPACE, max_evals=50).minimize(loss)
    assert len(result.trials) == 50
    assert result.best_value == loss(result.best_params) < 0.3
    assert result.best_params["batch_size"] == 64
    best_params, best_value = result
    assert (best_params, best_value) == (result.best_params, result.best_value)
    assert "50 trials" in repr(result)
    assert set(result.importance) == set(PARAM_SPACE)


def test_it_is_one_class_under_two_names():
    assert TheSame is BayesianOptimizer


def test_maximize_is_minimize_of_the_negative():
    up = BayesianOptimizer(PARAM_SPACE, 15, seed=3).maximize(lambda params: -loss(params))
    down = BayesianOptimizer(PARAM_SPACE, 15, seed=3).minimize(loss)
    assert (up.best_params, up.best_value) == (down.best_params, -down.best_value)


def test_the_objective_may_change_its_dictionary():
    result = BayesianOptimizer(PARAM_SPACE, 3).minimize(lambda params: params.pop("dropout"))
    assert "dropout" in result.best_params


def test_one_evaluation_and_equal_values_have_no_importance():
    assert BayesianOptimizer(PARAM_SPACE, 1).minimize(loss).importance == {}
    assert BayesianOptimizer(PARAM_SPACE, 3).minimize(lambda params: 1.0).importance == {}


def test_failures_are_recorded():
    def sometimes(params):
        if params["batch_size"] == 32:
            raise MemoryError("too large")
        return loss(params)

    result = BayesianOptimizer(PARAM_SPACE, 20, search="random").minimize(sometimes)
    failed = [trial for trial in result.trials if trial.state == "failed"]
    assert failed
    assert all(trial.error == "MemoryError: too large" and trial.parameters["batch_size"] == 32 for trial in failed)


def test_an_objective_that_never_works_is_an_error():
    with pytest.raises(RunError, match="KeyError: 'lr'"):
        BayesianOptimizer(PARAM_SPACE, 20).minimize(lambda params: params["lr"])


def test_it_goes_on_in_its_storage(tmp_path):
    BayesianOptimizer(PARAM_SPACE, 5, storage=tmp_path / "s.db").minimize(loss)
    seen = []
    BayesianOptimizer(PARAM_SPACE, 8, storage=tmp_path / "s.db").minimize(lambda params: seen.append(1) or loss(params))
    assert len(seen) == 3


def test_a_wrong_space_is_refused_at_once():
    with pytest.raises(InputError, match=r"^dropout: "):
        BayesianOptimizer(param_space={"dropout": (0.5, 0.1)})
